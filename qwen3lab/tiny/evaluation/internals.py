"""Measurements inside an embedded model: loss on held-out texts, expert loads, head scores."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qwen3lab.analysis.heads import (
    attention_between,
    duplicate_token_score,
    induction_score,
    previous_token_score,
)
from qwen3lab.analysis.specialisation import Information, label_information
from qwen3lab.lab import Lab
from qwen3lab.recording.recording import Recording
from qwen3lab.tiny.world import lists
from qwen3lab.tiny.world.documents import Document, Writer
from qwen3lab.tiny.world.families import FAMILIES
from qwen3lab.tiny.world.problems import split_of
from qwen3lab.tiny.world.tokenizer import EARLY_STOP
from qwen3lab.translation import later

WORDS_PER_SEQUENCE, N_SEQUENCES = 20, 10
TEXTS_PER_BATCH = 16


@dataclass(frozen=True)
class Read:
    """A held-out document and the recording of a model on it."""

    family: str
    document: Document
    recording: Recording


@dataclass(frozen=True)
class Sink:
    """How much attention the first token of a chat draws.

    Attributes:
        by_head: mean attention from the later tokens to the first one, by layer and head.
        texts: number of chats with thinking.
    """

    by_head: list[list[float]]
    texts: int

    @property
    def best(self) -> "BestHead":
        """The head with most attention to the first token."""
        return _best_head("sink", torch.tensor(self.by_head))

    def above(self, threshold: float) -> int:
        """Number of heads above this mean attention."""
        return sum(score > threshold for layer in self.by_head for score in layer)


@dataclass(frozen=True)
class BestHead:
    """The head with the highest score of one kind."""

    kind: str
    layer: int
    head: int
    score: float


def read(lab: Lab, *, n: int, seed: int, families: Sequence[str] = tuple(FAMILIES)) -> list[Read]:
    """Record the model on random held-out documents, `n` of each family.

    Documents of families that think are chats with thinking, the others plain text.
    """
    writer, rng = Writer(lab.tokenizer, EARLY_STOP), random.Random(seed)
    documents: list[tuple[str, Document]] = []
    for family in (FAMILIES[name] for name in families):
        for _ in range(n):
            problem = family.draw(rng, rng.randint(family.least, family.most), "held-out")
            if family.thinks:
                document = writer.document(problem, "think", rng)
            else:
                document = writer.plain([problem])
            documents.append((family.name, document))
    recordings = _record_batches(lab, [document.token_ids for _, document in documents])
    return [Read(*text, recording) for text, recording in zip(documents, recordings, strict=True)]


def surplus(texts: Sequence[Read]) -> dict[str, float]:
    """Cross-entropy above the generator's entropy, nats per predictable token, by family.

    A token is predictable if the text before it determines it. The generator's entropy is zero
    at such tokens, so the surplus is the whole cross-entropy.
    """
    by_family: dict[str, list[Tensor]] = {}
    for text in texts:
        weights = torch.tensor(text.document.weights)
        losses = -text.recording.logprobs()
        by_family.setdefault(text.family, []).append(losses[weights[1:] == 1])
    return {family: float(torch.cat(losses).mean()) for family, losses in by_family.items()}


def sink_scores(texts: Sequence[Read]) -> Float[Tensor, "layer head"]:
    """The mean attention from later tokens to the first one, over chats with thinking.

    Source: the importance score of the first token in arXiv 2410.10781, without its attention to
    itself; there a head above 0.3 counts as a sink.

    Raises:
        ValueError: none of the texts is a chat with thinking.
    """
    recordings = [text.recording for text in texts if FAMILIES[text.family].thinks]
    if not recordings:
        raise ValueError("there are no chats with thinking: read some of a family that thinks")
    return torch.stack(
        [
            torch.stack([rec.attention.pattern(layer)[:, 1:, 0].mean(-1) for rec in recordings])
            for layer in range(recordings[0].config.n_layers)
        ]
    ).mean(dim=1)


def sink(texts: Sequence[Read]) -> Sink:
    """The attention sink on the chats with thinking among these texts."""
    n = sum(FAMILIES[text.family].thinks for text in texts)
    return Sink(sink_scores(texts).tolist(), n)


def routed(texts: Sequence[Read], n_experts: int) -> Float[Tensor, "layer document expert"]:
    """How often each expert was selected in each document, over tokens and top-k slots."""
    counts = [
        torch.stack([torch.bincount(layer.flatten(), minlength=n_experts) for layer in experts])
        for experts in (text.recording.routing.experts for text in texts)
    ]
    return torch.stack(counts, dim=1).float()


def family_information(
    texts: Sequence[Read], counts: Float[Tensor, "layer document expert"]
) -> list[Information]:
    """The mutual information of selected expert and text family, by layer."""
    names = list(FAMILIES)
    labels = torch.tensor([names.index(text.family) for text in texts])
    return [label_information(layer, labels) for layer in counts]


def best_heads(lab: Lab, *, seed: int) -> list[BestHead]:
    """The best head of each kind of `diagnostic_head_scores`."""
    return [
        _best_head(kind, scores) for kind, scores in diagnostic_head_scores(lab, seed=seed).items()
    ]


def diagnostic_head_scores(
    lab: Lab, *, seed: int, period: int = WORDS_PER_SEQUENCE
) -> dict[str, Float[Tensor, "layer head"]]:
    """Previous-token, duplicate-token, induction and look-up score of every head.

    The first three are measured on sequences of different words that are repeated once. The
    look-up score is measured on lists that are repeated in another order: the attention from the
    token before a repeated value to the first occurrence of that value.

    Args:
        lab: with the model.
        seed: of the texts.
        period: number of words in a sequence.
    """
    rng = random.Random(seed)
    sequences = [_repeated_sequence(lab, rng, period) for _ in range(N_SEQUENCES)]
    repeated = _record_batches(lab, sequences)
    look_ups = _record_batches(lab, [_look_up_text(rng) for _ in range(2 * N_SEQUENCES)])
    with_pairs = [(recording, *_look_up_pairs(recording)) for recording in look_ups]
    scores: dict[str, list[Tensor]] = {}
    for layer in range(lab.config.n_layers):
        patterns = [recording.attention.pattern(layer) for recording in repeated]
        kinds = {
            "previous token": [previous_token_score(p) for p in patterns],
            "duplicate token": [duplicate_token_score(p, period) for p in patterns],
            "induction": [induction_score(p, period) for p in patterns],
            later("look-up"): [
                attention_between(rec.attention.pattern(layer), queries, keys)
                for rec, queries, keys in with_pairs
            ],
        }
        for kind, by_text in kinds.items():
            scores.setdefault(kind, []).append(torch.stack(by_text).mean(dim=0))
    return {kind: torch.stack(by_layer) for kind, by_layer in scores.items()}


def _record_batches(lab: Lab, texts: Sequence[Sequence[int] | str]) -> list[Recording]:
    """Recordings of the texts, computed in batches."""
    return [
        recording
        for first in range(0, len(texts), TEXTS_PER_BATCH)
        for recording in lab.record_batch(texts[first : first + TEXTS_PER_BATCH])
    ]


def _best_head(kind: str, scores: Float[Tensor, "layer head"]) -> BestHead:
    layer, head = divmod(int(scores.argmax()), scores.shape[1])
    return BestHead(kind, layer, head, float(scores[layer, head]))


def _repeated_sequence(lab: Lab, rng: random.Random, period: int) -> list[int]:
    """Token ids of a sequence of different words, repeated once; each word is a single token."""
    words = rng.sample(lists.pool("en"), period)
    ids = [lab.tokenizer.encode(f" {word}", add_special_tokens=False) for word in words]
    assert all(len(word) == 1 for word in ids), "words of lists are single tokens"
    return [word[0] for word in ids] * 2


def _look_up_text(rng: random.Random) -> str:
    """A held-out list of eight entries, repeated in another order."""
    while True:
        problem = lists.look_up(rng, 8, rng.choice(("en", "zh")))
        if split_of(problem.key) == "held-out":
            return "".join(piece.text for piece in problem.passage)


def _look_up_pairs(recording: Recording) -> tuple[Int[Tensor, " pair"], Int[Tensor, " pair"]]:
    """Positions before the repeated values of a list, and of the first occurrence of each."""
    values = [position for position, text in enumerate(recording.tokens) if text.strip().isdigit()]
    words = _words_before(recording.tokens, values)
    first = dict(zip(words[:8], values[:8], strict=True))
    repeated = zip(words[8:], values[8:], strict=True)
    pairs = [(position - 1, first[word]) for word, position in repeated]
    queries, keys = zip(*pairs, strict=True)
    return torch.tensor(queries), torch.tensor(keys)


def _words_before(tokens: Sequence[str], values: Sequence[int]) -> list[str]:
    """The word before each value; `values` are positions."""
    return [next(t.strip() for t in reversed(tokens[:value]) if t.strip()) for value in values]
