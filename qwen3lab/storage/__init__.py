"""Files that are written whole or not at all, and files that grow line by line."""

from qwen3lab.storage.atomic_files import whole_file
from qwen3lab.storage.jsonl_store import Store, digest

__all__ = ["Store", "digest", "whole_file"]
