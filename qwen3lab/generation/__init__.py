"""Text generation: sampling, decoding and control of the thinking."""

from qwen3lab.generation.decoding import DecodingStep, Guide, decode
from qwen3lab.generation.reply import Chat, ChatStep, Generation
from qwen3lab.generation.sampling import Sampler, Sampling
from qwen3lab.generation.thinking_control import Extension, ReplyGuide, Steering

__all__ = [
    "Chat",
    "ChatStep",
    "DecodingStep",
    "Extension",
    "Generation",
    "Guide",
    "ReplyGuide",
    "Sampler",
    "Sampling",
    "Steering",
    "decode",
]
