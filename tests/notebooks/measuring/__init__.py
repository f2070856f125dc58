"""Measures the workbench in a real browser: time, messages and memory of what people do.

`python -m tests.notebooks.measuring` prints a table, and writes the values as JSON. Nothing here is
a test: times depend on the machine.
"""
