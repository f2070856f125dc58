"""Faster decoding steps: captured as CUDA graphs on a GPU, compiled on a CPU."""

from qwen3lab.acceleration.compiled_decoder import CompiledDecoder
from qwen3lab.acceleration.cuda_graph_decoder import CudaGraphDecoder

__all__ = ["CompiledDecoder", "CudaGraphDecoder"]
