"""Benchmark suites: one file measures one thing."""
