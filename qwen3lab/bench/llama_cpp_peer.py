"""llama.cpp, through llama-cpp-python, on the weights of a folder."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.bench.gguf_checkpoint import write_gguf
from qwen3lab.errors import BenchError

PACKAGES = {"llama_cpp": "llama-cpp-python", "gguf": "gguf"}
MAX_BATCH = 512
"""Tokens that llama.cpp computes at once; its own default."""


def require_llama_cpp() -> None:
    """Check that the packages are installed.

    Raises:
        BenchError: one is not.
    """
    missing = [package for module, package in PACKAGES.items() if find_spec(module) is None]
    if missing:
        names = " ".join(missing)
        raise BenchError(
            f"the suite llama needs {' and '.join(missing)}: pip install {names} (it compiles "
            "llama.cpp, for the instructions of this processor, in some minutes)"
        )


class LlamaCpp:
    """llama.cpp with weights of one type; a context manager that frees them.

    Args:
        folder: the checkpoint, of a dense model.
        file: where the GGUF file is written.
        kind: type of the matrices: "F32", "BF16" or "Q8_0". With "F32", keys and values are cached
            in float32 (0 in ggml), else in float16.
        threads: number of threads, for prompts and for decoding.
        capacity: the most tokens of a text.
    """

    def __init__(self, folder: Path, file: Path, kind: str, *, threads: int, capacity: int) -> None:
        self.library: Any = import_module("llama_cpp")  # Any: an optional package.
        write_gguf(folder, file, kind)
        self.llama = self.library.Llama(
            str(file),
            n_ctx=capacity,
            n_batch=MAX_BATCH,
            n_threads=threads,
            n_threads_batch=threads,
            n_gpu_layers=0,
            **({"type_k": 0, "type_v": 0} if kind == "F32" else {}),
            verbose=False,
        )

    def __enter__(self) -> "LlamaCpp":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.llama.close()

    def forward(self, ids: list[int]) -> Float[Tensor, " vocab"]:
        """Logits after a prompt."""
        self.llama.reset()
        self.llama.eval(ids)
        return self._logits()

    def decode(self, ids: list[int], n: int) -> list[int]:
        """The tokens that follow a prompt, greedily."""
        tokens, logits = [], self.forward(ids)
        while True:
            tokens.append(int(logits.argmax()))
            if len(tokens) == n:
                return tokens
            self.llama.eval(tokens[-1:])
            logits = self._logits()

    def _logits(self) -> Float[Tensor, " vocab"]:
        """Of the last token; a view, valid until the next pass."""
        values = self.library.llama_get_logits_ith(self.llama.ctx, -1)
        array: Any = import_module("numpy").ctypeslib.as_array(values, (self.llama.n_vocab(),))
        return torch.from_numpy(array)
