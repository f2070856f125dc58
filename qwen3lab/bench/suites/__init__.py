"""Benchmark suites, one per file.

The public functions are `run` in `side_by_side` and the `run_*` functions of the other files;
`qwen3lab.bench` exports them. All other names are internal.
"""
