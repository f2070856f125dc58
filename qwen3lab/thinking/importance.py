"""The importance of each part of a thinking text: how the answers change without it."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import scipy
import torch
from tqdm.auto import tqdm

from qwen3lab.display import Displayed, Summary, one_line
from qwen3lab.generation.decoding import decode
from qwen3lab.generation.reply import Chat
from qwen3lab.generation.sampling import Sampler, Sampling
from qwen3lab.generation.suggested import EMBEDDED
from qwen3lab.generation.thinking_control import ReplyGuide
from qwen3lab.lab import Lab
from qwen3lab.model.batching import pad_left
from qwen3lab.text.tokenizer import token_texts
from qwen3lab.thinking.cost import Cost, estimate
from qwen3lab.thinking.limits import check_samples
from qwen3lab.thinking.pieces import Every, Piece, piece_ends, pieces
from qwen3lab.translation import tr

if TYPE_CHECKING:
    import pandas

METHODS = ("leave out", "resample")
Shares = Mapping[str, float]
SMOOTHING = 0.5
"""Added to the count of each answer, so that no probability is 0 and the divergence is finite."""


@dataclass(frozen=True, repr=False)
class Importance(Displayed):
    """The effect of each part of a thinking text on the distribution over answers.

    Attributes:
        how: "leave out" or "resample".
        parts: the parts of the thinking text.
        kept: for each part, the distribution over answers with it.
        without: for each part, the distribution over answers without it.
        divergence: Kullback-Leibler divergence D(without || kept) in nats, with `SMOOTHING` added
            to the counts.
        distance: total variation distance of the two, from 0 (equal) to 1 (disjoint). If `without`
            is empty, both are 0 where all sampled answers agree, with and before the part, and nan
            elsewhere: no answer without the part was seen.
        differed: number of continuations in `without`: with "leave out" all, with "resample"
            those that begin with another part.
        samples: number of continuations per prefix.
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
        """A table with one row per part.

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
        facts = {
            tr("parts"): str(len(self.parts)),
            tr("how"): tr(self.how),
            tr("samples"): str(self.samples),
        }
        measured = [place for place, value in enumerate(self.distance) if not math.isnan(value)]
        if measured:
            place = max(measured, key=lambda n: self.distance[n])
            text = one_line(self.parts[place].text.strip(), width=40)
            facts[tr("greatest change")] = tr(
                "{distance:.2f} without part {place} ({text})",
                distance=self.distance[place],
                place=place,
                text=text,
            )
        return Summary(
            tr("Importance of the parts of a thinking text"), facts, frame=self._short_table
        )

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
    lab: Lab | None = None,
) -> Cost:
    """The cost of `importance` with the same arguments, computed without running the model.

    With `lab`, the model runs for a few steps, and the cost includes the time on this machine.
    """
    parts = pieces(chat, every)
    n_prefixes = len(parts) + 1
    read = sum(len(prefix) for prefix in _prefixes(chat, parts, how))
    steps = n_prefixes * _max_new_tokens(lab, chat, how, max_new_tokens)
    seconds = None
    if lab is not None:
        seconds = estimate(lab, read_tokens=read, steps=steps, rows=samples)
    return Cost(len(parts), n_prefixes * samples, steps * samples, read, seconds=seconds)


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
    """Measure how the distribution over answers changes without each part of a thinking text.

    "leave out" removes the part, keeps the rest of the thinking text, and samples answers.
    "resample" samples continuations from before the part. It compares the continuations that begin
    with another part with continuations after this part. This is the counterfactual importance of
    Thought Anchors (arXiv 2506.19143, section 3), with one difference: two parts differ if their
    texts without whitespace differ, while the paper compares sentence embeddings.

    Args:
        lab: the model that generated the reply.
        chat: a finished reply with thinking.
        every: size of a part: a number of tokens, a "sentence" or a "paragraph".
        how: "leave out" or "resample"; `importance_cost` computes the cost of each.
        read: extracts and normalises an answer, such as `GRADERS["last number"].read`.
        samples: number of continuations per prefix.
        sampling: how tokens are sampled; None for Qwen3's published settings for thinking.
        seed: of the sampling.
        max_new_tokens: maximum length of a continuation; None for `lab.suggested.answer_tokens`
            with "leave out", and for twice the length of the reply with "resample".
        progress: show a progress bar.

    Returns:
        The importance of each part.

    Raises:
        ValueError: the reply has no thinking, `how` is unknown, or `samples` is below 1.
    """
    if how not in METHODS:
        raise ValueError(tr("how is {how!r}: expected “leave out” or “resample”", how=how))
    check_samples(samples)
    parts = pieces(chat, every)
    prefixes, chat_ids = _prefixes(chat, parts, how), [*chat.prompt_ids, *chat.token_ids]
    sampler = _ContinuationSampler(
        lab,
        sampling or lab.defaults.sampling(thinking=True),
        samples,
        seed,
        _max_new_tokens(lab, chat, how, max_new_tokens),
    )
    bar = tqdm(prefixes, unit=tr("part"), disable=not progress)
    continuations = [sampler.sample(prefix) for prefix in bar]
    answers = [[read(text) for text in samples.answers] for samples in continuations]
    if how == "leave out":
        kept, without = [answers[0]] * len(parts), answers[1:]
    else:
        kept = answers[1:]
        without = [
            [
                answer
                for answer, thought in zip(sampled, samples.thoughts, strict=True)
                if sampler.begins_otherwise(thought, chat_ids[part.start : part.end], every)
            ]
            for sampled, samples, part in zip(answers, continuations, parts, strict=False)
        ]
    # "resample" compares with the answers from before the part if none began otherwise, and all
    # of these and those after it agree.
    before = answers[:-1] if how == "resample" else without
    compared = [
        b or (a if len({*a, *sampled}) == 1 else [])
        for a, b, sampled in zip(kept, without, before, strict=True)
    ]
    return Importance(
        how=how,
        parts=tuple(parts),
        kept=tuple(map(_shares, kept)),
        without=tuple(map(_shares, without)),
        divergence=tuple(divergence(b, a) for a, b in zip(kept, compared, strict=True)),
        distance=tuple(distance(a, b) for a, b in zip(kept, compared, strict=True)),
        differed=tuple(map(len, without)),
        samples=samples,
    )


def divergence(p: Sequence[str], q: Sequence[str]) -> float:
    """Kullback-Leibler divergence D(p || q) of two samples of answers, in nats.

    `SMOOTHING` is added to the count of each answer that occurs in `p` or `q`; nan if one of the
    samples is empty.
    """
    if not p or not q:
        return math.nan
    answers = sorted({*p, *q})
    counts = [[list(sample).count(answer) + SMOOTHING for answer in answers] for sample in (p, q)]
    return float(scipy.stats.entropy(counts[0], counts[1]))


def distance(p: Sequence[str], q: Sequence[str]) -> float:
    """Total variation distance of two samples of answers, from 0 to 1; nan if one is empty."""
    if not p or not q:
        return math.nan
    shares_p, shares_q = _shares(p), _shares(q)
    return sum(abs(shares_p.get(a, 0.0) - shares_q.get(a, 0.0)) for a in {*p, *q}) / 2


def _shares(answers: Sequence[str]) -> Shares:
    return {answer: n / len(answers) for answer, n in Counter(answers).most_common()}


def _favourite(shares: Shares) -> str:
    return next(iter(shares), "")


def _max_new_tokens(lab: Lab | None, chat: Chat, how: str, given: int | None) -> int:
    if given is not None:
        return given
    if how == "resample":
        return 2 * len(chat.token_ids)
    return EMBEDDED.answer_tokens if lab is None else lab.suggested.answer_tokens


def _prefixes(chat: Chat, parts: Sequence[Piece], how: str) -> list[list[int]]:
    """The token ids before each continuation.

    With "leave out": the complete thinking text, then the text without each part. With
    "resample": the text before each part, then the complete text.
    """
    ids = [*chat.prompt_ids, *chat.token_ids]
    end = parts[-1].end
    if how == "resample":
        return [*(ids[: part.start] for part in parts), ids[:end]]
    close = ids[end : chat.spans["answer"][0]]
    complete = [ids[:end] + close]
    return complete + [ids[: part.start] + ids[part.end : end] + close for part in parts]


@dataclass(frozen=True)
class _Continuations:
    """Sampled continuations: the token ids of the further thinking, and the answer of each."""

    thoughts: list[list[int]]
    answers: list[str]


class _ContinuationSampler:
    """Samples continuations of a prefix, all in one batch."""

    def __init__(
        self, lab: Lab, sampling: Sampling, samples: int, seed: int, max_new_tokens: int
    ) -> None:
        self.lab, self.sampling, self.samples, self.seed = lab, sampling, samples, seed
        self.max_new_tokens = max_new_tokens
        self.marks = lab.marks

    def sample(self, prefix: Sequence[int]) -> _Continuations:
        """Sample continuations of a prompt with the first part of a reply."""
        guides = [ReplyGuide(self.marks) for _ in range(self.samples)]
        ids = list(prefix)
        start = (
            len(ids) - 1 - ids[::-1].index(self.marks.think)
            if self.marks.think in ids
            else len(ids)
        )
        for guide in guides:
            for token in ids[start:]:
                guide.take(token)
        padded, _ = pad_left([ids[:-1]], self.lab.model.device)
        cache = self.lab.model.new_cache(capacity=len(ids))
        with self.lab.lock:
            with torch.no_grad():
                self.lab.model(padded, cache=cache, last_only=True)
            steps = decode(
                self.lab.decoder,
                [ids[-1:]] * self.samples,
                sampler=Sampler(self.sampling, seeds=range(self.seed, self.seed + self.samples)),
                guides=guides,
                max_new_tokens=min(self.max_new_tokens, self.lab.config.n_ctx - len(ids)),
                cache=cache.select([0] * self.samples),
            )
            for _ in steps:
                pass
        return _Continuations(
            [self._thinking_ids(guide.token_ids[len(ids) - start :]) for guide in guides],
            [self._text(guide.answer_ids) for guide in guides],
        )

    def begins_otherwise(self, thought: Sequence[int], part: Sequence[int], every: Every) -> bool:
        """True if the first piece of a thinking text differs from a part.

        The first piece is a sentence, or as many tokens as the part has. Whitespace is ignored.
        """
        size = every if isinstance(every, str) else len(part)
        ends = piece_ends(token_texts(self.lab.tokenizer, thought), size)
        return self._without_whitespace(thought[: ends[0]]) != self._without_whitespace(part)

    def _without_whitespace(self, token_ids: Sequence[int]) -> str:
        return "".join(self._text(token_ids).split())

    def _thinking_ids(self, token_ids: Sequence[int]) -> list[int]:
        """The token ids before `</think>` or an end token."""
        ends = {self.marks.end_think, *self.marks.ends}
        return list(itertools.takewhile(lambda token: token not in ends, token_ids))

    def _text(self, token_ids: Sequence[int]) -> str:
        kept = [token for token in token_ids if token not in self.marks.ends]
        return self.lab.tokenizer.decode(kept, skip_special_tokens=False).strip()
