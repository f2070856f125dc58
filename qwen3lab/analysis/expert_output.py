"""What experts write into the residual stream: norms and direct logit attribution."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qwen3lab.analysis.routing import weights_by_expert
from qwen3lab.display import Displayed, Summary, one_line
from qwen3lab.lab import Lab
from qwen3lab.recording.labels import relabelled
from qwen3lab.recording.recording import Recording
from qwen3lab.text.tokenizer import token_texts

if TYPE_CHECKING:
    import pandas

OUT = "blocks.{}.mlp.hook_expert_out"
SCALE = "ln_final.hook_scale"
NEEDED = ("blocks.*.mlp.hook_expert_out", SCALE)
"""Hooks to record for these analyses: `lab.record(prompt, capture=NEEDED)`."""


@dataclass(frozen=True, repr=False)
class Writing(Displayed):
    """Direct logits of one expert: the tokens that its own output raises and lowers.

    Attributes:
        layer: of the model.
        expert: in the layer.
        tokens: number of tokens that the expert served; the logits are means over them.
        raised: tokens whose logits it raises most, with how much.
        lowered: tokens whose logits it lowers most, with how much.
    """

    layer: int
    expert: int
    tokens: int
    raised: tuple[tuple[str, float], ...]
    lowered: tuple[tuple[str, float], ...]

    def to_pandas(self) -> "pandas.DataFrame":
        """A table: raised, by, lowered, by; the strongest first."""
        import pandas

        rows = [(*up, *down) for up, down in zip(self.raised, self.lowered, strict=True)]
        return pandas.DataFrame(rows, columns=["raised", "by", "lowered", "by "])

    def _summary(self) -> Summary:
        raised, lowered = (
            " ".join(one_line(text) for text, _ in side[:3]) or "none"
            for side in (self.raised, self.lowered)
        )
        return Summary(
            f"Direct logits of expert {self.expert}, layer {self.layer}",
            {"tokens": f"{self.tokens:,}", "raises": raised, "lowers": lowered},
            frame=self.to_pandas,
        )


def contributions(recording: Recording, layer: int) -> Float[Tensor, "token k d_model"]:
    """Each chosen expert's addition to the residual stream: its output times its weight.

    Their sum over k is `hook_mlp_out`.

    Args:
        recording: with `capture=NEEDED`.
        layer: with experts.

    Raises:
        RecordingError: the experts' outputs were not recorded.
        ValueError: the layer has no experts.
    """
    routing = recording.routing.layer(layer)
    out = recording[OUT.format(routing.layer)]
    return out * routing.weights[:, : out.shape[1], None]


def contribution_norms(recording: Recording, layer: int) -> Float[Tensor, "token expert"]:
    """Euclidean norm of each expert's addition to each token; 0 if it does not serve the token.

    Arguments and errors as in `contributions`.
    """
    norms, experts = contributions(recording, layer).norm(dim=-1), _experts(recording, layer)
    by_expert = weights_by_expert(experts, norms, recording.config.n_experts)
    source = recording.routing.layer(layer).experts
    return relabelled(by_expert, source, "norm of what is added", ["token", "expert"])


def direct_logits(lab: Lab, recording: Recording, layer: int) -> Float[Tensor, "token k vocab"]:
    """Direct logit attribution: each chosen expert's addition to the next token's logits.

    The final norm divides by one scale per token, which is kept as recorded. The rest is linear:
    the direct logits of everything that writes to the stream sum to the logits. Effects through
    later layers are not included.

    Args:
        lab: the model that was recorded.
        recording: with `capture=NEEDED`.
        layer: with experts.

    Source: direct logit attribution, Elhage et al. 2021, A Mathematical Framework for
    Transformer Circuits, and TransformerLens' `apply_ln_to_stack`.
    """
    added = contributions(recording, layer) / recording[SCALE][:, None]
    read = lab.model.unembedding.detach().float().cpu() * lab.model.ln_final.weight.detach().cpu()
    return added @ read.float().T


def expert_writing(
    lab: Lab, recordings: Sequence[Recording], layer: int, expert: int, *, n: int = 10
) -> Writing:
    """The next tokens that an expert raises and lowers most, mean over the tokens it serves.

    Args:
        lab: the model that was recorded.
        recordings: with `capture=NEEDED`.
        layer: with experts.
        expert: in the layer.
        n: tokens of each kind.

    Raises:
        RecordingError: the experts' outputs were not recorded.
        ValueError: no such expert, or it serves none of the tokens.
    """
    if not 0 <= expert < lab.config.n_experts:
        raise ValueError(
            f"expert {expert} does not exist: the layer has experts 0 to {lab.config.n_experts - 1}"
        )
    summed, served = torch.zeros(lab.config.d_vocab), 0
    for recording in recordings:
        chosen = _served(recording, layer, expert)
        if chosen.any():
            summed += direct_logits(lab, recording, layer)[chosen].sum(dim=0)
            served += int(chosen.sum())
    if not served:
        raise ValueError(
            f"expert {expert} of layer {layer} serves none of the tokens: give a text that it "
            "serves"
        )
    # Adding a constant to all logits changes no probability: subtract their mean.
    mean = summed / served - (summed / served).mean()
    best, worst = mean.topk(n), (-mean).topk(n)
    texts = (token_texts(lab.tokenizer, ids.tolist()) for ids in (best.indices, worst.indices))
    raised, lowered = texts
    return Writing(
        layer,
        expert,
        served,
        tuple(zip(raised, best.values.tolist(), strict=True)),
        tuple(zip(lowered, (-worst.values).tolist(), strict=True)),
    )


@dataclass(frozen=True, repr=False)
class Extremes(Displayed):
    """The largest activation of each expert, and the experts that stand out.

    Attributes:
        layers: of the model, with experts; the rows of `largest`.
        largest: greatest absolute value in an expert's output, before its weight; 0 for an
            expert without tokens.
        outliers: layer and expert of those that stand out, the greatest first.
    """

    layers: tuple[int, ...]
    largest: Float[Tensor, "layer expert"]
    outliers: tuple[tuple[int, int], ...]

    def to_pandas(self) -> "pandas.DataFrame":
        """A table of the experts that stand out: layer, expert, largest."""
        import pandas

        rows = [
            (layer, expert, float(self.largest[self.layers.index(layer), expert]))
            for layer, expert in self.outliers
        ]
        return pandas.DataFrame(rows, columns=["layer", "expert", "largest"])

    def _summary(self) -> Summary:
        facts = {"layers": str(len(self.layers)), "experts that stand out": str(len(self.outliers))}
        return Summary("Extreme activations of experts", facts, frame=self.to_pandas)


def extreme_experts(recordings: Sequence[Recording]) -> Extremes:
    """Experts with extreme activations, as "super experts" have (Su et al., arXiv 2507.23279).

    Here one stands out if its greatest activation is above the 99.5th percentile of all experts'
    and above a tenth of the greatest.

    Args:
        recordings: with `capture=NEEDED`.

    Raises:
        RecordingError: the experts' outputs were not recorded.
        ValueError: there is no recording, or the model is dense.
    """
    if not recordings:
        raise ValueError("there is no recording: expected at least one")
    config = recordings[0].config
    if not config.is_moe:
        raise ValueError("this model is dense: it has no experts")
    largest = torch.zeros(len(config.moe_layers), config.n_experts)
    for recording in recordings:
        for row, layer in enumerate(config.moe_layers):
            peaks = recording[OUT.format(layer)].abs().amax(dim=-1).flatten()
            experts = _experts(recording, layer).flatten()
            real = experts >= 0
            largest[row].scatter_reduce_(0, experts[real], peaks[real], "amax")
    stands_out = (largest > largest.quantile(0.995)) & (largest > largest.max() / 10)
    cells = stands_out.nonzero().tolist()
    cells.sort(key=lambda cell: -float(largest[cell[0], cell[1]]))
    outliers = tuple((config.moe_layers[row], expert) for row, expert in cells)
    return Extremes(config.moe_layers, largest, outliers)


def _served(recording: Recording, layer: int, expert: int) -> Bool[Tensor, "token k"]:
    return _experts(recording, layer) == expert


def _experts(recording: Recording, layer: int) -> Int[Tensor, "token k"]:
    """Chosen experts of a layer, of the slots whose outputs were recorded."""
    routing = recording.routing.layer(layer)
    return routing.experts[:, : recording[OUT.format(routing.layer)].shape[1]]
