"""Direct logit attribution: a logit as a sum of what each part of the model adds to it.

The residual stream is a sum: the embedding, what each head adds, and what each MLP or each expert
adds. With the scale of the final norm as it was in the run, the unembedding is linear, so a logit
is the sum of the parts' own logits. Parts act on later parts as well; that effect counts as theirs.

Source: Elhage et al., "A mathematical framework for transformer circuits" (2021), "direct paths".
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from qwen3lab.analysis.one_model import check_recorded_by
from qwen3lab.arguments import checked
from qwen3lab.display import Displayed, Summary
from qwen3lab.errors import RecordingError
from qwen3lab.hooks.points import resolve_hooks
from qwen3lab.lab import Lab
from qwen3lab.metrics.metric import Token, check_place, quoted, token_id
from qwen3lab.recording.equality import EqualByValue
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import tr

if TYPE_CHECKING:
    import pandas

    from qwen3lab.model.transformer import MLP

NEEDED = (
    "hook_embed",
    "blocks.*.attn.hook_z",
    "blocks.*.hook_mlp_out",
    "ln_final.hook_scale",
)
"""Hooks to record: `lab.record(prompt, capture=attribution.needed(lab))`."""

NEEDED_OF_EXPERTS = "blocks.*.mlp.hook_expert_out"
NEEDED_OF_NEURONS = "blocks.*.mlp.hook_post"

MAX_RELATIVE_REST = 1e-3
"""A difference between total and parts that is larger than this share of the parts' absolute sum is
no rounding: an edit of the run changed the residual stream itself."""


@dataclass(frozen=True)
class Part:
    """What one part of the model adds to a logit.

    Attributes:
        kind: "embedding", "head", "mlp", "expert", "neuron", or "remainder" for what an edit of the
            run added to the residual stream itself.
        layer: of the part; None for the embedding and the remainder.
        index: number of the head, expert or neuron in the layer; None for others.
        value: added to the logit or the logit difference.
    """

    kind: str
    layer: int | None
    index: int | None
    value: float

    @property
    def name(self) -> str:
        """Such as `head 3.0` or `expert 2.14`: layer, then number."""
        place = [str(each) for each in (self.layer, self.index) if each is not None]
        return " ".join([self.kind, ".".join(place)]).strip()

    @property
    def title(self) -> str:
        """The name as it is shown."""
        _, space, place = self.name.partition(" ")
        return f"{tr(self.kind)}{space}{place}"


@dataclass(frozen=True, repr=False, eq=False)
class DirectAttribution(EqualByValue, Displayed):
    """A logit, or the difference of two, as a sum over the parts of the model.

    Attributes:
        model_name: of the model.
        label: what is attributed, such as `logit “8” - logit “3”`.
        position: of the token whose logits they are.
        token: text of that token.
        parts: in the order of the forward pass; their values sum to `total`.
        total: the logit or the difference in the recording.
    """

    model_name: str
    label: str
    position: int
    token: str
    parts: tuple[Part, ...]
    total: float

    def by_layer(self) -> dict[str, Float[Tensor, " layer"]]:
        """For each kind of part, its sum in each layer; parts without a layer are left out."""
        n_layers = 1 + max((p.layer for p in self.parts if p.layer is not None), default=-1)
        sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros(n_layers))
        for part in self.parts:
            if part.layer is not None:
                sums[part.kind][part.layer] += part.value
        return dict(sums)

    def strongest(self, n: int = 10) -> tuple[Part, ...]:
        """The `n` parts with the largest absolute value, largest first."""
        return tuple(sorted(self.parts, key=lambda part: -abs(part.value))[:n])

    def to_pandas(self) -> "pandas.DataFrame":
        """A table: part, kind, layer, index, value; in the order of the forward pass."""
        import pandas

        rows = [(p.name, p.kind, p.layer, p.index, p.value) for p in self.parts]
        table = pandas.DataFrame(rows, columns=["part", "kind", "layer", "index", "value"])
        return table.astype({"layer": "Int64", "index": "Int64"})

    def _summary(self) -> Summary:
        facts = {
            tr("of"): self.label,
            tr("at"): tr("token {position}", position=self.position),
            tr("total"): f"{self.total:.3f}",
            tr("strongest"): ", ".join(f"{p.name} {p.value:+.2f}" for p in self.strongest(3)),
        }
        return Summary(
            tr("Direct logit attribution"), facts, frame=lambda: self.to_pandas().round(3)
        )


def needed(lab: Lab, *, neurons: bool = False) -> tuple[str, ...]:
    """The hooks that a recording needs for `direct`, and for `neurons`."""
    experts = (NEEDED_OF_EXPERTS,) if lab.config.is_moe else ()
    is_dense_somewhere = len(lab.config.moe_layers) < lab.config.n_layers
    of_neurons = (NEEDED_OF_NEURONS,) if neurons and is_dense_somewhere else ()
    return (*NEEDED, *experts, *of_neurons)


@checked
def direct(
    lab: Lab,
    recording: Recording,
    token: Token,
    *,
    other: Token | None = None,
    position: int = -1,
) -> DirectAttribution:
    """The logit of a token as a sum over embedding, heads, MLPs and experts.

    The scale of the final norm is that of the run. An expert's part is its output times its weight.

    Args:
        lab: that made the recording.
        recording: with `capture=attribution.needed(lab)`.
        token: text of one token, or its id.
        other: a token whose logit is subtracted; None for the logit of `token` alone.
        position: whose logits are meant; -1 is the last token of the recording.

    Raises:
        ValueError: a token or position that does not exist, or a recording of another model.
        RecordingError: a hook was not recorded.

    Example:
        >>> import qwen3lab
        >>> from qwen3lab import attribution
        >>> lab = qwen3lab.load("tiny-moe")
        >>> rec = lab.record("3+4=?", capture=attribution.needed(lab))
        >>> parts = attribution.direct(lab, rec, "7")
        >>> abs(parts.total - float(rec.logits[-1, lab.token_ids("7")[0]])) < 1e-3
        True
    """
    place = _checked_place(lab, recording, position, needed(lab))
    direction, label = _direction(lab, recording, token, other, place)
    parts = [Part("embedding", None, None, float(recording["hook_embed"][place] @ direction))]
    for layer in range(lab.config.n_layers):
        parts += _heads(lab, recording, layer, place, direction)
        parts += _mlp(recording, layer, place, direction)
    total = _total(lab, recording, token, other, place)
    rest = total - sum(part.value for part in parts)
    if abs(rest) > MAX_RELATIVE_REST * max(1.0, sum(abs(part.value) for part in parts)):
        parts.append(Part("remainder", None, None, rest))
    return _attribution(recording, label, place, parts, total)


@checked
def neurons(
    lab: Lab,
    recording: Recording,
    layer: int,
    token: Token,
    *,
    other: Token | None = None,
    position: int = -1,
) -> DirectAttribution:
    """What each neuron of a dense layer adds to a logit; `total` is the sum, the MLP's part.

    Args:
        lab: that made the recording.
        recording: with `capture=attribution.needed(lab, neurons=True)`.
        layer: without experts.
        token: as in `direct`.
        other: as in `direct`.
        position: as in `direct`.

    Raises:
        ValueError: as in `direct`, or the layer has experts.
        RecordingError: as in `direct`.
    """
    layer = _dense_layer(lab, layer)
    hook = NEEDED_OF_NEURONS.replace("*", str(layer))
    place = _checked_place(lab, recording, position, ("ln_final.hook_scale", hook))
    direction, label = _direction(lab, recording, token, other, place)
    mlp = cast("MLP", lab.model.blocks[layer].mlp)
    weight = mlp.down.weight.detach().cpu()
    values = recording[hook][place].float() * (direction @ weight.float())
    parts = [Part("neuron", layer, n, value) for n, value in enumerate(values.tolist())]
    return _attribution(recording, label, place, parts, float(values.sum()))


def _attribution(
    recording: Recording, label: str, place: int, parts: list[Part], total: float
) -> DirectAttribution:
    return DirectAttribution(
        model_name=recording.model_name,
        label=label,
        position=place,
        token=recording.tokens[place],
        parts=tuple(parts),
        total=total,
    )


def _checked_place(lab: Lab, recording: Recording, position: int, hooks: tuple[str, ...]) -> int:
    """The position, counted from 0, after all checks of the recording."""
    check_recorded_by(lab, recording)
    check_place(position, len(recording))
    missing = [hook for hook in resolve_hooks(hooks, lab.config) if hook not in recording]
    if missing:
        raise RecordingError(
            tr(
                "{missing} was not recorded: record with capture=attribution.needed(lab)",
                missing=missing[0],
            )
        )
    return position % len(recording)


def _direction(
    lab: Lab, recording: Recording, token: Token, other: Token | None, place: int
) -> tuple[Float[Tensor, " d_model"], str]:
    """The direction of the residual stream whose product is the logit, and what it is."""
    chosen = token_id(lab, token)
    rows = lab.model.unembedding.detach()
    row, label = rows[chosen], f"logit {quoted(lab, chosen)}"
    if other is not None:
        second = token_id(lab, other)
        row, label = (
            row - rows[second],
            tr("{label} - logit {quoted}", label=label, quoted=quoted(lab, second)),
        )
    norm = lab.model.ln_final.weight.detach()
    scale = recording["ln_final.hook_scale"][place].float()
    return (row.float() * norm.float()).cpu() / scale, label


def _total(lab: Lab, recording: Recording, token: Token, other: Token | None, place: int) -> float:
    logits = recording.logits[place].float()
    total = float(logits[token_id(lab, token)])
    return total if other is None else total - float(logits[token_id(lab, other)])


def _heads(
    lab: Lab, recording: Recording, layer: int, place: int, direction: Float[Tensor, " d_model"]
) -> list[Part]:
    weight = lab.model.blocks[layer].attn.o.weight.detach().float().cpu()
    weight = rearrange(
        weight, "d_model (head d_head) -> head d_head d_model", head=lab.config.n_heads
    )
    z = recording[f"blocks.{layer}.attn.hook_z"][place].float()
    of_heads = einsum(z, weight, direction, "head d_head, head d_head d_model, d_model -> head")
    return [Part("head", layer, head, value) for head, value in enumerate(of_heads.tolist())]


def _mlp(
    recording: Recording, layer: int, place: int, direction: Float[Tensor, " d_model"]
) -> list[Part]:
    """The MLP, or each expert of the token; a token without any expert has no part."""
    if layer not in recording.config.moe_layers:
        out = recording[f"blocks.{layer}.hook_mlp_out"][place].float()
        return [Part("mlp", layer, None, float(out @ direction))]
    routing = recording.routing.layer(layer)
    outputs = recording[f"blocks.{layer}.mlp.hook_expert_out"][place].float()
    values = routing.weights[place, : len(outputs)].float() * (outputs @ direction)
    pairs = zip(routing.experts[place].tolist(), values.tolist(), strict=False)
    return [Part("expert", layer, expert, value) for expert, value in pairs if expert >= 0]


def _dense_layer(lab: Lab, layer: int) -> int:
    n_layers = lab.config.n_layers
    if not -n_layers <= layer < n_layers:
        raise ValueError(
            tr(
                "layer {layer} does not exist: {name} has layers 0 to {last}",
                layer=layer,
                name=lab.name,
                last=n_layers - 1,
            )
        )
    if layer % n_layers in lab.config.moe_layers:
        raise ValueError(
            tr(
                "layer {layer} of {name} has experts, and `direct` gives the part of "
                "each: neurons are those of dense layers",
                layer=layer,
                name=lab.name,
            )
        )
    return layer % n_layers
