"""One thinking for every budget: what would be answered after less of it?"""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm.auto import tqdm

from qwen3lab.generation.sampling import Sampling
from qwen3lab.generation.thinking_control import ReplyGuide, marks_of
from qwen3lab.lab import Lab
from qwen3lab.storage.jsonl_store import Store, digest
from qwen3lab.thinking.problems import Problem
from qwen3lab.thinking.rewind import OPENING, Answer, Replies
from qwen3lab.thinking.swept import Attempt, SampleKey, Sweep, SweepPlan, in_order


def sweep(
    lab: Lab,
    problems: Sequence[Problem],
    budgets: Sequence[int],
    *,
    samples: int = 1,
    seed: int = 0,
    sampling: Sampling | None = None,
    answer_tokens: int = 256,
    at_once: bool = True,
    batch: int = 32,
    path: str | Path | None = None,
    progress: bool = True,
) -> Sweep:
    """Think once about each problem, and answer it within each budget.

    Each answer is the one that `lab.chat(question, budget=budget, seed=...)` gives with the
    seed that `SweepPlan` names; but the thinking is written once, and for each budget only the
    early-stop sentence is read and the answer written. So several samples of one problem
    differ, and the answers of one sample share their thinking, which makes the difference
    between two budgets less noisy.

    Args:
        lab: the model.
        problems: what to ask; those of `tiny.problems`, or from `read_problems`.
        budgets: thinking tokens allowed, least first.
        samples: thinkings of each problem.
        seed: of the draw.
        sampling: how tokens are drawn; the published way of each mode if None.
        answer_tokens: longest answer.
        at_once: also answer without thinking.
        batch: thinkings that run together.
        path: a file to keep what is done in; a sweep that was interrupted goes on from there.
        progress: show a progress bar.

    Returns:
        What was answered; after an interrupt from the keyboard, what was done by then.

    Raises:
        ValueError: no problems, budgets that are negative, not rising or beyond the context, a
            model without thinking tokens, or a file of another sweep.

    Example:
        >>> import qwen3lab
        >>> from qwen3lab import thinking, tiny
        >>> lab = qwen3lab.load("tiny-moe")
        >>> problems = tiny.chains(lab.tokenizer, n=2, steps=(2, 6))
        >>> thinking.sweep(lab, problems, budgets=(0, 20), progress=False)
        Sweep(tiny-moe: 4 thinkings, budgets (0, 20))
    """
    plan = SweepPlan(
        model=lab.name,
        weights=lab.weights,
        config=lab.config,
        problems=digest(
            [(each.question, each.answer, each.level, _grader(each)) for each in problems]
        ),
        n_problems=len(problems),
        budgets=_checked(budgets),
        samples=samples,
        seed=seed,
        sampling=sampling,
        answer_tokens=answer_tokens,
        at_once=at_once,
    )
    prompts = _prompts(lab, problems, plan)
    store = None if path is None else Store(path, SweepPlan, Attempt)
    done: list[Attempt] = [] if store is None else store.resume(plan)
    ran = {(attempt.problem, attempt.sample) for attempt in done}
    rows = sorted(
        (row for row in plan.rows if row not in ran), key=lambda row: (len(prompts[row[0]]), row)
    )
    per_row = len(plan.budgets) + plan.at_once
    with tqdm(total=len(plan.rows) * per_row, unit="answer", disable=not progress) as bar:
        bar.update(len(done) * per_row)
        try:
            for start in range(0, len(rows), batch):
                found = _attempts(
                    lab, problems, prompts, plan, rows[start : start + batch], bar.update
                )
                done += found
                if store is not None:
                    store.add(found)
        except KeyboardInterrupt:
            pass
    return Sweep(plan, in_order(done))


def _checked(budgets: Sequence[int]) -> tuple[int, ...]:
    found = tuple(int(budget) for budget in budgets)
    if not found:
        raise ValueError("there is no budget: expected numbers of thinking tokens, least first")
    if found[0] < 0:
        raise ValueError(f"a budget is {found[0]}: expected 0 thinking tokens or more")
    if any(a >= b for a, b in itertools.pairwise(found)):
        raise ValueError(f"the budgets are {found}: expected rising numbers, each once")
    return found


def _prompts(lab: Lab, problems: Sequence[Problem], plan: SweepPlan) -> list[list[int]]:
    if not problems:
        raise ValueError("there is no problem: expected at least one question with its answer")
    silent = [number for number, problem in enumerate(problems) if not problem.answer.strip()]
    if silent:
        raise ValueError(f"problem {silent[0]} has no answer: nothing could be graded")
    if plan.samples < 1:
        raise ValueError(f"samples is {plan.samples}: expected 1 or more")
    marks = marks_of(lab.tokenizer)
    if marks.think is None or marks.end_think is None:
        raise ValueError(
            f"the tokenizer of {lab.name} has no <think> and </think>: there is no thinking to "
            "limit; load a Qwen3 model that chats"
        )
    prompts = [lab.token_ids(_asked(problem), thinking=True) for problem in problems]
    longest = max(map(len, prompts))
    fixed = OPENING + len(marks.early_stop) + plan.answer_tokens
    room = lab.config.n_ctx - longest - fixed
    if plan.budgets[-1] > room:
        raise ValueError(
            f"a budget of {plan.budgets[-1]} thinking tokens does not fit: beside a question of "
            f"{longest} and an answer of up to {plan.answer_tokens} tokens, the context of "
            f"{lab.config.n_ctx} has room for {max(room, 0)}"
        )
    return prompts


def _grader(problem: Problem) -> str:
    return getattr(problem, "grader", type(problem).__name__)


def _asked(problem: Problem) -> list[dict[str, str]]:
    return [{"role": "user", "content": problem.question}]


def _attempts(
    lab: Lab,
    problems: Sequence[Problem],
    prompts: Sequence[Sequence[int]],
    plan: SweepPlan,
    rows: Sequence[SampleKey],
    tick: Callable[[int], object],
) -> list[Attempt]:
    """Think about some rows, and answer them within every budget."""
    asked = [list(prompts[problem]) for problem, _ in rows]
    replies = _replies(lab, asked, plan, rows, thinking=True)
    whole = replies.think(plan.budgets[-1])
    tick(len(rows))
    answers = {plan.budgets[-1]: whole}
    for budget in reversed(plan.budgets[:-1]):
        found = replies.answer(budget)
        answers[budget] = [new or old for new, old in zip(found, whole, strict=True)]
        tick(len(rows))
    thoughts = [_thought(lab, guide) for guide in replies.guides]
    at_once: list[Answer | None] = [None] * len(rows)
    quick: list[list[int]] = [[] for _ in rows]
    if plan.at_once:
        quick = [lab.token_ids(_asked(problems[p]), thinking=False) for p, _ in rows]
        at_once = list(_replies(lab, quick, plan, rows, thinking=False).think(0))
        tick(len(rows))
    return [
        _attempt(
            problems[row[0]],
            row,
            (len(prompts[row[0]]), len(quick[i])),
            thoughts[i],
            tuple(answers[budget][i] for budget in plan.budgets),
            at_once[i],
        )
        for i, row in enumerate(rows)
    ]


def _replies(
    lab: Lab,
    prompts: Sequence[Sequence[int]],
    plan: SweepPlan,
    rows: Sequence[SampleKey],
    *,
    thinking: bool,
) -> Replies:
    return Replies(
        lab,
        prompts,
        sampling=plan.sampling or Sampling.published(thinking=thinking),
        seeds=[plan.seed_of(row) for row in rows],
        answer_tokens=plan.answer_tokens,
    )


def _attempt(
    problem: Problem,
    row: SampleKey,
    prompt_tokens: tuple[int, int],
    thinking: str,
    answers: tuple[Answer, ...],
    at_once: Answer | None,
) -> Attempt:
    return Attempt(
        problem=row[0],
        sample=row[1],
        level=problem.level,
        prompt_tokens=prompt_tokens[0],
        prompt_tokens_at_once=prompt_tokens[1],
        thinking=thinking,
        answers=answers,
        right=tuple(problem.grade(answer.text) for answer in answers),
        at_once=at_once,
        right_at_once=None if at_once is None else problem.grade(at_once.text),
    )


def _thought(lab: Lab, guide: ReplyGuide) -> str:
    """What stands between `<think>`, which the prompt may hold, and `</think>`."""
    text = lab.tokenizer.decode(guide.token_ids, skip_special_tokens=False)
    thought = text if guide.opened else text.partition("<think>")[2]
    return thought.partition("</think>")[0].strip()
