"""Forced answers: the answer that the model gives at each point of a finished thinking."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from qwen3lab.generation.reply import Chat
from qwen3lab.generation.sampling import Sampling
from qwen3lab.lab import Lab
from qwen3lab.thinking.pieces import Every, Piece, pieces
from qwen3lab.thinking.problems import Problem
from qwen3lab.thinking.rewind import Answer, Replies

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Convergence:
    """Forced answers along one thinking.

    Attributes:
        points: numbers of thinking tokens before each forced answer; from 0 to all.
        thoughts: the piece of thinking that ends at each point; None for the first point.
        answers: for each point, the sampled answers after normalisation by `read`.
        right: in the same layout, True if an answer is correct; None without a problem.
        chats_answer: normalised answer of the finished reply.
        thinking_tokens: length of the whole thinking.
    """

    points: tuple[int, ...]
    thoughts: tuple[Piece | None, ...]
    answers: tuple[tuple[str, ...], ...]
    right: tuple[tuple[bool, ...], ...] | None
    chats_answer: str
    thinking_tokens: int

    @property
    def favourites(self) -> tuple[str, ...]:
        """The most frequent answer at each point; among ties, the first one sampled."""
        return tuple(Counter(drawn).most_common(1)[0][0] for drawn in self.answers)

    def shares(self) -> list[Mapping[str, float]]:
        """The distribution over answers at each point."""
        return [
            {answer: count / len(drawn) for answer, count in Counter(drawn).most_common()}
            for drawn in self.answers
        ]

    @property
    def accuracy(self) -> tuple[float, ...] | None:
        """Share of correct answers at each point; None without a problem."""
        if self.right is None:
            return None
        return tuple(sum(drawn) / len(drawn) for drawn in self.right)

    @property
    def first_right(self) -> int | None:
        """Thinking tokens at the first point where at least half of the answers are correct.

        None if there is no such point, or without a problem.
        """
        reached = zip(self.points, self.accuracy or (), strict=False)
        return next((point for point, share in reached if share >= 0.5), None)

    @property
    def settled(self) -> int:
        """Thinking tokens at the first point after which the favourite answer does not change."""
        favourites = self.favourites
        i = len(favourites) - 1
        while i > 0 and favourites[i - 1] == favourites[-1]:
            i -= 1
        return self.points[i]

    @property
    def after(self) -> int:
        """Number of thinking tokens after the answer has settled."""
        return self.thinking_tokens - self.settled

    def to_pandas(self) -> "pandas.DataFrame":
        """A tidy table with one row per point and distinct answer.

        Columns: thinking_tokens, thought, answer, share, right.
        """
        import pandas

        rows = []
        for place, (point, shares) in enumerate(zip(self.points, self.shares(), strict=True)):
            thought = self.thoughts[place]
            for answer, share in shares.items():
                drawn = self.answers[place].index(answer)
                right = None if self.right is None else self.right[place][drawn]
                rows.append((point, thought.text if thought else "", answer, share, right))
        columns = ["thinking_tokens", "thought", "answer", "share", "right"]
        return pandas.DataFrame(rows, columns=columns)


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
    answer_tokens: int = 256,
    progress: bool = True,
) -> Convergence:
    """Force an answer at each point of a thinking with the early-stop sentence.

    Source: "forced answers" of Thought Anchors (arXiv 2506.19143), section 3; early-stop sentence
    of Qwen3's technical report (arXiv 2505.09388, section 4.3).

    Args:
        lab: the model that generated the reply.
        chat: a finished reply with thinking.
        every: distance of the points: a number of tokens, or "sentence".
        problem: grades the answers.
        read: normalises an answer, such as `GRADERS["last number"].read`; None means the
            problem's own `read`, or `str.strip` without a problem.
        samples: answers sampled at each point.
        sampling: sampling parameters; None means greedy for one sample, else the published ones.
        seed: sample `s` has the seed `seed + s`.
        answer_tokens: maximum length of an answer.
        progress: show a progress bar.

    Raises:
        ValueError: the reply has no thinking, or `samples` is below 1.
    """
    if read is None:
        read = str.strip if problem is None else problem.read
    cut = pieces(chat, every)
    points = [0, *(piece.kept for piece in cut)]
    replies = _from_chat(lab, chat, samples, sampling, seed, answer_tokens)
    # From the last point to the first, because the cache can only be rewound.
    last_first = tqdm(points[::-1], unit="point", disable=not progress)
    by_point = {point: _answers(replies, point) for point in last_first}
    answers = [by_point[point] for point in points]
    return Convergence(
        points=tuple(points),
        thoughts=(None, *cut),
        answers=tuple(tuple(read(answer.text) for answer in drawn) for drawn in answers),
        right=None
        if problem is None
        else tuple(tuple(problem.grade(answer.text) for answer in drawn) for drawn in answers),
        chats_answer=read(chat.answer),
        thinking_tokens=points[-1],
    )


def answers_at(
    lab: Lab,
    chat: Chat,
    points: Sequence[int],
    *,
    answer_tokens: int = 256,
    cancel: threading.Event | None = None,
) -> dict[int, Answer]:
    """Forced answers after given numbers of thinking tokens, by greedy decoding.

    Args:
        lab: the model that generated the reply.
        chat: a reply with thinking.
        points: numbers of thinking tokens.
        answer_tokens: maximum length of an answer.
        cancel: an event that another thread sets to stop early.

    Returns:
        The answers by number of thinking tokens; incomplete after a cancellation.

    Raises:
        ValueError: the reply has no thinking, or fewer thinking tokens than a point.
    """
    last = pieces(chat)[-1].kept
    for point in points:
        if not 0 <= point <= last:
            raise ValueError(f"the thinking has {last} tokens: {point} of them cannot be kept")
    replies = _from_chat(lab, chat, 1, None, 0, answer_tokens)
    answers = {}
    # From the last point to the first, because the cache can only be rewound.
    for point in sorted(set(points), reverse=True):
        if cancel is not None and cancel.is_set():
            break
        answers[point] = _answers(replies, point)[0]
    return answers


def _from_chat(
    lab: Lab,
    chat: Chat,
    samples: int,
    sampling: Sampling | None,
    seed: int,
    answer_tokens: int,
) -> Replies:
    """Copies of a finished reply, one for each sample."""
    if samples < 1:
        raise ValueError(f"samples is {samples}: expected 1 or more")
    published = Sampling.published(thinking=True)
    replies = Replies(
        lab,
        [chat.prompt_ids] * samples,
        sampling=sampling or (published if samples > 1 else Sampling.greedy()),
        seeds=range(seed, seed + samples),
        answer_tokens=answer_tokens,
    )
    replies.take(chat.token_ids, chat.forced.tolist())
    return replies


def _answers(replies: Replies, point: int) -> list[Answer]:
    """The answers after `point` thinking tokens; the thinking has at least this length."""
    answers = [answer for answer in replies.answer(point) if answer is not None]
    assert answers, f"the thinking ends before its token {point}"
    return answers
