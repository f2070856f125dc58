"""A streamed model, compared with the same model loaded in memory and with reading its files.

Each measurement runs in a new process, so that its peak memory contains nothing else.
"""

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from tqdm.auto import tqdm

from qwen3lab.bench.fresh_process import in_fresh_process
from qwen3lab.bench.measuring import machine, on_threads
from qwen3lab.bench.memory import peak_bytes, start_counting
from qwen3lab.bench.peers import greedy
from qwen3lab.bench.plan import PROMPT_TO_DECODE, BenchPlan, check_memory, shape_of, weights_of
from qwen3lab.bench.report import OURS, Measurement, Report
from qwen3lab.bench.sparse_checkpoint import write_sparse
from qwen3lab.checkpoints.safetensors_reader import CheckpointReader
from qwen3lab.checkpoints.tensor_names import OUTSIDE_BLOCKS
from qwen3lab.errors import BenchError
from qwen3lab.loading import load_model
from qwen3lab.model.transformer import Qwen3

READING = "reading the files"
LOADED = "loaded in memory"
READ_BUFFER_BYTES = 2**24
MAX_LOGIT_DIFFERENCE = 1e-3
"""Largest accepted difference between streamed and loaded logits, relative to the largest logit."""

NOTE = (
    "The files are dropped from the page cache before each measurement. 'reading the files' reads "
    "all files once, in chunks of 16 MiB. Memory: peak of the process above its memory before "
    "loading the model, including pages that are mapped from a file."
)


@dataclass(frozen=True)
class Pass:
    """One run in a new process: load a model, run a prompt, decode a reply.

    Attributes:
        opening: seconds for loading the model.
        seconds: seconds of the forward pass.
        n_bytes: bytes of weights that the forward pass read from the disk; 0 if not known.
        peak: peak memory above the memory at the start, in bytes; None if not known.
        logits: logits of the last position.
        reply: decoding speed in tokens per second; empty without a reply.
        read: bytes of weights that decoding read from the disk, divided by the bytes it used.
    """

    opening: float
    seconds: float
    n_bytes: int
    peak: int | None
    logits: list[float]
    reply: tuple[float, ...] = ()
    read: float = 0.0


def run_stream(
    plan: BenchPlan, *, memory: str, sparse: bool = False, progress: bool = True
) -> Report:
    """Measure time and memory of a forward pass and a reply of a streamed model.

    Args:
        plan: the model or shape; uses the first number of tokens, decode, repeats, threads,
            device and dtype.
        memory: memory for weights, such as "8GB".
        sparse: use sparse files of zeros for a shape, so that any shape fits on the disk. The
            times then do not include disk reads, and there is neither a reply nor a comparison
            with the model loaded in memory.
        progress: show a bar.

    Raises:
        BenchError: the logits of the streamed and the loaded model differ, the memory is too
            small, or `sparse` is given with a model.
        CheckpointError: `memory` is not a size.
    """
    check_stream(plan, memory=memory, sparse=sparse)
    tokens = plan.tokens[0]
    with on_threads(plan.threads) as threads, _weights_folder(plan, sparse) as folder:
        sides = [OURS, READING] if sparse else [OURS, LOADED, READING]
        n_reply = 0 if sparse else plan.decode  # Zero weights route all tokens to the same experts.
        passes: dict[str, list[Pass]] = {side: [] for side in sides}
        with tqdm(total=plan.repeats * len(sides), disable=not progress) as bar:
            for _ in range(plan.repeats):
                for side in sides:
                    bar.set_description(side)
                    _drop_page_cache(folder)
                    passes[side].append(
                        alone(side, folder, replace(plan, threads=threads), memory, reply=n_reply)
                    )
                    bar.update()
    gap = _gap(passes)
    seconds = {
        side: tuple(run.opening + run.seconds for run in runs)
        for side, runs in passes.items()
        if side != READING
    }
    replies = {
        side: tuple(rate for run in runs for rate in run.reply)
        for side, runs in passes.items()
        if side != READING
    }
    rates = {
        side: tuple(run.n_bytes / 1e6 / run.seconds for run in runs)
        for side, runs in passes.items()
        if side != LOADED
    }
    peaks = {
        side: tuple(run.peak / 2**20 for run in runs if run.peak is not None)
        for side, runs in passes.items()
        if side != READING
    }
    rows = [
        Measurement("loading and first forward pass", tokens, "s", seconds),
        Measurement("reading weights of blocks", tokens, "MB/s", rates),
        Measurement("memory", tokens, "MiB", peaks),
    ]
    notes = [NOTE]
    if n_reply:
        rows.insert(2, Measurement("reply", n_reply, "tokens/s", replies))
        read = statistics.median(run.read for run in passes[OURS])
        notes.append(f"For the reply, {read:.0%} of the block weights used came from the disk.")
    title = f"{plan.title} in {plan.dtype}, streamed within {memory}"
    agreement = (
        "The logits are not compared with those of a model loaded in memory."
        if sparse
        else f"The logits of both agree; largest difference {gap:.1e} of the largest logit."
    )
    return Report(title, machine(plan, threads), agreement, gap, rows, notes=tuple(notes))


def check_stream(plan: BenchPlan, *, memory: str, sparse: bool = False) -> None:
    """Check the arguments of `run_stream` before any suite runs.

    Raises:
        BenchError: the memory is too small, or `sparse` is given with a model.
        CheckpointError: `memory` is not a size.
    """
    if sparse and plan.model is not None:
        raise BenchError(
            f"sparse files replace random weights, but {plan.model} has weights of its own: leave "
            "out --sparse or --model"
        )
    check_memory([plan], memory)


@contextmanager
def _weights_folder(plan: BenchPlan, sparse: bool) -> Iterator[Path]:
    if not sparse:
        with weights_of(plan) as folder:
            yield folder
        return
    with TemporaryDirectory(prefix="qwen3lab-bench-") as folder:
        write_sparse(shape_of(plan), Path(folder))
        yield Path(folder)


def _gap(passes: dict[str, list[Pass]]) -> float:
    """The largest difference between the streamed and the loaded model's last logits."""
    if LOADED not in passes:
        return 0.0
    streamed, loaded = (torch.tensor(passes[side][0].logits) for side in (OURS, LOADED))
    gap = float((streamed - loaded).abs().max() / loaded.abs().max())
    if not gap <= MAX_LOGIT_DIFFERENCE:
        raise BenchError(
            f"the logits of the streamed and the loaded model differ by {gap:.1e} of the largest "
            f"logit, above {MAX_LOGIT_DIFFERENCE:.0e}"
        )
    return gap


def alone(side: str, folder: Path, plan: BenchPlan, memory: str, *, reply: int = 0) -> Pass:
    """One run of a side in a new process.

    Args:
        side: `OURS` (streamed), `LOADED` or `READING`.
        folder: folder of the weights.
        plan: uses the first number of tokens, threads, device and dtype.
        memory: memory for the weights of the streamed model.
        reply: number of tokens to decode after the prompt.
    """
    if side == READING:
        return in_fresh_process(_read_files, folder)
    limit = memory if side == OURS else None
    return in_fresh_process(_run_model, folder, plan, limit, reply)


def _run_model(folder: Path, plan: BenchPlan, memory: str | None, reply: int) -> Pass:
    with on_threads(plan.threads), torch.no_grad():
        before, begin = start_counting(plan.device), time.perf_counter()
        model = load_model(folder, device=plan.device, dtype=plan.dtype, memory=memory)
        ids = torch.arange(plan.tokens[0], device=plan.device)[None] % model.config.d_vocab
        start = time.perf_counter()
        logits = model(ids, last_only=True)[0, -1].float().tolist()
        seconds, n_bytes = time.perf_counter() - start, _read_bytes(model, folder)
        rates, read = _reply(model, ids[:, :PROMPT_TO_DECODE], reply) if reply else ((), 0.0)
        peak = peak_bytes(plan.device)
    extra = None if before is None or peak is None else peak - before
    return Pass(start - begin, seconds, n_bytes, extra, logits, rates, read)


def _reply(model: Qwen3, ids: Tensor, n: int) -> tuple[tuple[float, ...], float]:
    """Tokens per second after the first, and the share of the weights' bytes that were read."""
    written = greedy(model, ids, n + 1)
    next(written)
    blocks = model.blocks
    read, used = blocks.bytes_read, blocks.bytes_used
    start = time.perf_counter()
    count = sum(1 for _ in written)
    rate = count / (time.perf_counter() - start)
    share = (blocks.bytes_read - read) / (blocks.bytes_used - used) if blocks.is_streamed else 0.0
    return (rate,), share


def _read_bytes(model: Qwen3, folder: Path) -> int:
    """Bytes that a streamed model has read from its files for its blocks."""
    stored = CheckpointReader(folder).dtype(OUTSIDE_BLOCKS["embed.weight"])
    return model.blocks.bytes_read * stored.itemsize // model.dtype.itemsize


def _read_files(folder: Path) -> Pass:
    """Read all weight files once, into one buffer."""
    buffer, n_bytes = bytearray(READ_BUFFER_BYTES), 0
    start = time.perf_counter()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb", buffering=0) as file:
            while n_read := file.readinto(buffer):
                n_bytes += n_read
    return Pass(0.0, time.perf_counter() - start, n_bytes, None, [])


def _drop_page_cache(folder: Path) -> None:
    """Drop the weight files from the page cache, if the system supports `posix_fadvise`."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
