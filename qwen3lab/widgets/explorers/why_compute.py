"""Data of the why explorer's panes, computed from a recorded chat. Draws nothing."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab import attribution, lenses, patching
from qwen3lab.attribution import DirectAttribution
from qwen3lab.figures.maps import DIVERGING
from qwen3lab.figures.theme import visible
from qwen3lab.generation.reply import Chat
from qwen3lab.lab import Lab
from qwen3lab.lenses import Lens
from qwen3lab.lenses.shipped import ships
from qwen3lab.metrics import Metric, token_id
from qwen3lab.recording.recording import Recording
from qwen3lab.recording.rendered_logits import MAX_KEPT_VOCABULARY
from qwen3lab.text.tokenizer import token_texts
from qwen3lab.translation import tr
from qwen3lab.widgets.components.heatmap import Axis, Heatmap
from qwen3lab.widgets.explorers.chat_compute import token_axis
from qwen3lab.widgets.explorers.why_edits import other_ids
from qwen3lab.widgets.explorers.why_state import (
    EXPERTS,
    HEADS,
    JACOBIAN_LENS,
    LENSES,
    LOGIT_LENS,
    MLPS,
    OTHER_QUESTION,
    TUNED_LENS,
)

MAX_TOKENS_OF_LARGE_VOCABULARY = 48
"""Tokens before the picked one that the lens reads, if the vocabulary is large."""

N_TOP = 5
READ = {
    LOGIT_LENS: lenses.logit_lens,
    TUNED_LENS: lenses.tuned_lens,
    JACOBIAN_LENS: lenses.jacobian_lens,
}
SITE_OF = {HEADS: "z", EXPERTS: "expert", MLPS: "mlp_out", OTHER_QUESTION: "resid_post"}
KIND_OF = {HEADS: "head", EXPERTS: "expert", MLPS: "mlp", OTHER_QUESTION: "layer"}


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a token was written.

    Attributes:
        position: of the token in the conversation; the logits are those of the token before it.
        token_id: of the token.
        token: its text.
        other_id: the token that it is compared with.
        other: its text.
        lens: what the layers predict at the tokens before it.
        parts: what each part of the model adds to the difference of both logits.
    """

    position: int
    token_id: int
    token: str
    other_id: int
    other: str
    lens: Lens
    parts: DirectAttribution

    @property
    def metric(self) -> Metric:
        """The logit of the token minus that of the other one."""
        return patching.logit_difference(self.token_id, self.other_id)

    @cached_property
    def probability(self) -> Float[Tensor, "layer token"]:
        """Of the token as the next one. Read layer by layer: a long reading shows a bar."""
        rows = (replace(self.lens, places=(place,)) for place in self.lens.places)
        return torch.cat([row.probability(self.token_id).float() for row in rows])

    @cached_property
    def leads(self) -> list[int]:
        """The layers after which the token is the most probable next one at its place."""
        last = replace(self.lens, positions=self.lens.positions[-1:])
        return (last.rank(self.token_id)[:, 0] == 0).nonzero().flatten().tolist()


@dataclass(frozen=True, eq=False)
class Effects:
    """The effect of a change on the logit difference, for each layer and part.

    Attributes:
        effect: what was changed, one of `EFFECTS`.
        what: what a value means.
        values: NaN where nothing was run yet.
        columns: "head", "expert" or "token".
        positions: of the columns, if they are tokens.
        position: of the explained token.
    """

    effect: str
    what: str
    values: Float[Tensor, "layer column"]
    columns: str
    positions: tuple[int, ...]
    position: int


def needed(lab: Lab) -> tuple[str, ...]:
    """The hooks that a reply is recorded with."""
    return (*attribution.needed(lab), *lenses.NEEDED)


def recording_of(chat: Chat) -> Recording:
    """The recording of a reply.

    Raises:
        ValueError: it has none.
    """
    if chat.recording is None:
        raise ValueError(tr("the reply was not recorded: ask again with record=True"))
    return chat.recording


def offered_lenses(lab: Lab) -> tuple[str, ...]:
    """The logit lens, and the lenses that ship with the model."""
    return tuple(name for name in LENSES if name == LOGIT_LENS or ships(lab, name))


def explain(lab: Lab, chat: Chat, position: int, other: str, lens: str = LOGIT_LENS) -> Explanation:
    """Why the token at a position was written.

    Args:
        lab: that wrote it.
        chat: recorded with `needed`.
        position: of the token in the conversation.
        other: text of the token to compare with; empty for the most probable other one.
        lens: what reads the layers, one of `offered_lenses`.

    Raises:
        ValueError: the first token of the conversation, or a text that is not one other token.
        CheckpointError: no such lens ships with the model.
    """
    if position < 1:
        raise ValueError(
            tr("nothing comes before the first token, so nothing predicts it: pick a later token")
        )
    ids, recording = [*chat.prompt_ids, *chat.token_ids], recording_of(chat)
    if position > len(recording) or position >= len(ids):
        raise ValueError(
            tr("token {position} was not recorded: pick an earlier token", position=position)
        )
    written, before = ids[position], position - 1
    other_id = _other(lab, recording.logits[before], written, other)
    first = 0
    if lab.config.d_vocab > MAX_KEPT_VOCABULARY:
        first = max(0, position - MAX_TOKENS_OF_LARGE_VOCABULARY)
    texts = token_texts(lab.tokenizer, [written, other_id])
    return Explanation(
        position=position,
        token_id=written,
        token=texts[0],
        other_id=other_id,
        other=texts[1],
        lens=READ[lens](lab, recording, positions=slice(first, position)),
        parts=attribution.direct(lab, recording, written, other=other_id, position=before),
    )


def next_of(chat: Chat, position: int) -> int:
    """The token that a position of the conversation predicts; the last one has none but itself."""
    return min(position + 1, len(chat.prompt_ids) + len(chat.token_ids) - 1)


def lens_heatmap(found: Explanation) -> Heatmap:
    """The probability of the explained token as the next one, at each layer and token."""
    lens = found.lens
    return Heatmap(
        title=tr(
            "Probability of “{token}” as the next token, layer by layer",
            token=visible(found.token),
        ),
        values=found.probability,
        rows=Axis(tr("layer"), tr("layer"), ("",) * len(lens.places)),
        columns=token_axis(lens.recording, lens.positions),
        value_title=tr("probability"),
    )


def lens_notes(found: Explanation, layer: int) -> list[str]:
    """What a layer predicts in place of the explained token, and where that token first leads."""
    logits = found.lens.logits(layer)[-1].float()
    top = logits.softmax(dim=-1).topk(N_TOP)
    texts = token_texts(found.lens.lab.tokenizer, top.indices.tolist())
    shown = ", ".join(
        f"“{visible(text)}” {value:.2f}"
        for text, value in zip(texts, top.values.tolist(), strict=True)
    )
    leads = found.leads
    first = (
        tr("it leads first after layer {layer}", layer=leads[0])
        if leads
        else tr("it leads after no layer")
    )
    return [
        tr(
            "Token {position} “{token}”: {first}",
            position=found.position,
            token=visible(found.token),
            first=first,
        ),
        tr("After layer {layer} the model would write {shown}", layer=layer, shown=shown),
    ]


def effects(
    lab: Lab, chat: Chat, found: Explanation, effect: str, other_question: str
) -> Iterator[Effects]:
    """The map of effects, layer by layer; each one is more complete than the one before.

    Raises:
        ValueError: the other question has another number of tokens, or the model no such parts.
    """
    ids = [*chat.prompt_ids, *chat.token_ids][: found.position]
    site = SITE_OF[effect]
    options: dict[str, Any] = {"site": site, "metric": found.metric, "progress": False}
    if effect == OTHER_QUESTION:
        other = other_ids(lab, chat, found.position, other_question)
        options |= {"clean": ids, "corrupt": other, "direction": "noise"}
    layers = lab.config.moe_layers if effect == EXPERTS else range(lab.config.n_layers)
    rows: dict[int, Tensor] = {}
    for layer in layers:
        if effect == OTHER_QUESTION:
            result = patching.patch(lab, layers=[layer], **options)
        else:
            result = patching.ablate(lab, ids, layers=[layer], **options)
        rows[layer] = result.effects[0].float()
        yield Effects(
            effect=effect,
            what=_meaning(effect, found),
            values=_table(rows, lab.config.n_layers),
            columns=result.axes[1],
            positions=result.positions,
            position=found.position,
        )


def effects_heatmap(found: Effects, chat: Chat) -> Heatmap:
    """The map of effects, with signed colours."""
    size = max(float(found.values.nan_to_num().abs().max()), 1e-6)
    n = found.values.shape[1]
    axis = Axis(tr(found.columns), tr(found.columns), ("",) * n)
    if found.columns == "token":
        axis = token_axis(recording_of(chat), found.positions)
    return Heatmap(
        title=tr("The run {effect}", effect=tr(found.effect)),
        values=found.values,
        rows=Axis(tr("layer"), tr("layer"), ("",) * len(found.values)),
        columns=axis,
        value_title=found.what,
        low=-size,
        high=size,
        nothing=tr("not run"),
        palette=DIVERGING,
    )


def part_at(found: Effects, layer: int, column: int) -> tuple[str, int, int]:
    """The part of the model that a cell of the map is about: kind, layer, number."""
    number = found.positions[column] if found.columns == "token" else column
    return KIND_OF[found.effect], layer, number


def cell_of(found: Effects, part: tuple[str, int, int]) -> tuple[int, int]:
    """The cell of the map that is about a part, -1 for a side that is not marked."""
    kind, layer, number = part
    if kind != KIND_OF[found.effect]:
        return -1, -1
    is_there = found.columns != "token" or number in found.positions
    if found.columns == "token" and is_there:
        number = found.positions.index(number)
    return layer, number if is_there else -1


def part_called(found: Explanation, name: str) -> tuple[str, int, int] | None:
    """The part of a name of the attribution, such as `head 3.0`; None for one outside of layers."""
    for part in found.parts.parts:
        if part.title == name and part.layer is not None:
            return part.kind, part.layer, -1 if part.index is None else part.index
    return None


def part_label(part: tuple[str, int, int]) -> str:
    """The name of a part in the attribution; the opposite of `part_called`."""
    kind, layer, number = part
    return f"{tr(kind)} {layer}" if kind == "mlp" else f"{tr(kind)} {layer}.{number}"


def part_name(part: tuple[str, int, int]) -> str:
    """Such as `head 3.0`, `MLP of layer 2`, or `layer 4, token 12`."""
    kind, layer, number = part
    if kind in ("head", "expert"):
        return f"{tr(kind)} {layer}.{number}"
    where = (
        tr("layer {layer}", layer=layer)
        if number < 0
        else tr("layer {layer}, token {number}", layer=layer, number=number)
    )
    return tr("MLP of {where}", where=where) if kind == "mlp" else where


def _other(lab: Lab, logits: Float[Tensor, " vocab"], written: int, text: str) -> int:
    if text:
        chosen = token_id(lab, text)
        if chosen == written:
            raise ValueError(
                tr("“{text}” is the token itself: compare with another one", text=visible(text))
            )
        return chosen
    best = logits.float().topk(2).indices.tolist()
    return best[1] if best[0] == written else best[0]


def _meaning(effect: str, found: Explanation) -> str:
    what = tr(
        "logit “{token}” - logit “{other}”",
        token=visible(found.token),
        other=visible(found.other),
    )
    if effect == OTHER_QUESTION:
        return tr("{what}: 0 as it is, -1 as with the other question", what=what)
    return tr("change of {what} (logits)", what=what)


def _table(rows: Mapping[int, Tensor], n_layers: int) -> Float[Tensor, "layer column"]:
    table = torch.full((n_layers, len(next(iter(rows.values())))), torch.nan)
    for layer, row in rows.items():
        table[layer] = row
    return table
