"""Formats of quantised checkpoints, one file each: how a matrix is stored and decoded."""
