"""What would it answer now? The answer at each point of a finished thinking."""

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
    """The answers along one thinking.

    Attributes:
        points: thinking tokens after which it was asked; 0 first, all of them last.
        thoughts: what was thought from the point before to each; empty for the first.
        answers: one list per point, with as many answers as were drawn; each as it was read.
        right: whether each is right, likewise; None if no problem was given.
        chats_answer: what the finished reply answered, as it was read.
        thinking_tokens: of the whole thinking.
    """

    points: tuple[int, ...]
    thoughts: tuple[Piece | None, ...]
    answers: tuple[tuple[str, ...], ...]
    right: tuple[tuple[bool, ...], ...] | None
    chats_answer: str
    thinking_tokens: int

    @property
    def favourites(self) -> tuple[str, ...]:
        """The most frequent answer at each point; of equals, the one that came first."""
        return tuple(Counter(drawn).most_common(1)[0][0] for drawn in self.answers)

    def shares(self) -> list[Mapping[str, float]]:
        """The distribution over answers at each point."""
        return [
            {answer: count / len(drawn) for answer, count in Counter(drawn).most_common()}
            for drawn in self.answers
        ]

    @property
    def accuracy(self) -> tuple[float, ...] | None:
        """The share of right answers at each point; None if no problem was given."""
        if self.right is None:
            return None
        return tuple(sum(drawn) / len(drawn) for drawn in self.right)

    @property
    def first_right(self) -> int | None:
        """Thinking tokens at the first point where at least half of the answers are right.

        None if there is none, or no problem was given.
        """
        reached = zip(self.points, self.accuracy or (), strict=False)
        return next((point for point, share in reached if share >= 0.5), None)

    @property
    def settled(self) -> int:
        """Thinking tokens at the first point from which on the favourite answer stays."""
        favourites = self.favourites
        place = len(favourites) - 1
        while place > 0 and favourites[place - 1] == favourites[-1]:
            place -= 1
        return self.points[place]

    @property
    def after(self) -> int:
        """Thinking tokens that came after the answer had settled."""
        return self.thinking_tokens - self.settled

    def to_pandas(self) -> "pandas.DataFrame":
        """A tidy table: thinking_tokens, thought, answer, share, right; a row per answer."""
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
    """Ask for the answer at each point of a thinking, by the early-stop sentence.

    Source: "forced answers" of Thought Anchors (arXiv 2506.19143), section 3; the sentence is
    that of Qwen3's technical report (arXiv 2505.09388, section 4.3).

    Args:
        lab: the model that replied.
        chat: a finished reply that thinks.
        every: after so many tokens, or after each "sentence".
        problem: says which answers are right.
        read: brings an answer into one spelling, such as `GRADERS["last number"].read`; if
            None, as the problem does, or without blanks at its ends.
        samples: answers drawn at each point.
        sampling: how; the most likely one if None and there is one sample, else as published.
        seed: of the draw; sample `s` has the seed `seed + s`.
        answer_tokens: longest answer.
        progress: show a progress bar.

    Raises:
        ValueError: the reply has no thinking, or there is nothing to draw.

    Example:
        >>> import qwen3lab
        >>> lab = qwen3lab.load("tiny-moe")
        >>> chat = lab.chat("3+2*7-1=?", seed=0)
        >>> found = qwen3lab.thinking.convergence(lab, chat, every=3, progress=False)
        >>> found.points, found.favourites
        ((0, 3, 6, 9, 10), ('④', '④', '④', '④', '④'))
        >>> found.settled, found.after  # it knew the answer before it thought
        (0, 10)
    """
    if read is None:
        read = str.strip if problem is None else problem.read
    cut = pieces(chat, every)
    points = [0, *(piece.kept for piece in cut)]
    replies = _given(lab, chat, samples, sampling, seed, answer_tokens)
    # The furthest first: the cache is rewound from point to point.
    furthest_first = tqdm(points[::-1], unit="point", disable=not progress)
    found = {point: _answers(replies, point) for point in furthest_first}
    answers = [found[point] for point in points]
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
    """What would be answered after so many thinking tokens, by the most likely tokens.

    Args:
        lab: the model that replied.
        chat: a reply that thinks.
        points: numbers of thinking tokens.
        answer_tokens: longest answer.
        cancel: set it from another thread to stop; the answers that are known by then are given.

    Raises:
        ValueError: the reply has no thinking, or fewer tokens of it.
    """
    last = pieces(chat)[-1].kept
    for point in points:
        if not 0 <= point <= last:
            raise ValueError(f"the thinking has {last} tokens: {point} of them cannot be kept")
    replies = _given(lab, chat, 1, None, 0, answer_tokens)
    found = {}
    # The furthest first: the cache is rewound from point to point.
    for point in sorted(set(points), reverse=True):
        if cancel is not None and cancel.is_set():
            break
        found[point] = _answers(replies, point)[0]
    return found


def _given(
    lab: Lab,
    chat: Chat,
    samples: int,
    sampling: Sampling | None,
    seed: int,
    answer_tokens: int,
) -> Replies:
    """The reply as it was written, once for each sample."""
    if samples < 1:
        raise ValueError(f"samples is {samples}: expected 1 or more")
    by_chance = Sampling.published(thinking=True)
    replies = Replies(
        lab,
        [chat.prompt_ids] * samples,
        sampling=sampling or (by_chance if samples > 1 else Sampling.greedy()),
        seeds=range(seed, seed + samples),
        answer_tokens=answer_tokens,
    )
    replies.take(chat.token_ids, chat.forced.tolist())
    return replies


def _answers(replies: Replies, point: int) -> list[Answer]:
    """The answers after so many thinking tokens, of which there are as many."""
    found = [answer for answer in replies.answer(point) if answer is not None]
    assert found, f"the thinking ends before its token {point}"
    return found
