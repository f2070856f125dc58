"""A sweep over thinking budgets beside one run of `transformers` for each budget."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from qwen3lab.bench.measuring import machine, on_threads
from qwen3lab.bench.peers import Theirs
from qwen3lab.bench.plan import BenchPlan, weights_of
from qwen3lab.bench.report import OURS, Measurement, Report
from qwen3lab.errors import BenchError
from qwen3lab.generation.sampling import Sampling
from qwen3lab.generation.thinking_control import marks_of
from qwen3lab.lab import Lab, load
from qwen3lab.model.batching import pad_left
from qwen3lab.thinking import Problem, sweep
from qwen3lab.thinking.rewind import OPENING
from qwen3lab.tiny import chains

N_BUDGETS = 16
LENGTHS = (2, 4, 6, 8, 10, 12)
LARGEST = 40
"""Thinking tokens that the embedded models' longest problems take."""

LARGEST_PUBLISHED = 512
ANSWER_TOKENS = 32
AGREEMENT = 0.98
"""Answers that have to agree; the rest may be ties, which two libraries break apart."""


@dataclass(frozen=True)
class ByHand:
    """What one has to do without rewinding: for every budget, think anew.

    Attributes:
        answers: by budget and problem.
        written: tokens that the model wrote.
    """

    answers: list[list[str]]
    written: int


def run_budgets(plan: BenchPlan, *, n: int = 4, progress: bool = True) -> Report:
    """Time answers within 16 budgets: one sweep, and 16 runs of `transformers.generate`.

    The same greedy answers come out on both sides, which is checked before anything is timed.

    Args:
        plan: the model, which has to have a tokenizer; the repeats, threads, device and dtype.
        n: problems of each of six lengths.
        progress: show a bar.

    Raises:
        BenchError: the plan names no model, or the two sides give different answers.
    """
    if plan.model is None:
        raise BenchError("random weights do not think: name a model, such as --model tiny-moe")
    with on_threads(plan.threads) as threads, weights_of(plan) as folder:
        lab = load(folder, device=plan.device, dtype=plan.dtype)
        theirs = Theirs(folder, plan.device, plan.dtype)
        problems = chains(lab.tokenizer, n=n, steps=LENGTHS, seed=1)
        largest = LARGEST if folder.name.startswith("tiny-") else LARGEST_PUBLISHED
        budgets = [round(largest * place / (N_BUDGETS - 1)) for place in range(N_BUDGETS)]
        return _measured(plan, lab, theirs, problems, budgets, threads, progress)


def _measured(
    plan: BenchPlan,
    lab: Lab,
    theirs: Theirs,
    problems: Sequence[Problem],
    budgets: Sequence[int],
    threads: int,
    progress: bool,
) -> Report:
    timed: dict[str, list[float]] = {OURS: [], Theirs.name: []}
    written: dict[str, tuple[float, ...]] = {}
    differing = 0.0
    with tqdm(total=2 * (plan.repeats + 1), disable=not progress) as bar:
        for turn in range(plan.repeats + 1):
            seconds, swept = _timed(lambda: _ours(lab, problems, budgets))
            timed[OURS].append(seconds)
            bar.update()
            seconds, by_hand = _timed(lambda: peers_way(lab, theirs.model, problems, budgets))
            timed[Theirs.name].append(seconds)
            bar.update()
            if turn == 0:
                differing = _differing(swept[0], by_hand.answers)
                written = {OURS: (float(swept[1]),), Theirs.name: (float(by_hand.written),)}
    times = {side: tuple(seconds[1:]) for side, seconds in timed.items()}
    n = len(problems)
    title = f"{plan.model}, {n} problems within {len(budgets)} budgets up to {budgets[-1]} tokens"
    rows = [
        Measurement("all answers", n * len(budgets), "s", times),
        Measurement("tokens written", n * len(budgets), "tokens", written),
    ]
    agreement = f"{1 - differing:.1%} of the answers are the same on both sides."
    return Report(title, machine(plan, threads), agreement, differing, rows, sizes="answers")


def _ours(
    lab: Lab, problems: Sequence[Problem], budgets: Sequence[int]
) -> tuple[list[list[str]], int]:
    """Answers by budget and problem, and the tokens that were written for them."""
    found = sweep(
        lab,
        problems,
        budgets,
        sampling=Sampling.greedy(),
        answer_tokens=ANSWER_TOKENS,
        at_once=False,
        batch=len(problems),
        progress=False,
    )
    answers = [[a.answers[place].text for a in found.attempts] for place in range(len(budgets))]
    stop = len(marks_of(lab.tokenizer).early_stop)
    whole = sum(attempt.answers[-1].reply_tokens for attempt in found.attempts)
    again = [
        answer.reply_tokens - answer.thinking_tokens - stop - OPENING
        for attempt in found.attempts
        for answer in attempt.answers[:-1]
        if answer.stop == "budget"
    ]
    return answers, whole + sum(again)


@torch.no_grad()
def peers_way(lab: Lab, model: Any, problems: Sequence[Problem], budgets: Sequence[int]) -> ByHand:
    """Answer within each budget by `generate`: think up to it, stop it, let it answer.

    All problems run together, padded on the left, as in the sweep.
    """
    marks = marks_of(lab.tokenizer)
    ends = sorted(marks.ends)
    messages = [[{"role": "user", "content": problem.question}] for problem in problems]
    prompts = [lab.token_ids(message, thinking=True) for message in messages]
    answers, written = [], 0
    for budget in budgets:
        first = _generated(model, prompts, max(OPENING + budget, 1), ends)
        replies = [_stopped(ids, budget, marks) for ids in first]
        begun = [prompt + reply for prompt, reply in zip(prompts, replies, strict=True)]
        more = _generated(model, begun, ANSWER_TOKENS, ends)
        whole = [reply + rest for reply, rest in zip(replies, more, strict=True)]
        written += sum(map(len, first)) + sum(map(len, more))
        answers.append([_answer(lab, ids, marks) for ids in whole])
    return ByHand(answers, written)


def _stopped(ids: list[int], budget: int, marks: Any) -> list[int]:
    """A reply with the early-stop sentence, unless its thinking has ended by itself."""
    if marks.end_think in ids[: OPENING + budget]:
        # What of the answer came already is written again, so that all rows go on together.
        return ids[: ids.index(marks.end_think) + 1]
    return ids[: OPENING + budget] + list(marks.early_stop)


def _generated(
    model: Any, prompts: Sequence[list[int]], most: int, ends: Sequence[int]
) -> list[list[int]]:
    ids, mask = pad_left(prompts, model.device)
    out: Tensor = model.generate(
        ids,
        attention_mask=mask.long(),
        max_new_tokens=most,
        do_sample=False,
        eos_token_id=list(ends),
        pad_token_id=ends[0],
    )
    return [_until_end(row, ends) for row in out[:, ids.shape[1] :].tolist()]


def _until_end(ids: list[int], ends: Sequence[int]) -> list[int]:
    places = [place for place, token in enumerate(ids) if token in ends]
    return ids[: places[0]] if places else ids


def _answer(lab: Lab, ids: list[int], marks: Any) -> str:
    after = ids[ids.index(marks.end_think) + 1 :] if marks.end_think in ids else []
    kept = [token for token in after if token not in marks.ends]
    return lab.tokenizer.decode(kept, skip_special_tokens=False).strip()


def _differing(ours: list[list[str]], theirs: list[list[str]]) -> float:
    """The share of answers that differ; a few may, where two tokens were equally likely."""
    pairs = [
        (mine, peer)
        for row, other in zip(ours, theirs, strict=True)
        for mine, peer in zip(row, other, strict=True)
    ]
    same = sum(mine == peer for mine, peer in pairs) / len(pairs)
    if same < AGREEMENT:
        raise BenchError(f"only {same:.0%} of the answers agree: their times would not compare")
    return 1 - same


def _timed(job: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    found = job()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start, found
