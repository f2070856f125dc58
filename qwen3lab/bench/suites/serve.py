"""Many replies of mixed length: continuous batching, an ideal batch, and static batches."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from tqdm.auto import tqdm

from qwen3lab.bench.measuring import agreement_of, in_turns, machine, on_threads
from qwen3lab.bench.peers import Ours, Theirs
from qwen3lab.bench.plan import PROMPT_TO_DECODE, BenchPlan, weights_of
from qwen3lab.bench.report import OURS, Measurement, Report
from qwen3lab.bench.suites.budgets import MAX_BUDGET, MIN_EQUAL_ANSWERS, PROBLEM_STEPS, generated
from qwen3lab.errors import BenchError
from qwen3lab.generation.decoding import decode
from qwen3lab.generation.pooled_rows import rows_of
from qwen3lab.generation.row_pool import RowPool
from qwen3lab.generation.sampling import Sampler, Sampling
from qwen3lab.hooks.taps import NO_TAP
from qwen3lab.lab import Lab, load
from qwen3lab.recording.recorder import Recorder
from qwen3lab.recording.row_recorder import RowRecorder
from qwen3lab.tiny import chains

BATCH = 16
"""Replies at once, on all sides."""
BATCHES = 16
"""Replies in all, as a multiple of those at once."""
IDEAL = "ideal batch"
STATIC = "qwen3lab, static batches"
NOTE = (
    "Ideal batch: as many replies with as many tokens, but all of the same length, so that no row "
    "waits and none joins. Static batches wait for their longest reply. All sides run as many "
    "replies at once. Only generated tokens count."
)


@dataclass(frozen=True)
class Traffic:
    """Prompts and the lengths of their replies, in tokens."""

    prompts: list[list[int]]
    lengths: list[int]

    @property
    def n_tokens(self) -> int:
        """Tokens of all replies."""
        return sum(self.lengths)

    @classmethod
    def mixed(cls, n: int, mean: int, d_vocab: int) -> "Traffic":
        """Prompts and replies of uniformly distributed length."""
        draw = random.Random(0)
        prompts = [
            [draw.randrange(d_vocab) for _ in range(draw.randint(1, 2 * PROMPT_TO_DECODE - 1))]
            for _ in range(n)
        ]
        return cls(prompts, [draw.randint(1, 2 * mean - 1) for _ in range(n)])

    def equal(self) -> "Traffic":
        """As many prompts and replies, each of the mean length."""
        n = len(self.prompts)
        mean_prompt = round(sum(map(len, self.prompts)) / n)
        every = [token for prompt in self.prompts for token in prompt]
        prompts = [(every[i:] + every)[:mean_prompt] for i in range(n)]
        return Traffic(prompts, [max(round(self.n_tokens / n), 1)] * n)


@dataclass
class Ends:
    """A guide that ends its row after `n` tokens."""

    n: int
    taken: int = field(default=0)

    def next(self, drawn: int) -> int | None:
        """No token is inserted."""
        return None

    def take(self, token_id: int) -> bool:
        """True after `n` tokens."""
        self.taken += 1
        return self.taken >= self.n


@torch.no_grad()
def run_serve(
    plan: BenchPlan, *, batch: int = BATCH, batches: int = BATCHES, progress: bool = True
) -> Report:
    """Time replies of mixed length, recorded or not, and the replies to the sweep's problems.

    Args:
        plan: the model or shape; uses decode (the mean length), repeats, threads, device and dtype.
            The sweep's problems need a model with a tokenizer.
        batch: replies at once.
        batches: replies in all, as a multiple of `batch`.
        progress: show a bar.

    Raises:
        BenchError: the libraries give different logits or replies.
    """
    with on_threads(plan.threads) as threads, weights_of(plan) as folder:
        place = (folder, plan.device, plan.dtype)
        ours, theirs = Ours(*place), Theirs(*place)
        gap = agreement_of(plan, [ours, theirs])
        traffic = Traffic.mixed(batch * batches, plan.decode, ours.d_vocab)
        n_runs = (2 * 3 + 2) * (plan.repeats + 1)
        with tqdm(total=n_runs, disable=not progress) as bar:
            rows = [
                _mixed(plan, ours, traffic, batch, bar.update, record=record)
                for record in (False, True)
            ]
            if plan.model is not None and _has_tokenizer(folder):
                rows.append(_problems(plan, folder, theirs, batch, batches, bar.update))
    agreement = f"The logits of both libraries agree; relative RMS difference {gap:.1e}."
    title = f"Replies of mixed length, {batch} at once: {plan.title}"
    return Report(title, machine(plan, threads), agreement, gap, rows, notes=(NOTE,))


def _mixed(
    plan: BenchPlan,
    ours: Ours,
    traffic: Traffic,
    batch: int,
    tick: Callable[[], object],
    *,
    record: bool,
) -> Measurement:
    """The rates of continuous, ideal and static batches."""
    equal = traffic.equal()
    jobs = {
        OURS: partial(_continuous, ours, traffic, batch, record=record),
        IDEAL: partial(_static, ours, equal, batch, record=record),
        STATIC: partial(_static, ours, traffic, batch, record=record),
    }
    n_tokens = {OURS: traffic.n_tokens, IDEAL: equal.n_tokens, STATIC: traffic.n_tokens}
    times = in_turns(jobs, plan.repeats, tick)
    rates = {name: tuple(n_tokens[name] / s for s in runs) for name, runs in times.items()}
    case = "mixed lengths, recorded" if record else "mixed lengths"
    return Measurement(case, traffic.n_tokens, "tokens/s", rates)


def _continuous(ours: Ours, traffic: Traffic, batch: int, *, record: bool) -> None:
    """All replies, as `lab.chat_batch` writes them."""
    recorder = RowRecorder(ours.hooks) if record else None
    streams = Sampler(Sampling.greedy(), seeds=range(len(traffic.prompts))).streams
    guides = [Ends(n) for n in traffic.lengths]
    everything = [(0, list(range(len(guides))))]
    rows = rows_of(traffic.prompts, guides, streams, shared=everything)
    pool = RowPool(
        ours.decoder,
        rows,
        sampling=Sampling.greedy(),
        batch=batch,
        reader=None if ours.decoder is ours.model else ours.model,
        recorder=recorder,
    )
    for _ in pool.steps():
        pass
    pool.close()
    if recorder is not None:
        for row in rows:
            recorder.taken(row)


def _static(ours: Ours, traffic: Traffic, batch: int, *, record: bool) -> None:
    """All replies in batches, each of which waits for its longest reply."""
    for first in range(0, len(traffic.prompts), batch):
        prompts = traffic.prompts[first : first + batch]
        lengths = traffic.lengths[first : first + batch]
        recorder = Recorder(ours.hooks) if record else None
        steps = decode(
            ours.decoder,
            prompts,
            sampler=Sampler(Sampling.greedy(), seeds=range(len(prompts))),
            guides=[Ends(n) for n in lengths],
            max_new_tokens=max(lengths),
            tap=recorder or NO_TAP,
            feed_last=record,
        )
        for _ in steps:
            pass
        if recorder is not None:
            longest = max(map(len, prompts))
            spans = [(longest - len(p), longest + n) for p, n in zip(prompts, lengths, strict=True)]
            recorder.cut(spans)


def _problems(
    plan: BenchPlan,
    folder: Path,
    theirs: Theirs,
    batch: int,
    batches: int,
    tick: Callable[[], object],
) -> Measurement:
    """The rates of `chat_batch`, and of static batches of `generate`, on the sweep's problems."""
    lab = load(folder, device=plan.device, dtype=plan.dtype)
    n = -(-batch * batches // len(PROBLEM_STEPS))
    problems = chains(lab.tokenizer, n=n, steps=PROBLEM_STEPS, seed=1)[: batch * batches]
    questions = [problem.question for problem in problems]
    random.Random(0).shuffle(questions)
    most = min(lab.suggested.max_new_tokens, MAX_BUDGET)
    jobs = {
        OURS: partial(_chats, lab, questions, batch, most),
        Theirs.name: partial(_by_generate, lab, theirs, questions, batch, most),
    }
    mine, peers = (job() for job in jobs.values())
    _check_equal(mine, peers)
    n_tokens = sum(map(len, mine))
    times = in_turns(jobs, plan.repeats, tick)
    rates = {name: tuple(n_tokens / s for s in runs) for name, runs in times.items()}
    return Measurement(f"{len(questions)} problems, static batches", n_tokens, "tokens/s", rates)


def _chats(lab: Lab, questions: Sequence[str], batch: int, most: int) -> list[list[int]]:
    greedy = Sampling.greedy()
    chats = lab.chat_batch(
        questions, batch=batch, thinking=True, sampling=greedy, max_new_tokens=most
    )
    ends = lab.marks.ends
    return [[token for token in chat.token_ids if token not in ends] for chat in chats]


def _by_generate(
    lab: Lab, theirs: Theirs, questions: Sequence[str], batch: int, most: int
) -> list[list[int]]:
    messages = [[{"role": "user", "content": question}] for question in questions]
    prompts = [lab.token_ids(each, thinking=True) for each in messages]
    replies = []
    for first in range(0, len(prompts), batch):
        part = prompts[first : first + batch]
        replies += generated(theirs.model, part, most, sorted(lab.marks.ends))
    return replies


def _check_equal(mine: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]]) -> None:
    equal = sum(list(a) == list(b) for a, b in zip(mine, theirs, strict=True)) / len(mine)
    if equal < MIN_EQUAL_ANSWERS:
        raise BenchError(f"only {equal:.0%} of the replies agree: their times are not comparable")


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("tokenizer.json", "vocab.json"))
