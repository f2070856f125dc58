"""A model that is streamed from its files, beside reading those files, and beside the whole model.

Every measurement is made in a process of its own, so that its peak memory is its own, too.
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
from qwen3lab.checkpoints.tensor_names import OUTSIDE_BLOCKS
from qwen3lab.errors import BenchError
from qwen3lab.loading import load_model
from qwen3lab.model.transformer import Qwen3
from qwen3lab.streaming.streamed_model import StreamedBlocks

READING = "reading the files"
WHOLE = "loaded whole"
CHUNK = 2**24
NOTE = (
    "The disk's cache is emptied before every measurement. Reading goes through all files once, "
    "16 MiB at a time. Memory is the process' peak above what it had before it opened the model; "
    "pages that stay mapped from a file count."
)


@dataclass(frozen=True)
class Pass:
    """One run of a prompt through a model that has just been opened.

    Attributes:
        opening: seconds until the model was open.
        seconds: of the forward pass.
        n_bytes: of weights that the pass read from the disk; 0 if that is not known.
        peak: bytes, at most, above what the process began with; None where no one can tell.
        logits: the last position's.
        reply: tokens per second after it, or nothing.
        read: bytes that the reply read again, for each that it used.
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
    """Time a forward pass and a reply of a streamed model, and measure its memory.

    Args:
        plan: the model or shape; its first number of tokens, the tokens to decode, repeats,
            threads, device and dtype.
        memory: for weights, such as "8GB".
        sparse: for a shape: files of zeros that take no room, so that any shape fits on the disk.
            Reading them costs no disk time.
        progress: show a bar.

    Raises:
        BenchError: the streamed model and the whole one do not compute the same; or what
            `check_stream` refuses.
        CheckpointError: the memory is no size.
    """
    check_stream(plan, memory=memory, sparse=sparse)
    tokens = plan.tokens[0]
    with on_threads(plan.threads) as threads, _folder(plan, sparse) as folder:
        sides = [OURS, READING] if sparse else [OURS, WHOLE, READING]
        n_reply = 0 if sparse else plan.decode  # Zeros would all go to the same experts.
        found: dict[str, list[Pass]] = {side: [] for side in sides}
        with tqdm(total=plan.repeats * len(sides), disable=not progress) as bar:
            for _ in range(plan.repeats):
                for side in sides:
                    bar.set_description(side)
                    _forget(folder)
                    found[side].append(
                        alone(side, folder, replace(plan, threads=threads), memory, reply=n_reply)
                    )
                    bar.update()
    gap = _gap(found)
    seconds = {
        side: tuple(run.opening + run.seconds for run in runs)
        for side, runs in found.items()
        if side != READING
    }
    replies = {
        side: tuple(rate for run in runs for rate in run.reply)
        for side, runs in found.items()
        if side != READING
    }
    rates = {
        side: tuple(run.n_bytes / 1e6 / run.seconds for run in runs)
        for side, runs in found.items()
        if side != WHOLE
    }
    peaks = {
        side: tuple(run.peak / 2**20 for run in runs if run.peak is not None)
        for side, runs in found.items()
        if side != READING
    }
    rows = [
        Measurement("opening and first pass", tokens, "s", seconds),
        Measurement("blocks from the disk", tokens, "MB/s", rates),
        Measurement("memory", tokens, "MiB", peaks),
    ]
    notes = [NOTE]
    if n_reply:
        rows.insert(2, Measurement("reply", n_reply, "tokens/s", replies))
        read = statistics.median(run.read for run in found[OURS])
        notes.append(f"For the reply, {read:.0%} of the weights in its blocks were read anew.")
    title = f"{plan.title} in {plan.dtype}, streamed within {memory}"
    agreement = (
        "There was no whole model to compare with."
        if sparse
        else f"Both give the same logits: largest gap {gap:.1e} of the largest logit."
    )
    return Report(title, machine(plan, threads), agreement, gap, rows, notes=tuple(notes))


def check_stream(plan: BenchPlan, *, memory: str, sparse: bool = False) -> None:
    """See that `run_stream` can begin, before it or anything else does work.

    Raises:
        BenchError: the memory is too little, or a model is to be sparse.
        CheckpointError: the memory is no size.
    """
    if sparse and plan.model is not None:
        raise BenchError(
            f"sparse files are made for shapes, and {plan.model} has files of its own: leave out "
            "--sparse or --model"
        )
    check_memory([plan], memory)


@contextmanager
def _folder(plan: BenchPlan, sparse: bool) -> Iterator[Path]:
    if not sparse:
        with weights_of(plan) as folder:
            yield folder
        return
    with TemporaryDirectory(prefix="qwen3lab-bench-") as folder:
        write_sparse(shape_of(plan), Path(folder))
        yield Path(folder)


def _gap(found: dict[str, list[Pass]]) -> float:
    """The last position's logits, streamed and whole."""
    if WHOLE not in found:
        return 0.0
    mine, theirs = (torch.tensor(found[side][0].logits) for side in (OURS, WHOLE))
    gap = float((mine - theirs).abs().max() / theirs.abs().max())
    if not gap <= 1e-3:
        raise BenchError(f"streamed and whole model disagree by {gap:.1e} of the largest logit")
    return gap


def alone(side: str, folder: Path, plan: BenchPlan, memory: str, *, reply: int = 0) -> Pass:
    """A run of one side in a fresh process: a prompt, then so many tokens of a reply."""
    if side == READING:
        return in_fresh_process(_reading, folder)
    given = memory if side == OURS else None
    return in_fresh_process(_passing, folder, plan, given, reply)


def _passing(folder: Path, plan: BenchPlan, memory: str | None, reply: int) -> Pass:
    with on_threads(plan.threads), torch.no_grad():
        before, began = start_counting(plan.device), time.perf_counter()
        model = load_model(folder, device=plan.device, dtype=plan.dtype, memory=memory)
        ids = torch.arange(plan.tokens[0], device=plan.device)[None] % model.config.d_vocab
        start = time.perf_counter()
        logits = model(ids, last_only=True)[0, -1].float().tolist()
        seconds, n_bytes = time.perf_counter() - start, _read_bytes(model)
        rates, read = _reply(model, ids[:, :PROMPT_TO_DECODE], reply) if reply else ((), 0.0)
        peak = peak_bytes(plan.device)
    extra = None if before is None or peak is None else peak - before
    return Pass(start - began, seconds, n_bytes, extra, logits, rates, read)


def _reply(model: Qwen3, ids: Tensor, n: int) -> tuple[tuple[float, ...], float]:
    """Tokens per second after the first, and the share of the weights' bytes that were read."""
    written = greedy(model, ids, n + 1)
    next(written)
    weight_cache = model.blocks.weight_cache if isinstance(model.blocks, StreamedBlocks) else None
    read, used = (weight_cache.bytes_read, weight_cache.bytes_used) if weight_cache else (0, 0)
    start = time.perf_counter()
    count = sum(1 for _ in written)
    rate = count / (time.perf_counter() - start)
    if weight_cache is None:
        return (rate,), 0.0
    return (rate,), (weight_cache.bytes_read - read) / (weight_cache.bytes_used - used)


def _read_bytes(model: Qwen3) -> int:
    """Bytes that a streamed model has read from its files for its blocks."""
    if not isinstance(model.blocks, StreamedBlocks):
        return 0
    weight_cache = model.blocks.weight_cache
    stored = weight_cache.weights.dtype(OUTSIDE_BLOCKS["embed.weight"])
    return weight_cache.bytes_read * stored.itemsize // weight_cache.dtype.itemsize


def _reading(folder: Path) -> Pass:
    """All of the files, once through, into one buffer."""
    buffer, n_bytes = bytearray(CHUNK), 0
    start = time.perf_counter()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb", buffering=0) as file:
            while got := file.readinto(buffer):
                n_bytes += got
    return Pass(0.0, time.perf_counter() - start, n_bytes, None, [])


def _forget(folder: Path) -> None:
    """Have the system drop what it has cached of the files, where it lets itself be asked."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
