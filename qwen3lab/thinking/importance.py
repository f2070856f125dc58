"""Measures which parts of a thinking matter: remove or resample each, compare the answers."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scipy.stats import entropy
from tqdm.auto import tqdm

from qwen3lab.generation.reply import Chat
from qwen3lab.generation.sampling import Sampling
from qwen3lab.lab import Lab
from qwen3lab.thinking.continuations import ContinuationSampler
from qwen3lab.thinking.pieces import Every, Piece, pieces

if TYPE_CHECKING:
    import pandas

HOW = ("leave out", "resample")
Shares = Mapping[str, float]
SMOOTHING = 0.5
"""Added to each answer's count, so that unseen answers have a non-zero probability."""


@dataclass(frozen=True)
class Cost:
    """The work of an importance measurement.

    Attributes:
        parts: number of parts of the thinking.
        continuations: number of replies to generate.
        most_tokens: maximum number of generated tokens.
        read_tokens: number of prefilled tokens.
    """

    parts: int
    continuations: int
    most_tokens: int
    read_tokens: int

    def __str__(self) -> str:
        return (
            f"{self.parts} parts, {self.continuations:,} continuations of at most "
            f"{self.most_tokens // max(self.continuations, 1):,} tokens: prefills "
            f"{self.read_tokens:,} and generates up to {self.most_tokens:,} tokens"
        )


@dataclass(frozen=True)
class Importance:
    """The effect of each part of a thinking on the answer.

    Attributes:
        how: "leave out" or "resample".
        parts: of the thinking.
        kept: for each part, the distribution over answers with the part.
        without: for each part, the distribution over answers without it.
        divergence: Kullback-Leibler divergence KL(without || kept), nats, with `SMOOTHING` added
            to the counts; nan if no continuation differed.
        distance: total variation distance: 0 for equal distributions, 1 for no common answer.
        differed: number of continuations without the part; with "leave out", all of them.
        samples: continuations of each kind.
    """

    how: str
    parts: tuple[Piece, ...]
    kept: tuple[Shares, ...]
    without: tuple[Shares, ...]
    divergence: tuple[float, ...]
    distance: tuple[float, ...]
    differed: tuple[int, ...]
    samples: int

    def to_pandas(self) -> "pandas.DataFrame":
        """A tidy table with one row per part.

        Columns: part, text, divergence, distance, differed, favourite, favourite_without.
        """
        import pandas

        return pandas.DataFrame(
            {
                "part": range(len(self.parts)),
                "text": [part.text for part in self.parts],
                "divergence": self.divergence,
                "distance": self.distance,
                "differed": self.differed,
                "favourite": [_favourite(shares) for shares in self.kept],
                "favourite_without": [_favourite(shares) for shares in self.without],
            }
        )


def importance_cost(
    chat: Chat,
    *,
    every: Every = "sentence",
    how: str = "leave out",
    samples: int = 20,
    max_new_tokens: int | None = None,
) -> Cost:
    """The work that `importance` would do with the same arguments; runs nothing."""
    parts = pieces(chat, every)
    n = (len(parts) + 1) * samples
    read = sum(len(prefix) for prefix in _prefixes(chat, parts, how))
    return Cost(len(parts), n, n * _longest(chat, how, max_new_tokens), read)


def importance(
    lab: Lab,
    chat: Chat,
    *,
    every: Every = "sentence",
    how: str = "leave out",
    read: Callable[[str], str] = str.strip,
    samples: int = 20,
    sampling: Sampling | None = None,
    seed: int = 0,
    max_new_tokens: int | None = None,
    progress: bool = True,
) -> Importance:
    """Measure how the distribution over answers changes without each part of a thinking.

    "leave out" removes the part, keeps the rest of the thinking, and samples answers. "resample"
    lets the model continue from before the part; it compares continuations that start with a
    different part to continuations from after the original part.

    Source: counterfactual importance of Thought Anchors (arXiv 2506.19143, section 3). Here, two
    parts differ if their texts differ, whitespace aside; the paper compares sentence embeddings.

    Args:
        lab: the model that generated the reply.
        chat: a finished reply with thinking.
        every: length of a part: a number of tokens, or "sentence".
        how: "leave out" or "resample"; see `importance_cost` for their work.
        read: normalises an answer, such as `GRADERS["last number"].read`.
        samples: continuations from each point.
        sampling: sampling parameters; None means the published ones for thinking.
        seed: base seed.
        max_new_tokens: maximum length of a continuation; None means 256 for "leave out", and
            twice the reply's length for "resample".
        progress: show a progress bar.

    Returns:
        The importance of each part.

    Raises:
        ValueError: the reply has no thinking, an unknown `how`, or `samples` below 1.
    """
    if how not in HOW:
        raise ValueError(f"how is {how!r}: expected “leave out” or “resample”")
    if samples < 1:
        raise ValueError(f"samples is {samples}: expected 1 or more")
    parts = pieces(chat, every)
    prefixes, chat_ids = _prefixes(chat, parts, how), [*chat.prompt_ids, *chat.token_ids]
    writer = ContinuationSampler(
        lab,
        sampling or Sampling.published(thinking=True),
        samples,
        seed,
        _longest(chat, how, max_new_tokens),
    )
    drawn = [writer.draw(prefix) for prefix in tqdm(prefixes, unit="part", disable=not progress)]
    read_all = [[read(text) for text in replies.answers] for replies in drawn]
    if how == "leave out":
        kept, without = [read_all[0]] * len(parts), read_all[1:]
    else:
        kept = read_all[1:]
        without = [
            [
                answer
                for answer, thought in zip(answers, replies.thoughts, strict=True)
                if writer.starts_differently(thought, chat_ids[part.start : part.end], every)
            ]
            for answers, replies, part in zip(read_all, drawn, parts, strict=False)
        ]
    return Importance(
        how=how,
        parts=tuple(parts),
        kept=tuple(map(_shares, kept)),
        without=tuple(map(_shares, without)),
        divergence=tuple(divergence(b, a) for a, b in zip(kept, without, strict=True)),
        distance=tuple(distance(a, b) for a, b in zip(kept, without, strict=True)),
        differed=tuple(map(len, without)),
        samples=samples,
    )


def divergence(p: Sequence[str], q: Sequence[str]) -> float:
    """Kullback-Leibler divergence D(p || q) of two samples of answers, in nats.

    Computed over the union of the answers, with `SMOOTHING` added to each count; nan if a sample
    is empty.
    """
    if not p or not q:
        return math.nan
    answers = sorted({*p, *q})
    counts = [[list(side).count(answer) + SMOOTHING for answer in answers] for side in (p, q)]
    return float(entropy(counts[0], counts[1]))


def distance(p: Sequence[str], q: Sequence[str]) -> float:
    """Total variation distance between two samples of answers; nan if a sample is empty."""
    if not p or not q:
        return math.nan
    of_p, of_q = _shares(p), _shares(q)
    return sum(abs(of_p.get(a, 0.0) - of_q.get(a, 0.0)) for a in {*p, *q}) / 2


def _shares(answers: Sequence[str]) -> Shares:
    return {answer: n / len(answers) for answer, n in Counter(answers).most_common()}


def _favourite(shares: Shares) -> str:
    return next(iter(shares), "")


def _longest(chat: Chat, how: str, wanted: int | None) -> int:
    if wanted is not None:
        return wanted
    return 256 if how == "leave out" else 2 * len(chat.token_ids)


def _prefixes(chat: Chat, parts: Sequence[Piece], how: str) -> list[list[int]]:
    """The token ids before each continuation.

    "leave out": the complete thinking, then the thinking without each part. "resample": the
    tokens before each part, then the complete thinking.
    """
    ids = [*chat.prompt_ids, *chat.token_ids]
    end = parts[-1].end
    if how == "resample":
        return [*(ids[: part.start] for part in parts), ids[:end]]
    close = ids[end : chat.spans["answer"][0]]
    complete = [ids[:end] + close]
    return complete + [ids[: part.start] + ids[part.end : end] + close for part in parts]
