"""Sweep over thinking budgets: think once with the largest, then rewind to each smaller one."""

from collections.abc import Callable, Generator, Sequence, Set
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from qwen3lab.generation.batch_size import replies_at_once
from qwen3lab.generation.sampling import Sampling
from qwen3lab.generation.thinking_control import ReplyGuide
from qwen3lab.interrupts import HeldInterrupts
from qwen3lab.lab import Lab
from qwen3lab.recording.weights_fingerprint import fingerprint
from qwen3lab.storage.jsonl_store import Store, digest
from qwen3lab.text.chat_template import thinking_mode
from qwen3lab.thinking.branches import BranchedReplies
from qwen3lab.thinking.limits import check_budgets, check_samples
from qwen3lab.thinking.problems import Problem
from qwen3lab.thinking.rewind import OPENING_TOKENS, Answer
from qwen3lab.thinking.swept import Attempt, SampleKey, Sweep, SweepPlan, in_order
from qwen3lab.translation import tr

Attempts = Generator[Attempt, None, None]

BATCHES_PER_PART = 4
"""Rows of a part of a sweep, as a multiple of those that run at once. Within a part, a row that
ends makes room for the next one; a part that was interrupted runs again as a whole."""


def sweep(
    lab: Lab,
    problems: Sequence[Problem],
    budgets: Sequence[int],
    *,
    samples: int = 1,
    seed: int = 0,
    sampling: Sampling | None = None,
    answer_tokens: int | None = None,
    at_once: bool = True,
    batch: int | None = None,
    path: str | Path | None = None,
    progress: bool = True,
) -> Sweep:
    """Answer each problem within each thinking budget, with one thinking text per sample.

    Each answer equals that of `lab.chat(question, thinking=True, budget=budget, seed=...)` with the
    seed of `SweepPlan.seed_of`. The sweep generates the thinking only once, with the largest
    budget. For each smaller budget it rewinds the KV cache, inserts the early-stop sentence and
    generates the answer. A reply or an answer that ends makes room for the next one.

    The answers of one sample share their thinking text, which reduces the noise of the difference
    between two budgets.

    Args:
        lab: the model.
        problems: the problems, from `tiny.problems` or `read_problems`.
        budgets: thinking budgets in tokens, ascending.
        samples: number of sampled replies per problem.
        seed: of the sampling; see `SweepPlan`.
        sampling: how tokens are sampled; None for Qwen3's published settings of each mode.
        answer_tokens: maximum number of tokens of an answer; None for that of `lab.suggested`.
        at_once: also answer without thinking.
        batch: number of replies that are generated at once; None chooses it by memory and model.
            An interrupted sweep thinks again about the problems of up to four batches, but keeps
            the finished ones.
        path: file for the results, each written as soon as its problem is done; the sweep resumes
            from an existing file.
        progress: show a progress bar with the problems that are done and the time left.

    Returns:
        The results; after a keyboard interrupt, those of the problems that were finished.

    Raises:
        ValueError: there is no problem or a problem without answer; the budgets are negative, not
            ascending or longer than the context; the model has no thinking tokens, never thinks, or
            thinks always and `at_once` is set.
        ResultsError: the file contains another sweep, or is damaged.
        StorageError: another run writes the file, or it cannot be written.

    Example:
        >>> import qwen3lab
        >>> from qwen3lab import thinking, tiny
        >>> lab = qwen3lab.load("tiny-moe")
        >>> problems = tiny.chains(lab.tokenizer, n=2, steps=(2, 6))
        >>> thinking.sweep(lab, problems, budgets=(0, 20), progress=False)
        Sweep(tiny-moe: 4 replies, budgets (0, 20))
    """
    plan = SweepPlan(
        model=lab.name,
        weights=lab.weights,
        config=lab.config,
        problems=digest(
            [(each.question, each.answer, each.level, _grader(each)) for each in problems]
        ),
        n_problems=len(problems),
        budgets=check_budgets(budgets),
        samples=samples,
        seed=seed,
        sampling=sampling,
        answer_tokens=answer_tokens or lab.suggested.answer_tokens,
        at_once=at_once,
    )
    prompts = _prompts(lab, problems, plan)
    if batch is None:
        longest = max(map(len, prompts)) + plan.budgets[-1] + plan.answer_tokens
        batch = replies_at_once(lab.model, longest)
    if batch < 1:
        raise ValueError(tr("batch is {batch}: expected 1 reply or more", batch=batch))
    # Prompts of similar length are read together, which saves padding.
    rows = sorted(plan.rows, key=lambda row: (len(prompts[row[0]]), row))
    size = batch * BATCHES_PER_PART
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    run = partial(_attempts, lab, problems, prompts, plan, batch)
    if path is None:
        return Sweep(plan, _run(plan, parts, run, None, [], progress))
    plan = replace(plan, **_state(lab, problems, prompts, plan))
    store = Store(path, SweepPlan, Attempt)
    with store.writing(plan) as done:
        return Sweep(plan, _run(plan, parts, run, store, done, progress))


def _run(
    plan: SweepPlan,
    parts: Sequence[Sequence[SampleKey]],
    run: Callable[[Sequence[SampleKey], Set[SampleKey], tqdm], Attempts],
    store: Store[SweepPlan, Attempt] | None,
    done: Sequence[Attempt],
    progress: bool,
) -> tuple[Attempt, ...]:
    """The attempts of all parts; a part without a missing row is not run.

    How a row rounds depends on the rows beside it. A part that is partly done therefore runs again
    with the same rows, until its missing rows are complete, and only these are stored.
    """
    found = {plan.key_of(attempt): attempt for attempt in done}
    left = [part for part in parts if any(row not in found for row in part)]
    unit = tr("problem") if plan.samples == 1 else tr("sample")
    options = {"initial": len(found), "smoothing": 0.0, "disable": not progress}
    with (
        HeldInterrupts(at_once=False, keep=True) as held,
        tqdm(total=plan.n_rows, unit=unit, **options) as bar,
    ):
        try:
            for part in left:
                with closing(run(part, found.keys() & set(part), bar)) as finished:
                    for attempt in finished:
                        found[plan.key_of(attempt)] = attempt
                        if store is not None:
                            store.add([attempt])
                        bar.update()
            held.hold()  # From here on, an interrupt would only lose the result.
        except KeyboardInterrupt:
            held.hold()
        return in_order(list(found.values()))


def _state(
    lab: Lab, problems: Sequence[Problem], prompts: Sequence[Sequence[int]], plan: SweepPlan
) -> dict[str, Any]:
    """What else of the lab determines the results: its weights, its tokens, its sampling."""
    direct = [lab.token_ids(_messages(p), thinking=False) for p in problems if plan.at_once]
    marks = lab.marks
    tokens = [[list(ids) for ids in prompts], direct, sorted(marks.ends), list(marks.early_stop)]
    modes = (True, False) if plan.sampling is None else ()
    return {
        "weights_and_tokens": digest([fingerprint(lab.model), tokens]),
        "published_sampling": tuple(lab.defaults.sampling(thinking=mode) for mode in modes),
    }


def _prompts(lab: Lab, problems: Sequence[Problem], plan: SweepPlan) -> list[list[int]]:
    if not problems:
        raise ValueError(tr("there is no problem: expected at least one question with its answer"))
    unanswered = [index for index, problem in enumerate(problems) if not problem.answer.strip()]
    if unanswered:
        raise ValueError(
            tr(
                "problem {unanswered} has no answer: expected one to grade the replies with",
                unanswered=unanswered[0],
            )
        )
    check_samples(plan.samples, len(problems))
    marks = lab.marks
    if marks.think is None or marks.end_think is None:
        raise ValueError(
            f"the tokenizer of {lab.name} has no <think> and </think>, so the model cannot think: "
            "load a Qwen3 chat model"
        )
    if not thinking_mode(lab.tokenizer, _messages(problems[0]), True):
        raise ValueError(
            tr(
                "the chat template of {name} does not make the model think, so budgets "
                "would change nothing: load a model that thinks",
                name=lab.name,
            )
        )
    if plan.at_once and thinking_mode(lab.tokenizer, _messages(problems[0]), False):
        raise ValueError(
            tr(
                "the chat template of {name} has no switch for thinking, so it cannot "
                "answer without thinking: pass at_once=False",
                name=lab.name,
            )
        )
    prompts = [lab.token_ids(_messages(problem), thinking=True) for problem in problems]
    longest = max(map(len, prompts))
    fixed = OPENING_TOKENS + len(marks.early_stop) + plan.answer_tokens
    largest = lab.config.n_ctx - longest - fixed
    if plan.budgets[-1] > largest:
        raise ValueError(
            tr(
                "a budget of {budgets} thinking tokens does not fit: with a prompt of "
                "{longest} and an answer of up to {answer_tokens} tokens, the context of "
                "{n_ctx} tokens allows at most {largest}",
                budgets=plan.budgets[-1],
                longest=longest,
                answer_tokens=plan.answer_tokens,
                n_ctx=lab.config.n_ctx,
                largest=max(largest, 0),
            )
        )
    return prompts


def _grader(problem: Problem) -> str:
    return getattr(problem, "grader", type(problem).__name__)


def _messages(problem: Problem) -> list[dict[str, str]]:
    return [{"role": "user", "content": problem.question}]


def _attempts(
    lab: Lab,
    problems: Sequence[Problem],
    prompts: Sequence[Sequence[int]],
    plan: SweepPlan,
    batch: int,
    rows: Sequence[SampleKey],
    done: Set[SampleKey],
    bar: tqdm,
) -> Attempts:
    """The attempts of a part's missing rows, each as soon as all of its answers have ended.

    The rows that are done run, too, so that a sweep which was resumed has the same values as one
    that was not interrupted.
    """
    at_once, direct = _without_thinking(lab, problems, plan, batch, rows)
    of_rows = [list(prompts[problem]) for problem, _ in rows]
    replies = _replies(lab, of_rows, plan, batch, rows, thinking=True)
    missing = {index for index, row in enumerate(rows) if row not in done}
    with closing(replies.steps(plan.budgets)) as steps:
        for complete in steps:
            bar.set_postfix_str(tr("step {n:,} of a part", n=replies.n_steps))
            for index, answers in complete:
                if index in missing:
                    missing.remove(index)
                    yield _attempt(
                        problems[rows[index][0]],
                        rows[index],
                        (len(of_rows[index]), len(direct[index])),
                        _thinking_text(lab, replies.guides[index]),
                        answers,
                        at_once[index],
                    )
            if not missing:
                return


def _without_thinking(
    lab: Lab,
    problems: Sequence[Problem],
    plan: SweepPlan,
    batch: int,
    rows: Sequence[SampleKey],
) -> tuple[list[Answer | None], list[list[int]]]:
    """The answers of a part's rows without thinking, and their prompts."""
    if not plan.at_once:
        return [None] * len(rows), [[] for _ in rows]
    direct = [lab.token_ids(_messages(problems[p]), thinking=False) for p, _ in rows]
    answers = _replies(lab, direct, plan, batch, rows, thinking=False).answers([0])
    return [answer for (answer,) in answers], direct


def _replies(
    lab: Lab,
    prompts: Sequence[Sequence[int]],
    plan: SweepPlan,
    batch: int,
    rows: Sequence[SampleKey],
    *,
    thinking: bool,
) -> BranchedReplies:
    return BranchedReplies(
        lab,
        prompts,
        sampling=plan.sampling or lab.defaults.sampling(thinking=thinking),
        seeds=[plan.seed_of(row) for row in rows],
        answer_tokens=plan.answer_tokens,
        batch=min(batch, len(rows)),
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


def _thinking_text(lab: Lab, guide: ReplyGuide) -> str:
    """The text between `<think>`, which may be in the prompt, and `</think>`."""
    text = lab.tokenizer.decode(guide.token_ids, skip_special_tokens=False)
    after_think = text if guide.opened else text.partition("<think>")[2]
    earlier, again, last = after_think.rpartition("<think>")
    return (earlier + again + last.partition("</think>")[0]).strip()
