"""The forward pass of Qwen3, from scratch, and the key/value cache that it writes to."""

from qwen3lab.model.batching import pad_left
from qwen3lab.model.kv_cache import KVCache
from qwen3lab.model.normalisation import RMSNorm
from qwen3lab.model.transformer import MLP, Attention, Block, Experts, Qwen3

__all__ = ["MLP", "Attention", "Block", "Experts", "KVCache", "Qwen3", "RMSNorm", "pad_left"]
