"""The settings of a benchmark, the weights that it uses, and the check of its memory."""

import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from qwen3lab.bench.random_checkpoint import write_random
from qwen3lab.checkpoints.folders import find_folder
from qwen3lab.config.catalog import PUBLISHED
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.device.dtypes import DTYPES
from qwen3lab.errors import BenchError
from qwen3lab.streaming.streamed_model import bytes_of, least_memory

PROMPT_TO_DECODE = 16
"""Length of the prompt before timed decoding: short, so that prefill takes little of the time."""


@dataclass(frozen=True)
class BenchPlan:
    """The settings of a benchmark.

    Attributes:
        model: an embedded model, a folder or a hub id; None for random weights of a shape.
        shape: shape of the random weights: a model of the catalog, such as "qwen3-0.6b".
        layers: number of layers of the shape to keep; None for all.
        tokens: lengths of the prompts.
        decode: number of tokens to generate.
        repeats: number of timed runs of each case.
        threads: number of CPU threads; None for torch's default.
        device: such as "cpu" or "cuda".
        dtype: "float32", "bfloat16" or "float16".

    Raises:
        BenchError: a value is invalid, or the device is not available.
    """

    model: str | None = None
    shape: str = "qwen3-0.6b"
    layers: int | None = 4
    tokens: tuple[int, ...] = (512,)
    decode: int = 32
    repeats: int = 5
    threads: int | None = None
    device: str = "cpu"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        counts: dict[str, int | None] = {"repeats": self.repeats, "decode": self.decode}
        counts |= {"threads": self.threads, "layers": self.layers}
        for name, value in counts.items():
            if value is not None and value < 1:
                raise BenchError(f"{name} is {value}: expected 1 or more")
        if not self.tokens or min(self.tokens) < 1:
            raise BenchError(f"tokens is {self.tokens}: expected lengths such as 512,1024")
        if self.dtype not in DTYPES:
            raise BenchError(f"dtype {self.dtype!r} is unknown: choose from {', '.join(DTYPES)}")
        if _device_type(self.device) == "cuda" and not torch.cuda.is_available():
            raise BenchError("there is no CUDA device here: use --device cpu")

    @property
    def title(self) -> str:
        """The model, or the shape with its number of layers, for titles."""
        if self.model is not None:
            return self.model
        layers = {None: "all layers", 1: "1 layer"}.get(self.layers, f"{self.layers} layers")
        return f"random weights of {self.shape}, {layers}"


@contextmanager
def weights_of(plan: BenchPlan) -> Iterator[Path]:
    """The folder with the weights; random weights are in a temporary folder."""
    if plan.model is not None:
        yield find_folder(plan.model)
        return
    config = shape_of(plan)
    with TemporaryDirectory(prefix="qwen3lab-bench-") as folder:
        needed = config.n_params * DTYPES[plan.dtype].itemsize
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise BenchError(
                f"{plan.title} need {needed / 1e9:.0f} GB in {plan.dtype}, but {folder} has "
                f"{free / 1e9:.0f} GB free: keep fewer layers, or set TMPDIR to a larger disk"
            )
        write_random(config, Path(folder), device=plan.device, dtype=DTYPES[plan.dtype])
        yield Path(folder)


def shape_of(plan: BenchPlan) -> Qwen3Config:
    """The configuration of the plan's shape, with the plan's number of layers.

    Raises:
        BenchError: the catalog has no such shape.
    """
    known = {_short(name): config for name, config in PUBLISHED.items()}
    config = known.get(_short(plan.shape))
    if config is None:
        raise BenchError(f"shape {plan.shape!r} is unknown: choose from {', '.join(known)}")
    if plan.layers is None or plan.layers >= config.n_layers:
        return config
    moe_layers = tuple(layer for layer in config.moe_layers if layer < plan.layers)
    return replace(config, n_layers=plan.layers, moe_layers=moe_layers)


def check_memory(plans: Sequence[BenchPlan], memory: str) -> None:
    """Check that the models of all plans can be streamed within this memory.

    Args:
        plans: plans of models or shapes.
        memory: memory for the weights of each, such as "8GB".

    Raises:
        BenchError: it is too small for one of them; the message says how much suffices for all.
        CheckpointError: `memory` is not a size.
    """
    available = bytes_of(memory)
    needed, largest = max(((_least_memory(plan), plan) for plan in plans), key=itemgetter(0))
    if available < needed:
        raise BenchError(
            f"memory is {memory}, but streaming {largest.title} in {largest.dtype} needs "
            f"{math.ceil(needed / 1e7) / 100:.2f} GB: give more memory, or use a smaller dtype"
        )


def _least_memory(plan: BenchPlan) -> int:
    model = plan.model
    config = shape_of(plan) if model is None else Qwen3Config.from_file(find_folder(model))
    return least_memory(config, DTYPES[plan.dtype])


def _device_type(device: str) -> str:
    try:
        return torch.device(device).type
    except RuntimeError as error:
        raise BenchError(f"device {device!r} is unknown: use one such as cpu or cuda") from error


def _short(name: str) -> str:
    return name.rpartition("/")[2].lower()


SHAPES = tuple(map(_short, PUBLISHED))
"""Names of the published shapes."""
