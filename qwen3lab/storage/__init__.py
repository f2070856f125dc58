"""Files that are written completely or not at all, and files that grow line by line."""

from qwen3lab.storage.atomic_files import whole_file, write_text
from qwen3lab.storage.jsonl_store import Store, digest
from qwen3lab.storage.line_files import append_lines, drop_partial_line, read_lines

__all__ = [
    "Store",
    "append_lines",
    "digest",
    "drop_partial_line",
    "read_lines",
    "whole_file",
    "write_text",
]
