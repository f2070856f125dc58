"""Analyses of one thinking text: kinds of sentences, forking tokens, attention from the answer."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.analysis.routing import layer_loads
from qwen3lab.arguments import checked
from qwen3lab.display import Displayed, Summary
from qwen3lab.generation.reply import Chat
from qwen3lab.recording.equality import EqualByValue
from qwen3lab.recording.labels import LabelledTensor
from qwen3lab.recording.recording import Recording
from qwen3lab.thinking.pieces import Piece
from qwen3lab.translation import later, tr

if TYPE_CHECKING:
    import pandas

_RULES = {
    "doubting": r"\b(wait|hmm+|hold on|actually|alternatively|on second thought|but no)\b"
    r"|等等|等一下|不对|或者说",
    "checking": r"\b(double.?check|check|verify|confirm|make sure|sanity)\b|检查|验证|确认|核对",
    "concluding": r"\b(therefore|thus|hence|so the answer|final answer|in conclusion)\b"
    r"|所以答案|因此|综上|最终答案",
    "restating": r"\b(the (question|problem) (is|asks|says|wants)|we (need|are asked|are given)"
    r"|i need to|we have to|given that|okay, so)\b|题目|问题是|已知|要求",
    "computing": r"\d\s*[-+*/^=×÷·<>%加减乘除]\s*\S|\S\s*[=≈]\s*\S"
    r"|^[\s.,=]*\d[\d\s.,=]*$",  # A short piece may hold a result alone.
}
KINDS = (
    later("doubting"),
    later("checking"),
    later("concluding"),
    later("restating"),
    later("computing"),
    later("other"),
)
"""Kinds of sentences; the first rule that matches decides: keywords, or arithmetic."""


@dataclass(frozen=True, repr=False, eq=False)
class Looks(EqualByValue, Displayed):
    """Attention from the positions that predict an answer, by part of the text.

    Attributes:
        names: "question", each piece of the thinking, and "rest": special tokens and the answer.
        mass: share of a head's attention, mean over the positions; sums to 1 over names.
        layers: the layer number of each row of `mass`.
    """

    names: tuple[str, ...]
    mass: Float[Tensor, "layer head name"]
    layers: tuple[int, ...] = ()

    def to_pandas(self) -> "pandas.DataFrame":
        """A table, a row per part: part, mean over heads, the head with the largest share."""
        import pandas

        n_heads = self.mass.shape[1]
        means, best = self.mass.mean(dim=(0, 1)).tolist(), self.mass.flatten(0, 1).max(dim=0)
        layers = self.layers or range(len(self.mass))
        heads = [f"layer {layers[n // n_heads]}, head {n % n_heads}" for n in best.indices.tolist()]
        columns = {"part": self.names, "mean": means, "head": heads, "its share": best.values}
        return pandas.DataFrame(columns)

    def _summary(self) -> Summary:
        facts = {tr("parts"): str(len(self.names)), tr("layers"): str(len(self.mass))}
        frame = self.to_pandas if self.mass.numel() else None
        return Summary(tr("Attention from the answer"), facts, frame=frame)


@checked
def sentence_kind(text: str) -> str:
    """The kind of a sentence: one of `KINDS`.

    Keyword rules for English and Chinese: "wait" counts as doubt in any context.
    """
    lower = text.lower()
    return next((kind for kind, rule in _RULES.items() if re.search(rule, lower)), "other")


@checked
def forking_tokens(chat: Chat, *, share: float = 0.2) -> list[int]:
    """Forking tokens: the thinking tokens with the highest entropy.

    Source: "forking tokens" are the top fifth by entropy in Wang et al. (arXiv 2506.01939),
    section 3. Inserted tokens and tokens of zero entropy are left out.

    Args:
        chat: a reply with thinking.
        share: of the thinking tokens.

    Returns:
        Positions in the conversation, in ascending order.

    Raises:
        ValueError: the share is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}: expected more than 0 and at most 1")
    n_prompt = chat.spans["prompt"][1]
    first, end = (place - n_prompt for place in chat.spans["thinking"])
    sampled = [place for place in range(first, end) if not bool(chat.forced[place])]
    n_most = round(share * len(sampled))
    uncertain = [place for place in sampled if float(chat.entropy[place]) > 0]
    ranked = sorted(uncertain, key=lambda place: -float(chat.entropy[place]))
    return sorted(place + n_prompt for place in ranked[:n_most])


@checked
def answer_looks(recording: Recording, parts: Sequence[Piece]) -> Looks:
    """Attention of each head from the positions that predict the answer.

    A position predicts the next token: the first position is the last token before the answer.

    Args:
        recording: of a chat, with its spans.
        parts: of the thinking, in order; from `thinking.pieces`.

    Raises:
        RecordingError: attention was not recorded.
        ValueError: there is no answer.
    """
    start, end = recording.spans.get("answer", (0, 0))
    if end <= start:
        raise ValueError("the recording has no answer: record a chat with an answer")
    spans = [recording.spans["prompt"], *((part.start, part.end) for part in parts)]
    layers = []
    for layer in recording.attention.some_layers:
        pattern = recording.attention.pattern(layer, queries=slice(start - 1, end - 1))
        mean = pattern.mean(dim=1)
        mass = torch.stack([mean[:, a:b].sum(dim=1) for a, b in spans], dim=1)
        layers.append(torch.cat([mass, 1 - mass.sum(dim=1, keepdim=True)], dim=1))
    names = (later("question"), *(part.text for part in parts), later("rest"))
    return Looks(names, torch.stack(layers), recording.attention.layers)


@checked
def part_loads(recording: Recording, part: str) -> Float[LabelledTensor, "layer expert"]:
    """Expert load of each layer on one part of a chat; rows sum to 1; none for a dense model.

    Args:
        recording: of a chat.
        part: "prompt", "thinking" or "answer".

    Raises:
        ValueError: no such part.
    """
    first, end = recording.spans.get(part, (0, 0))
    if end <= first:
        raise ValueError(f"the recording has no {part}: its parts are {list(recording.spans)}")
    return layer_loads(recording, tokens=slice(first, end))
