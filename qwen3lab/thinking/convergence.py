"""Early answers: the answer of the model at each point of a finished thinking text."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from qwen3lab.display import Displayed, Summary, one_line
from qwen3lab.generation.reply import Chat
from qwen3lab.generation.sampling import Sampling
from qwen3lab.lab import Lab
from qwen3lab.thinking.cost import Cost, estimate
from qwen3lab.thinking.limits import check_samples
from qwen3lab.thinking.pieces import Every, Piece, pieces
from qwen3lab.thinking.problems import Problem
from qwen3lab.thinking.rewind import Answer, Replies
from qwen3lab.translation import tr

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, repr=False)
class Convergence(Displayed):
    """The answers at the points of one thinking text.

    Attributes:
        points: number of thinking tokens before each point; the first is 0, the last is all.
        thoughts: the piece of thinking between the previous point and each point; None for the
            first.
        answers: the sampled answers at each point, normalised by `read`.
        right: for each of them, True if it is right; None without a problem.
        chats_answer: the answer of the finished reply, normalised by `read`.
        thinking_tokens: number of tokens of the thinking text.
    """

    points: tuple[int, ...]
    thoughts: tuple[Piece | None, ...]
    answers: tuple[tuple[str, ...], ...]
    right: tuple[tuple[bool, ...], ...] | None
    chats_answer: str
    thinking_tokens: int

    @property
    def favourites(self) -> tuple[str, ...]:
        """The most frequent answer at each point; in a tie, the one that was sampled first."""
        return tuple(Counter(samples).most_common(1)[0][0] for samples in self.answers)

    def shares(self) -> list[Mapping[str, float]]:
        """The distribution over answers at each point."""
        return [
            {answer: count / len(samples) for answer, count in Counter(samples).most_common()}
            for samples in self.answers
        ]

    @property
    def accuracy(self) -> tuple[float, ...] | None:
        """The share of right answers at each point; None without a problem."""
        if self.right is None:
            return None
        return tuple(sum(samples) / len(samples) for samples in self.right)

    @property
    def first_right(self) -> int | None:
        """Thinking tokens at the first point where at least half of the answers are right.

        None if there is no such point, or without a problem.
        """
        shares = zip(self.points, self.accuracy or (), strict=False)
        return next((point for point, share in shares if share >= 0.5), None)

    @property
    def settled(self) -> int:
        """Thinking tokens at the first point after which the favourite does not change."""
        favourites = self.favourites
        index = len(favourites) - 1
        while index > 0 and favourites[index - 1] == favourites[-1]:
            index -= 1
        return self.points[index]

    @property
    def after(self) -> int:
        """Number of thinking tokens after the favourite has settled."""
        return self.thinking_tokens - self.settled

    def to_pandas(self) -> "pandas.DataFrame":
        """A table with one row per point and answer.

        Columns: thinking_tokens, thought, answer, share, right.
        """
        import pandas

        rows = []
        for index, (point, shares) in enumerate(zip(self.points, self.shares(), strict=True)):
            thought = self.thoughts[index]
            for answer, share in shares.items():
                sample = self.answers[index].index(answer)
                right = None if self.right is None else self.right[index][sample]
                rows.append((point, thought.text if thought else "", answer, share, right))
        columns = ["thinking_tokens", "thought", "answer", "share", "right"]
        return pandas.DataFrame(rows, columns=columns)

    def _summary(self) -> Summary:
        facts = {
            tr("points"): str(len(self.points)),
            tr("last favourite"): one_line(self.favourites[-1], width=40) or tr("no answer"),
            tr("settled after"): tr(
                "{settled:,} of {thinking_tokens:,} thinking tokens",
                settled=self.settled,
                thinking_tokens=self.thinking_tokens,
            ),
        }
        if self.right is not None:
            first = self.first_right
            facts[tr("first right after")] = (
                tr("never") if first is None else tr("{first:,} thinking tokens", first=first)
            )
        return Summary(tr("Convergence of the answer"), facts, frame=self._by_point)

    def _by_point(self) -> "pandas.DataFrame":
        import pandas

        shares = [share[name] for share, name in zip(self.shares(), self.favourites, strict=True)]
        thoughts = ["" if piece is None else piece.text.strip() for piece in self.thoughts]
        return pandas.DataFrame(
            {
                "thinking tokens": self.points,
                "thought": [one_line(thought, width=50) for thought in thoughts],
                "favourite": [one_line(name, width=40) for name in self.favourites],
                "share": shares,
            }
        )


def convergence(
    lab: Lab,
    chat: Chat,
    *,
    every: Every = "sentence",
    problem: Problem | None = None,
    read: Callable[[str], str] | None = None,
    samples: int = 1,
    sampling: Sampling | None = None,
    seed: int = 0,
    answer_tokens: int | None = None,
    progress: bool = True,
) -> Convergence:
    """Sample answers at each point of a thinking text, by inserting the early-stop sentence.

    Source: "forced answers" of Thought Anchors (arXiv 2506.19143), section 3; the sentence is
    that of Qwen3's technical report (arXiv 2505.09388, section 4.3).

    Args:
        lab: the model that generated the reply.
        chat: a finished reply with thinking.
        every: distance between two points: a number of tokens, a "sentence" or a "paragraph".
        problem: grades the answers.
        read: extracts and normalises an answer, such as `GRADERS["last number"].read`; None for
            the problem's own `read`, or for `str.strip` without a problem.
        samples: number of answers at each point.
        sampling: how tokens are sampled; None for greedy decoding with one sample, and for
            Qwen3's published settings with several.
        seed: sample `s` has the seed `seed + s`.
        answer_tokens: maximum number of tokens of an answer; None for that of `lab.suggested`.
        progress: show a progress bar.

    Raises:
        ValueError: the reply has no thinking, or `samples` is below 1.

    Example:
        >>> import qwen3lab
        >>> lab = qwen3lab.load("tiny-moe")
        >>> chat = lab.chat("7+2*3=?", seed=0)  # it thinks 7+2=9, 9*3=27
        >>> found = qwen3lab.thinking.convergence(lab, chat, every=4, progress=False)
        >>> found.points, found.favourites
        ((0, 4, 8, 12, 13), ('12', '11', '21', '27', '27'))
        >>> found.settled, found.after  # it knew the answer once it was written
        (12, 1)
    """
    if read is None:
        read = str.strip if problem is None else problem.read
    thoughts = pieces(chat, every)
    points = [0, *(piece.kept for piece in thoughts)]
    replies = _forced_replies(lab, chat, samples, sampling, seed, answer_tokens)
    # The last point first, because the KV cache can only be rewound to an earlier point.
    last_first = tqdm(points[::-1], unit=tr("point"), disable=not progress)
    by_point = {point: _answers(replies, point) for point in last_first}
    answers = [by_point[point] for point in points]
    return Convergence(
        points=tuple(points),
        thoughts=(None, *thoughts),
        answers=tuple(tuple(read(answer.text) for answer in sampled) for sampled in answers),
        right=None
        if problem is None
        else tuple(tuple(problem.grade(answer.text) for answer in sampled) for sampled in answers),
        chats_answer=read(chat.answer),
        thinking_tokens=points[-1],
    )


def convergence_cost(
    lab: Lab,
    chat: Chat,
    *,
    every: Every = "sentence",
    samples: int = 1,
    answer_tokens: int | None = None,
) -> Cost:
    """The cost of `convergence` with the same arguments; the model runs for a few steps only."""
    n_points, read = len(pieces(chat, every)) + 1, len(chat.prompt_ids) + len(chat.token_ids)
    steps = n_points * (answer_tokens or lab.suggested.answer_tokens)
    seconds = estimate(lab, read_tokens=read, steps=steps, rows=samples)
    return Cost(n_points, n_points * samples, steps * samples, read, "point", seconds)


def answers_at(
    lab: Lab,
    chat: Chat,
    points: Sequence[int],
    *,
    answer_tokens: int | None = None,
    cancel: threading.Event | None = None,
    on_answer: Callable[[int, Answer], None] | None = None,
) -> dict[int, Answer]:
    """The greedily decoded answer after each given number of thinking tokens.

    Args:
        lab: the model that generated the reply.
        chat: a reply with thinking.
        points: numbers of thinking tokens.
        answer_tokens: maximum number of tokens of an answer; None for that of `lab.suggested`.
        cancel: event that stops the computation after its next token when another thread sets it.
        on_answer: called with each point and its answer as soon as the answer is complete; the
            last point is the first.

    Returns:
        The answers by point; after a cancellation, those that were complete before it.

    Raises:
        ValueError: the reply has no thinking, or a point is beyond its thinking tokens.
    """
    last = pieces(chat)[-1].kept
    for point in points:
        if not 0 <= point <= last:
            raise ValueError(
                tr(
                    "point {point} does not exist: the thinking has {last} tokens, so "
                    "expected 0 to {last}",
                    point=point,
                    last=last,
                )
            )
    # The last point first, because the KV cache can only be rewound to an earlier point.
    last_first = sorted(set(points), reverse=True)
    answers: dict[int, Answer] = {}
    if not last_first or (cancel is not None and cancel.is_set()):
        return answers
    replies = _forced_replies(
        lab, chat, 1, None, 0, answer_tokens, most=last_first[0], cancel=cancel
    )
    for point in last_first:
        answer = _answers(replies, point)[0]
        if cancel is not None and cancel.is_set():
            break
        answers[point] = answer
        if on_answer is not None:
            on_answer(point, answer)
    return answers


def _forced_replies(
    lab: Lab,
    chat: Chat,
    samples: int,
    sampling: Sampling | None,
    seed: int,
    answer_tokens: int | None,
    *,
    most: int | None = None,
    cancel: threading.Event | None = None,
) -> Replies:
    """The finished reply, or its first `most` thinking tokens, in the KV cache of each sample."""
    check_samples(samples)
    published = lab.defaults.sampling(thinking=True)
    replies = Replies(
        lab,
        [chat.prompt_ids] * samples,
        sampling=sampling or (published if samples > 1 else Sampling.greedy()),
        seeds=range(seed, seed + samples),
        answer_tokens=answer_tokens or lab.suggested.answer_tokens,
        cancel=cancel,
    )
    replies.take(chat.token_ids, chat.inserted.tolist(), most=most)
    return replies


def _answers(replies: Replies, point: int) -> list[Answer]:
    """The answers after `point` thinking tokens, one per sample."""
    answers = [answer for answer in replies.answer(point) if answer is not None]
    assert answers, f"the thinking has fewer than {point} tokens"
    return answers
