"""What goes on inside an embedded model on held-out texts: loss, loads, experts, heads."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
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

PERIOD, N_SEQUENCES = 20, 10
IN_ONE_PASS = 16
"""Texts that are run together."""


@dataclass(frozen=True)
class Read:
    """A held-out document and what the model made of it."""

    family: str
    document: Document
    recording: Recording


@dataclass(frozen=True)
class BestHead:
    """The head that scores highest on some kind of behaviour."""

    kind: str
    layer: int
    head: int
    score: float


def read(lab: Lab, *, n: int, seed: int, families: Sequence[str] = tuple(FAMILIES)) -> list[Read]:
    """Held-out documents of these families, `n` of each, run through the model.

    Families that think are read as chats that think, the others as plain text.
    """
    writer, rng = Writer(lab.tokenizer, EARLY_STOP), random.Random(seed)
    drawn: list[tuple[str, Document]] = []
    for family in (FAMILIES[name] for name in families):
        for _ in range(n):
            problem = family.draw(rng, rng.randint(family.least, family.most), "held-out")
            if family.thinks:
                document = writer.document(problem, "think", rng)
            else:
                document = writer.plain([problem])
            drawn.append((family.name, document))
    recordings = _recorded(lab, [document.token_ids for _, document in drawn])
    return [Read(*text, recording) for text, recording in zip(drawn, recordings, strict=True)]


def surplus(texts: Sequence[Read]) -> dict[str, float]:
    """Cross-entropy above the generator's entropy, nats per predictable token, by family.

    A token is predictable where it follows from what stands before it; the generator's own
    entropy is zero there, so that all of the cross-entropy is surplus.
    """
    lost: dict[str, list[Tensor]] = {}
    for text in texts:
        ids = torch.tensor(text.document.token_ids)
        weights = torch.tensor(text.document.weights)
        losses = F.cross_entropy(text.recording.logits[:-1], ids[1:], reduction="none")
        lost.setdefault(text.family, []).append(losses[weights[1:] == 1])
    return {family: float(torch.cat(losses).mean()) for family, losses in lost.items()}


def routed(texts: Sequence[Read], n_experts: int) -> Float[Tensor, "layer document expert"]:
    """How many slots of each document went to each expert."""
    counts = [
        torch.stack([torch.bincount(layer.flatten(), minlength=n_experts) for layer in experts])
        for experts in (text.recording.routing.experts for text in texts)
    ]
    return torch.stack(counts, dim=1).float()


def family_information(
    texts: Sequence[Read], counts: Float[Tensor, "layer document expert"]
) -> list[Information]:
    """What the choice of experts says about a text's family, layer by layer."""
    names = list(FAMILIES)
    labels = torch.tensor([names.index(text.family) for text in texts])
    return [label_information(layer, labels) for layer in counts]


def best_heads(lab: Lab, *, seed: int) -> list[BestHead]:
    """The best head of each kind of `diagnostic_head_scores`."""
    return [_best(kind, scores) for kind, scores in diagnostic_head_scores(lab, seed=seed).items()]


def diagnostic_head_scores(
    lab: Lab, *, seed: int, period: int = PERIOD
) -> dict[str, Float[Tensor, "layer head"]]:
    """How much every head is a previous-token, duplicate-token, induction or look-up head.

    The first three on sequences of different words that are repeated once; a look-up head
    attends from the place before a value, in the second pass through a list, to the value
    in the first.

    Args:
        lab: with the model.
        seed: of the texts.
        period: words in a sequence.
    """
    rng = random.Random(seed)
    repeated = _recorded(lab, [_repeated(lab, rng, period) for _ in range(N_SEQUENCES)])
    lists_read = _recorded(lab, [_look_up(rng) for _ in range(2 * N_SEQUENCES)])
    looked = [(recording, *_lookups(recording)) for recording in lists_read]
    scores: dict[str, list[Tensor]] = {}
    for layer in range(lab.config.n_layers):
        patterns = [recording.attention.pattern(layer) for recording in repeated]
        kinds = {
            "previous token": [previous_token_score(p) for p in patterns],
            "duplicate token": [duplicate_token_score(p, period) for p in patterns],
            "induction": [induction_score(p, period) for p in patterns],
            "look-up": [
                attention_between(rec.attention.pattern(layer), queries, keys)
                for rec, queries, keys in looked
            ],
        }
        for kind, found in kinds.items():
            scores.setdefault(kind, []).append(torch.stack(found).mean(dim=0))
    return {kind: torch.stack(found) for kind, found in scores.items()}


def _recorded(lab: Lab, texts: Sequence[Sequence[int] | str]) -> list[Recording]:
    """Recordings of many texts, several of them in one pass."""
    return [
        recording
        for first in range(0, len(texts), IN_ONE_PASS)
        for recording in lab.record_batch(texts[first : first + IN_ONE_PASS])
    ]


def _best(kind: str, scores: Float[Tensor, "layer head"]) -> BestHead:
    layer, head = divmod(int(scores.argmax()), scores.shape[1])
    return BestHead(kind, layer, head, float(scores[layer, head]))


def _repeated(lab: Lab, rng: random.Random, period: int) -> list[int]:
    """A sequence of different words, each a single token, and the same once more."""
    words = rng.sample(lists.pool("en"), period)
    ids = [lab.tokenizer.encode(f" {word}", add_special_tokens=False) for word in words]
    assert all(len(word) == 1 for word in ids), "words of lists are single tokens"
    return [word[0] for word in ids] * 2


def _look_up(rng: random.Random) -> str:
    """A list of eight entries, and the same once more in another order."""
    while True:
        problem = lists.look_up(rng, 8, rng.choice(("en", "zh")))
        if split_of(problem.key) == "held-out":
            return "".join(piece.text for piece in problem.passage)


def _lookups(recording: Recording) -> tuple[Int[Tensor, " pair"], Int[Tensor, " pair"]]:
    """The places before the later values of a list, and where each value stood first."""
    values = [place for place, text in enumerate(recording.tokens) if text.strip().isdigit()]
    words = _keys(recording.tokens, values)
    first = dict(zip(words[:8], values[:8], strict=True))
    pairs = [(place - 1, first[word]) for word, place in zip(words[8:], values[8:], strict=True)]
    queries, keys = zip(*pairs, strict=True)
    return torch.tensor(queries), torch.tensor(keys)


def _keys(tokens: Sequence[str], values: Sequence[int]) -> list[str]:
    """The word before each value."""
    return [next(t.strip() for t in reversed(tokens[:place]) if t.strip()) for place in values]
