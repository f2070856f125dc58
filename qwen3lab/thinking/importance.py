"""Which parts of a thinking matter: take one away, and see what the answer becomes."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from scipy.stats import entropy
from tqdm.auto import tqdm

from qwen3lab.display import Displayed, Summary, one_line
from qwen3lab.generation.decoding import decode
from qwen3lab.generation.reply import Chat
from qwen3lab.generation.sampling import Sampler, Sampling
from qwen3lab.generation.thinking_control import ReplyGuide, marks_of
from qwen3lab.lab import Lab
from qwen3lab.model.batching import pad_left
from qwen3lab.text.tokenizer import token_texts
from qwen3lab.thinking.pieces import Every, Piece, piece_ends, pieces

if TYPE_CHECKING:
    import pandas

HOW = ("leave out", "resample")
Shares = Mapping[str, float]
SMOOTHING = 0.5
"""Added to each answer's count, so that an answer that never came has a chance, too."""


@dataclass(frozen=True)
class Cost:
    """What it takes to measure importance.

    Attributes:
        parts: of the thinking.
        continuations: replies to be written.
        most_tokens: tokens written at most.
        read_tokens: tokens read before.
    """

    parts: int
    continuations: int
    most_tokens: int
    read_tokens: int

    def __str__(self) -> str:
        return (
            f"{self.parts} parts, {self.continuations:,} continuations of at most "
            f"{self.most_tokens // max(self.continuations, 1):,} tokens: reads "
            f"{self.read_tokens:,} and writes up to {self.most_tokens:,} tokens"
        )


@dataclass(frozen=True, repr=False)
class Importance(Displayed):
    """How much the answer hangs on each part of a thinking.

    Attributes:
        how: "leave out" or "resample".
        parts: of the thinking.
        kept: distribution over answers with each part.
        without: distribution over answers without it.
        divergence: Kullback-Leibler divergence of the second from the first, nats, with
            `SMOOTHING` added to the counts; missing (nan) where nothing differed.
        distance: total variation between the two: 0 the same, 1 no answer in common.
        differed: continuations that began differently; all of them when a part is left out.
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
        """A tidy table, a row per part.

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

    def _summary(self) -> Summary:
        facts = {"parts": str(len(self.parts)), "how": self.how, "samples": str(self.samples)}
        measured = [place for place, value in enumerate(self.distance) if not math.isnan(value)]
        if measured:
            place = max(measured, key=lambda n: self.distance[n])
            text = one_line(self.parts[place].text.strip(), width=40)
            facts["greatest change"] = f"{self.distance[place]:.2f} without part {place} ({text})"
        return Summary("Importance of the parts of a thinking", facts, frame=self._short_table)

    def _short_table(self) -> "pandas.DataFrame":
        table = self.to_pandas()[["part", "text", "distance", "favourite", "favourite_without"]]
        texts = [one_line(text.strip(), width=50) for text in table["text"]]
        return table.assign(text=texts)


def importance_cost(
    chat: Chat,
    *,
    every: Every = "sentence",
    how: str = "leave out",
    samples: int = 20,
    max_new_tokens: int | None = None,
) -> Cost:
    """What `importance` is going to take with the same arguments; nothing runs."""
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

    "leave out" takes the part away, keeps all the rest as it was written, and draws answers.
    "resample" lets the model write on from before the part, and compares the continuations
    that begin with another part to those that were given this one: the counterfactual
    importance of Thought Anchors (arXiv 2506.19143, section 3), but that "another" means
    another text, blanks aside, where the paper asks a sentence embedding.

    Args:
        lab: the model that replied.
        chat: a finished reply that thinks.
        every: what a part is: so many tokens, or a "sentence".
        how: "leave out" or "resample"; `importance_cost` says what each takes.
        read: brings an answer into one spelling, such as `GRADERS["last number"].read`.
        samples: continuations from each point.
        sampling: how they are drawn; as published for thinking if None.
        seed: of the draw.
        max_new_tokens: longest continuation; if None, 256 for an answer, and twice what the
            reply took where the model thinks on.
        progress: show a progress bar.

    Returns:
        The importance of each part.

    Raises:
        ValueError: the reply has no thinking, or there is nothing to draw.
    """
    if how not in HOW:
        raise ValueError(f"how is {how!r}: expected “leave out” or “resample”")
    if samples < 1:
        raise ValueError(f"samples is {samples}: expected 1 or more")
    parts = pieces(chat, every)
    prefixes, chat_ids = _prefixes(chat, parts, how), [*chat.prompt_ids, *chat.token_ids]
    writer = _Writer(
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
                if writer.begins_otherwise(thought, chat_ids[part.start : part.end], every)
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

    Over the answers of both, with `SMOOTHING` added to each count; nan if one is empty.
    """
    if not p or not q:
        return math.nan
    answers = sorted({*p, *q})
    counts = [[list(side).count(answer) + SMOOTHING for answer in answers] for side in (p, q)]
    return float(entropy(counts[0], counts[1]))


def distance(p: Sequence[str], q: Sequence[str]) -> float:
    """Total variation between two samples of answers; nan if one is empty."""
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
    """What stands before each continuation.

    Where parts are left out: first the whole thinking, then each without one. Where they are
    resampled: what stands before each, then the whole.
    """
    ids = [*chat.prompt_ids, *chat.token_ids]
    end = parts[-1].end
    if how == "resample":
        return [*(ids[: part.start] for part in parts), ids[:end]]
    close = ids[end : chat.spans["answer"][0]]
    whole = [ids[:end] + close]
    return whole + [ids[: part.start] + ids[part.end : end] + close for part in parts]


@dataclass(frozen=True)
class _Drawn:
    """Continuations: the tokens of what each thought on, and what it answered."""

    thoughts: list[list[int]]
    answers: list[str]


class _Writer:
    """Draws continuations of a text, all of one text at once."""

    def __init__(
        self, lab: Lab, sampling: Sampling, samples: int, seed: int, max_new_tokens: int
    ) -> None:
        self.lab, self.sampling, self.samples, self.seed = lab, sampling, samples, seed
        self.max_new_tokens = max_new_tokens
        self.marks = marks_of(lab.tokenizer)

    def draw(self, prefix: Sequence[int]) -> _Drawn:
        """Continue a text that has been written up to somewhere in its reply."""
        guides = [ReplyGuide(self.marks) for _ in range(self.samples)]
        begun = list(prefix)
        start = (
            len(begun) - 1 - begun[::-1].index(self.marks.think)
            if (self.marks.think in begun)
            else len(begun)
        )
        for guide in guides:
            for token in begun[start:]:
                guide.take(token)
        ids, _ = pad_left([begun[:-1]], self.lab.model.device)
        cache = self.lab.model.new_cache(capacity=len(begun))
        with self.lab.lock:
            with torch.no_grad():
                self.lab.model(ids, cache=cache, last_only=True)
            steps = decode(
                self.lab.decoder,
                [begun[-1:]] * self.samples,
                sampler=Sampler(self.sampling, seeds=range(self.seed, self.seed + self.samples)),
                guides=guides,
                max_new_tokens=min(self.max_new_tokens, self.lab.config.n_ctx - len(begun)),
                cache=cache.select([0] * self.samples),
            )
            for _ in steps:
                pass
        return _Drawn(
            [self._thought(guide.token_ids[len(begun) - start :]) for guide in guides],
            [self._text(guide.answer_ids) for guide in guides],
        )

    def begins_otherwise(self, thought: Sequence[int], part: Sequence[int], every: Every) -> bool:
        """Whether a thinking begins with another sentence than a part, or other such tokens."""
        cut = every if isinstance(every, str) else len(part)
        ends = piece_ends(token_texts(self.lab.tokenizer, thought), cut)
        return self._bare(thought[: ends[0]]) != self._bare(part)

    def _bare(self, token_ids: Sequence[int]) -> str:
        """The text of tokens without its blanks."""
        return "".join(self._text(token_ids).split())

    def _thought(self, token_ids: Sequence[int]) -> list[int]:
        """What stands before the thinking's end, or the reply's."""
        over = {self.marks.end_think, *self.marks.ends}
        return list(itertools.takewhile(lambda token: token not in over, token_ids))

    def _text(self, token_ids: Sequence[int]) -> str:
        kept = [token for token in token_ids if token not in self.marks.ends]
        return self.lab.tokenizer.decode(kept, skip_special_tokens=False).strip()
