"""Recording a corpus, compared with a bare loop of forward passes: speed, memory, bytes on disk."""

import random
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from tqdm.auto import tqdm

from qwen3lab import corpus
from qwen3lab.bench.fresh_process import in_fresh_process
from qwen3lab.bench.measuring import in_turns, machine, on_threads
from qwen3lab.bench.memory import peak_bytes, start_counting
from qwen3lab.bench.plan import BenchPlan
from qwen3lab.bench.report import OURS, Measurement, Report
from qwen3lab.bench.suites.corpus_on_ray import NOTE as RAY_NOTE, has_ray, measured_on_ray
from qwen3lab.corpus.part import Kept
from qwen3lab.corpus.plan import BATCH_TOKENS, PART_ROWS
from qwen3lab.corpus.sizes import expected
from qwen3lab.corpus.source import open_source
from qwen3lab.corpus.texts import Text, by_length, columns_of
from qwen3lab.device.malloc import map_large
from qwen3lab.errors import BenchError
from qwen3lab.lab import Lab, load
from qwen3lab.model.batching import pad_left

BARE, SAID = "bare forward loop", "said beforehand"
MIN_TOKENS = 10_000
"""Of a corpus: the first batches of a shorter one take most of the time."""
MAX_TIMED_TOKENS = 200_000
"""Of a corpus that is timed: longer ones have the same rate, and only their memory is measured."""
LENGTHS = (16, 256)
"""Shortest and longest text, in tokens."""
WARM_UP_TOKENS = 2_000
NOTE = (
    "Both sides run the same texts in the same batches in one process; the bare loop keeps "
    "nothing. "
    "Memory: peak above the memory after a first small corpus, in a separate process. Of corpora "
    f"of more than {MAX_TIMED_TOKENS:,} tokens it is all that is measured."
)


def run_corpus(plan: BenchPlan, *, progress: bool = True) -> Report:
    """Time the counts of a corpus of random tokens; measure memory, and bytes against the estimate.

    Args:
        plan: a mixture of experts with a tokenizer; `tokens` are the sizes of the corpora, which
            are raised to 10,000, and timed up to 200,000.
        progress: show a bar.

    Raises:
        BenchError: the plan has no model, the model is dense, or counts do not add up.
    """
    if plan.model is None:
        raise BenchError("a corpus needs a tokenizer: choose a model, such as --model tiny-moe")
    sizes = sorted({max(n, MIN_TOKENS) for n in plan.tokens})
    with on_threads(plan.threads) as threads:
        lab = load(plan.model, device=plan.device, dtype=plan.dtype)
        if not lab.config.is_moe:
            raise BenchError(
                f"{plan.model} is dense: it has no routing to count, so choose another"
            )
        with_ray = has_ray() and lab.model.device.type == "cpu"
        timed = [n for n in sizes if n <= MAX_TIMED_TOKENS]
        total = 2 * (plan.repeats + 1) * len(timed) + len(sizes) + 2 * with_ray
        with tqdm(total=total, disable=not progress) as bar:
            rows = list[Measurement]()
            for n in sizes:
                rows += _timed(plan, lab, n, bar) if n in timed else ()
                rows.append(_memory(plan, n, threads))
                bar.update()
            if with_ray:
                texts = random_texts(lab, timed[-1] if timed else MIN_TOKENS)
                rows.append(measured_on_ray(plan, texts, bar.update))
    agreement = "Every token is counted once for each of its experts and layers."
    title = f"Counts of a corpus: {plan.model}"
    return Report(
        title, machine(plan, threads), agreement, 0.0, rows, notes=(NOTE, *[RAY_NOTE] * with_ray)
    )


def _timed(plan: BenchPlan, lab: Lab, n_tokens: int, bar: tqdm) -> Iterator[Measurement]:
    """Speed, and bytes on disk."""
    texts = random_texts(lab, n_tokens)
    jobs = {OURS: partial(record_counts, lab, texts), BARE: partial(bare_loop, lab, texts)}
    times = in_turns(jobs, plan.repeats, bar.update)
    rates = {side: tuple(n_tokens / s for s in runs) for side, runs in times.items()}
    yield Measurement("counts of a corpus", n_tokens, "tokens/s", rates)
    n_bytes, said = bytes_written(lab, texts)
    written = {OURS: (n_bytes / 2**20,), SAID: (said / 2**20,)}
    yield Measurement("bytes written", n_tokens, "MiB", written)


def _memory(plan: BenchPlan, n_tokens: int, threads: int) -> Measurement:
    extra = in_fresh_process(extra_bytes, plan.model, plan.device, plan.dtype, n_tokens, threads)
    values = () if extra is None else (extra / 2**20,)
    return Measurement("memory", n_tokens, "MiB", {OURS: values})


def random_texts(lab: Lab, n_tokens: int) -> list[list[int]]:
    """Texts of random token ids that have `n_tokens` in all."""
    rng, texts, left = random.Random(0), list[list[int]](), n_tokens
    while left:
        n = min(rng.randint(*LENGTHS), left)
        texts.append([rng.randrange(lab.config.d_vocab) for _ in range(n)])
        left -= n
    return texts


def record_counts(lab: Lab, texts: Sequence[list[int]]) -> None:
    """Record the counts of the texts into a folder, which is removed."""
    with tempfile.TemporaryDirectory(prefix="qwen3lab-bench-") as folder:
        _record(lab, texts, folder)


def bytes_written(lab: Lab, texts: Sequence[list[int]]) -> tuple[int, int]:
    """The bytes of a run, and those that are expected before it starts.

    Raises:
        BenchError: a token is not counted, or twice.
    """
    slots = sum(map(len, texts)) * lab.config.n_experts_per_token * len(lab.config.moe_layers)
    with tempfile.TemporaryDirectory(prefix="qwen3lab-bench-") as folder:
        run = _record(lab, texts, folder)
        counted = int(run.counts.slots.sum())
        if counted != slots:
            raise BenchError(f"{counted:,} slots are counted, and the texts have {slots:,}")
        source = open_source(
            run.folder / "source.jsonl", columns_of(run.plan), part_rows=run.plan.part_rows
        )
        said = expected(lab, Kept.of(run.plan, lab.config), source)
        return run.total("bytes"), said.bytes


def _record(lab: Lab, texts: Sequence[list[int]], folder: str) -> corpus.CorpusRun:
    rows = [{"text": ids} for ids in texts]
    return corpus.record(rows, model=lab, out=Path(folder) / "run", progress=False)


@torch.no_grad()
def bare_loop(lab: Lab, texts: Sequence[list[int]]) -> None:
    """The forward passes of `record_counts`, and nothing else."""
    kind = "cpu" if lab.model.device.type == "cpu" else "gpu"
    for start in range(0, len(texts), PART_ROWS):
        part = [Text(0, "", (), ids) for ids in texts[start : start + PART_ROWS]]
        for batch in by_length(part, BATCH_TOKENS[kind]):
            ids, mask = pad_left([text.token_ids for text in batch], lab.model.device)
            lab.model(ids, mask=None if bool(mask.all()) else mask, last_only=True)


def extra_bytes(model: str, device: str, dtype: str, n_tokens: int, threads: int) -> int | None:
    """Peak memory of recording above that after a small corpus, in this process."""
    torch.set_num_threads(threads)
    map_large()
    lab = load(model, device=device, dtype=dtype)
    texts = random_texts(lab, n_tokens)
    record_counts(lab, random_texts(lab, WARM_UP_TOKENS))
    before = start_counting(device)
    record_counts(lab, texts)
    after = peak_bytes(device)
    return None if before is None or after is None else after - before
