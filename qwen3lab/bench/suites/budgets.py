"""A sweep over thinking budgets, compared with one `transformers` run per budget."""

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
from qwen3lab.lab import Lab, load
from qwen3lab.model.batching import pad_left
from qwen3lab.thinking import Problem, sweep
from qwen3lab.thinking.rewind import OPENING_TOKENS
from qwen3lab.tiny import chains

N_BUDGETS = 16
PROBLEM_STEPS = (1, 2, 4, 6, 8, 10)
MAX_BUDGET = 512
"""Largest budget of any model: the peer writes the thinking again for each budget."""

MAX_ANSWER_TOKENS = 32
MIN_EQUAL_ANSWERS = 0.98
"""Minimum share of equal answers. The libraries may break ties between tokens differently."""


@dataclass(frozen=True)
class ByHand:
    """Answers without rewinding: each budget needs a run of its own.

    Attributes:
        answers: answer texts, by budget and problem.
        written: number of generated tokens.
    """

    answers: list[list[str]]
    written: int


def run_budgets(plan: BenchPlan, *, n: int = 4, progress: bool = True) -> Report:
    """Time the answers within 16 budgets: one sweep, and 16 runs of `transformers.generate`.

    Decoding is greedy; the function checks that both give the same answers.

    Args:
        plan: a model with a tokenizer; uses repeats, threads, device and dtype.
        n: number of problems of each of six lengths.
        progress: show a bar.

    Raises:
        BenchError: the plan has no model, or the two sides give different answers.
    """
    if plan.model is None:
        raise BenchError(
            "random weights cannot solve problems: choose a model, such as --model tiny-moe"
        )
    with on_threads(plan.threads) as threads, weights_of(plan) as folder:
        lab = load(folder, device=plan.device, dtype=plan.dtype)
        theirs = Theirs(folder, plan.device, plan.dtype)
        problems = chains(lab.tokenizer, n=n, steps=PROBLEM_STEPS, seed=1)
        largest = min(lab.suggested.budgets[-1], MAX_BUDGET)
        budgets = [round(largest * index / (N_BUDGETS - 1)) for index in range(N_BUDGETS)]
        return _report(plan, lab, theirs, problems, budgets, threads, progress)


def _report(
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
    share_differing = 0.0
    with tqdm(total=2 * (plan.repeats + 1), disable=not progress) as bar:
        for turn in range(plan.repeats + 1):
            seconds, swept = _timed(lambda: _sweep_answers(lab, problems, budgets))
            timed[OURS].append(seconds)
            bar.update()
            seconds, by_hand = _timed(lambda: peers_way(lab, theirs.model, problems, budgets))
            timed[Theirs.name].append(seconds)
            bar.update()
            if turn == 0:
                share_differing = _share_differing(swept[0], by_hand.answers)
                written = {OURS: (float(swept[1]),), Theirs.name: (float(by_hand.written),)}
    times = {side: tuple(seconds[1:]) for side, seconds in timed.items()}
    n = len(problems)
    title = f"{plan.model}, {n} problems within {len(budgets)} budgets up to {budgets[-1]} tokens"
    rows = [
        Measurement("all answers", n * len(budgets), "s", times),
        Measurement("generated tokens", n * len(budgets), "tokens", written),
    ]
    agreement = f"{1 - share_differing:.1%} of the answers are the same on both sides."
    return Report(title, machine(plan, threads), agreement, share_differing, rows, sizes="answers")


def _sweep_answers(
    lab: Lab, problems: Sequence[Problem], budgets: Sequence[int]
) -> tuple[list[list[str]], int]:
    """The answers of a sweep by budget and problem, and the number of generated tokens."""
    swept = sweep(
        lab,
        problems,
        budgets,
        sampling=Sampling.greedy(),
        answer_tokens=MAX_ANSWER_TOKENS,
        at_once=False,
        batch=len(problems),
        progress=False,
    )
    answers = [[a.answers[index].text for a in swept.attempts] for index in range(len(budgets))]
    n_early_stop = len(lab.marks.early_stop)
    full_replies = sum(attempt.answers[-1].reply_tokens for attempt in swept.attempts)
    # After rewinding to a smaller budget, only the answer is generated.
    after_rewinding = [
        answer.reply_tokens - answer.thinking_tokens - n_early_stop - OPENING_TOKENS
        for attempt in swept.attempts
        for answer in attempt.answers[:-1]
        if answer.stop == "budget"
    ]
    return answers, full_replies + sum(after_rewinding)


@torch.no_grad()
def peers_way(lab: Lab, model: Any, problems: Sequence[Problem], budgets: Sequence[int]) -> ByHand:
    """Answers by `generate`: for each budget, think, insert the early-stop sentence, answer.

    All problems run in one batch with left padding, as in the sweep.
    """
    marks = lab.marks
    ends = sorted(marks.ends)
    messages = [[{"role": "user", "content": problem.question}] for problem in problems]
    prompts = [lab.token_ids(message, thinking=True) for message in messages]
    answers, written = [], 0
    for budget in budgets:
        first = generated(model, prompts, max(OPENING_TOKENS + budget, 1), ends)
        replies = [_with_early_stop(ids, budget, marks) for ids in first]
        inputs = [prompt + reply for prompt, reply in zip(prompts, replies, strict=True)]
        second = generated(model, inputs, MAX_ANSWER_TOKENS, ends)
        complete = [reply + rest for reply, rest in zip(replies, second, strict=True)]
        written += sum(map(len, first)) + sum(map(len, second))
        answers.append([_answer(lab, ids, marks) for ids in complete])
    return ByHand(answers, written)


def _with_early_stop(ids: list[int], budget: int, marks: Any) -> list[int]:
    """The reply up to the end of its thinking; with the early-stop sentence if it did not end."""
    if marks.end_think in ids[: OPENING_TOKENS + budget]:
        # Drop the start of an answer: the second run generates the answers of all rows.
        return ids[: ids.index(marks.end_think) + 1]
    return ids[: OPENING_TOKENS + budget] + list(marks.early_stop)


def generated(
    model: Any, prompts: Sequence[list[int]], max_new_tokens: int, ends: Sequence[int]
) -> list[list[int]]:
    """Greedy continuations of prompts by `generate`, as one batch, each without its end token."""
    ids, mask = pad_left(prompts, model.device)
    out: Tensor = model.generate(
        ids,
        attention_mask=mask.long(),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=list(ends),
        pad_token_id=ends[0],
    )
    return [_before_end(row, ends) for row in out[:, ids.shape[1] :].tolist()]


def _before_end(ids: list[int], ends: Sequence[int]) -> list[int]:
    positions = [position for position, token in enumerate(ids) if token in ends]
    return ids[: positions[0]] if positions else ids


def _answer(lab: Lab, ids: list[int], marks: Any) -> str:
    after = ids[ids.index(marks.end_think) + 1 :] if marks.end_think in ids else []
    kept = [token for token in after if token not in marks.ends]
    return lab.tokenizer.decode(kept, skip_special_tokens=False).strip()


def _share_differing(ours: list[list[str]], theirs: list[list[str]]) -> float:
    """The share of answers that differ.

    Raises:
        BenchError: fewer than `MIN_EQUAL_ANSWERS` are equal.
    """
    pairs = [
        (our_answer, their_answer)
        for our_row, their_row in zip(ours, theirs, strict=True)
        for our_answer, their_answer in zip(our_row, their_row, strict=True)
    ]
    equal = sum(our_answer == their_answer for our_answer, their_answer in pairs) / len(pairs)
    if equal < MIN_EQUAL_ANSWERS:
        raise BenchError(f"only {equal:.0%} of the answers agree: their times are not comparable")
    return 1 - equal


def _timed(job: Any) -> tuple[float, Any]:
    """The seconds that a job takes, and its result."""
    start = time.perf_counter()
    result = job()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start, result
