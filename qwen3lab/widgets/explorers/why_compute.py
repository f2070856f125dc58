"""Data of the why explorer's panes, computed from a recorded chat. Draws nothing."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab import attribution, lenses, patching, steering
from qwen3lab.attribution import DirectAttribution
from qwen3lab.figures.maps import DIVERGING
from qwen3lab.figures.theme import visible
from qwen3lab.generation.reply import Chat
from qwen3lab.interventions import rerouting
from qwen3lab.lab import Lab
from qwen3lab.lenses import Lens
from qwen3lab.lenses.shipped import ships
from qwen3lab.metrics import Metric, token_id
from qwen3lab.recording.recording import Recording
from qwen3lab.recording.rendered_logits import MAX_KEPT_VOCABULARY
from qwen3lab.text.tokenizer import token_texts
from qwen3lab.widgets.components.heatmap import Axis, Heatmap
from qwen3lab.widgets.explorers.chat_compute import token_spans
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
        raise ValueError("the reply was not recorded: ask again with record=True")
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
            "nothing comes before the first token, so nothing predicts it: pick a later token"
        )
    ids, recording = [*chat.prompt_ids, *chat.token_ids], recording_of(chat)
    if position > len(recording):
        raise ValueError(f"token {position} was not recorded: pick an earlier token")
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


def lens_heatmap(found: Explanation) -> Heatmap:
    """The probability of the explained token as the next one, at each layer and token."""
    lens = found.lens
    spans = token_spans(lens.recording) if lens.positions[0] == 0 else ()
    tokens = Axis("token", "token", tuple(lens.tokens), spans, first=lens.positions[0])
    return Heatmap(
        title=f"Probability of {visible(found.token)} as the next token, layer by layer",
        values=lens.probability(found.token_id).float(),
        rows=Axis("layer", "layer", ("",) * len(lens.places)),
        columns=tokens,
        value_title="probability",
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
    leads = (found.lens.rank(found.token_id)[:, -1] == 0).nonzero().flatten().tolist()
    first = f"it leads first after layer {leads[0]}" if leads else "it never leads before the end"
    return [
        f"Token {found.position} “{visible(found.token)}”: {first}",
        f"After layer {layer} the model would write {shown}",
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
    corrupt = _other_ids(lab, chat, ids, other_question) if effect == OTHER_QUESTION else []
    layers = lab.config.moe_layers if effect == EXPERTS else range(lab.config.n_layers)
    rows: dict[int, Tensor] = {}
    for layer in layers:
        if effect == OTHER_QUESTION:
            result = patching.patch(lab, clean=ids, corrupt=corrupt, layers=[layer], **options)
        else:
            result = patching.ablate(lab, ids, layers=[layer], **options)
        rows[layer] = result.values[0].float()
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
    labels, spans = ("",) * n, ()
    if found.columns == "token":
        recording = recording_of(chat)
        labels = tuple(recording.tokens[place] for place in found.positions)
        spans = token_spans(recording) if n == found.position else ()
    return Heatmap(
        title=f"The run {found.effect}",
        values=found.values,
        rows=Axis("layer", "layer", ("",) * len(found.values)),
        columns=Axis(found.columns, found.columns, labels, spans),
        value_title=found.what,
        low=-size,
        high=size,
        nothing="not run",
        palette=DIVERGING,
    )


def part_at(found: Effects, layer: int, column: int) -> tuple[str, int, int]:
    """The part of the model that a cell of the map is about: kind, layer, number."""
    kind = KIND_OF[found.effect]
    return kind, layer, column if kind in ("head", "expert") else -1


def part_name(part: tuple[str, int, int]) -> str:
    """Such as `head 3.0`, `MLP of layer 2`, or `layer 4`."""
    kind, layer, number = part
    if kind == "mlp":
        return f"MLP of layer {layer}"
    return f"layer {layer}" if kind == "layer" else f"{kind} {layer}.{number}"


def removal(part: tuple[str, int, int]) -> Any:
    """The edits that take a part away; a layer cannot be taken away."""
    kind, layer, number = part
    if kind == "expert":
        return rerouting.off(number, layers=layer)
    if kind == "mlp":
        return {f"blocks.{layer}.hook_mlp_out": lambda value, name: torch.zeros_like(value)}
    if kind == "head":
        return {f"blocks.{layer}.attn.hook_z": _without_head(number)}
    raise ValueError(
        "a whole layer is not taken away: pick a head, an expert or an MLP in the map of effects"
    )


def steered(lab: Lab, chat: Chat, found: Explanation, layer: int, strength: float) -> Any:
    """Edits that push the stream of the reply towards the explained token, at a layer.

    The strength is in multiples of the mean norm of the stream at the layer in this run.
    """
    vector = steering.from_token(lab, found.token_id, other=found.other_id, layer=layer)
    stream = recording_of(chat).raw(f"blocks.{layer}.hook_resid_post").float()
    norm = float(stream.norm(dim=-1).mean())
    unit = norm / max(float(vector[layer].norm()), 1e-9)
    return (strength * unit) * vector.at(positions="generated")


def _other(lab: Lab, logits: Float[Tensor, " vocab"], written: int, text: str) -> int:
    if text:
        chosen = token_id(lab, text)
        if chosen == written:
            raise ValueError(f"“{visible(text)}” is the token itself: compare with another one")
        return chosen
    best = logits.float().topk(2).indices.tolist()
    return best[1] if best[0] == written else best[0]


def _other_ids(lab: Lab, chat: Chat, ids: list[int], question: str) -> list[int]:
    """The other question's prompt, with the reply of this run after it."""
    if not question.strip():
        raise ValueError("the other question is empty: type one with as many tokens")
    n_prompt = len(chat.prompt_ids)
    messages = [{"role": "user", "content": question}]
    prompt = lab.token_ids(messages, thinking=chat.thinking_asked, continue_reply=True)
    if len(prompt) != n_prompt:
        raise ValueError(
            f"the other question has {len(prompt)} tokens with its template, and this one "
            f"{n_prompt}: change single words, so that both have the same number"
        )
    return [*prompt, *ids[n_prompt:]]


def _meaning(effect: str, found: Explanation) -> str:
    what = f"logit “{visible(found.token)}” - logit “{visible(found.other)}”"
    if effect == OTHER_QUESTION:
        return f"{what}: 0 as in this run's other question, 1 as in this run"
    return f"change of {what}"


def _table(rows: Mapping[int, Tensor], n_layers: int) -> Float[Tensor, "layer column"]:
    table = torch.full((n_layers, len(next(iter(rows.values())))), torch.nan)
    for layer, row in rows.items():
        table[layer] = row
    return table


def _without_head(head: int) -> Any:
    def edit(z: Tensor, name: str) -> Tensor:
        z[..., head, :] = 0
        return z

    return edit
