"""Models larger than memory: weights are read from disk during the forward pass."""

from qwen3lab.streaming.streamed_model import bytes_of, least_memory, open_streamed

__all__ = ["bytes_of", "least_memory", "open_streamed"]
