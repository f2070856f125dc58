"""Expert outputs in the residual stream: norms and direct logit attribution."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qwen3lab.analysis.one_model import check_one_model, check_recorded_by
from qwen3lab.analysis.routing import weights_by_expert
from qwen3lab.arguments import Count, checked
from qwen3lab.display import Displayed, Summary, one_line
from qwen3lab.lab import Lab
from qwen3lab.recording.equality import EqualByValue
from qwen3lab.recording.labels import relabelled
from qwen3lab.recording.recording import Recording
from qwen3lab.text.tokenizer import token_texts
from qwen3lab.translation import later, tr

if TYPE_CHECKING:
    import pandas

OUT = "blocks.{}.mlp.hook_expert_out"
SCALE = "ln_final.hook_scale"
NEEDED = ("blocks.*.mlp.hook_expert_out", SCALE)
"""Hooks to record for these analyses: `lab.record(prompt, capture=NEEDED)`."""

ROWS_PER_BLOCK = 8192
"""Rows of the unembedding in one product."""


@dataclass(frozen=True, repr=False)
class Writing(Displayed):
    """Direct logits of one expert: the tokens whose logits its output raises and lowers most.

    Attributes:
        layer: of the model.
        expert: in the layer.
        tokens: number of tokens routed to the expert; the logits are means over them.
        raised: text and logit of the tokens that it raises most.
        lowered: text and logit of the tokens that it lowers most.
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
            " ".join(one_line(text) for text, _ in side[:3]) or tr("none")
            for side in (self.raised, self.lowered)
        )
        return Summary(
            tr(
                "Direct logits of expert {expert}, layer {layer}",
                expert=self.expert,
                layer=self.layer,
            ),
            {tr("tokens"): f"{self.tokens:,}", tr("raises"): raised, tr("lowers"): lowered},
            frame=self.to_pandas,
        )


@checked
def contributions(recording: Recording, layer: int) -> Float[Tensor, "token k d_model"]:
    """The contribution of each chosen expert to the residual stream: its output times its weight.

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


@checked
def contribution_norms(recording: Recording, layer: int) -> Float[Tensor, "token expert"]:
    """Euclidean norm of each expert's contribution to each token; 0 for experts not chosen.

    Arguments and errors as in `contributions`.
    """
    norms, experts = contributions(recording, layer).norm(dim=-1), _experts(recording, layer)
    by_expert = weights_by_expert(experts, norms, recording.config.n_experts)
    source = recording.routing.layer(layer).experts
    return relabelled(by_expert, source, later("contribution norm"), ["token", "expert"])


@checked
def direct_logits(lab: Lab, recording: Recording, layer: int) -> Float[Tensor, "token k vocab"]:
    """Direct logit attribution: the contribution of each chosen expert to the next-token logits.

    The final norm divides by one scale per token, which is taken from the recording. The rest is
    linear: the direct logits of all contributions to the stream sum to the logits. Effects through
    later layers are not included.

    Args:
        lab: the recorded model.
        recording: with `capture=NEEDED`.
        layer: with experts.

    Source: direct logit attribution, Elhage et al. 2021, A Mathematical Framework for
    Transformer Circuits, and TransformerLens' `apply_ln_to_stack`.
    """
    check_recorded_by(lab, recording)
    scaled = contributions(recording, layer) / recording[SCALE][:, None]
    return _unembedded(lab, scaled)


def _unembedded(lab: Lab, scaled: Float[Tensor, "*part d_model"]) -> Float[Tensor, "*part vocab"]:
    """Logits of parts of the normalised stream; the unembedding is converted block by block."""
    weighted = scaled * lab.model.ln_final.weight.detach().float().cpu()
    blocks = lab.model.unembedding.detach().split(ROWS_PER_BLOCK)
    return torch.cat([weighted @ rows.float().cpu().T for rows in blocks], dim=-1)


@checked
def expert_writing(
    lab: Lab, recordings: Sequence[Recording], layer: int, expert: int, *, n: Count = 10
) -> Writing:
    """The next tokens whose logits an expert raises and lowers most, mean over its tokens.

    Args:
        lab: the recorded model.
        recordings: with `capture=NEEDED`.
        layer: with experts.
        expert: in the layer.
        n: number of raised, and of lowered, tokens.

    Raises:
        RecordingError: the experts' outputs were not recorded.
        ValueError: no such expert, or no token is routed to it.
    """
    check_one_model(recordings)
    if not 0 <= expert < lab.config.n_experts:
        raise ValueError(
            tr(
                "expert {expert} does not exist: the layer has experts 0 to {last}",
                expert=expert,
                last=lab.config.n_experts - 1,
            )
        )
    # Logits are linear in the contributions: those are summed, and one vector is unembedded.
    summed, n_tokens = torch.zeros(lab.config.d_model), 0
    for recording in recordings:
        is_chosen = _experts(recording, layer) == expert
        if is_chosen.any():
            check_recorded_by(lab, recording)
            scaled = contributions(recording, layer) / recording[SCALE][:, None]
            summed += scaled[is_chosen].sum(dim=0)
            n_tokens += int(is_chosen.sum())
    if not n_tokens:
        raise ValueError(
            tr(
                "no token is routed to expert {expert} of layer {layer}: expected "
                "recordings with at least one",
                expert=expert,
                layer=layer,
            )
        )
    # Adding a constant to all logits changes no probability: subtract their mean.
    logits = _unembedded(lab, summed / n_tokens)
    mean = logits - logits.mean()
    best, worst = mean.topk(min(n, len(mean))), (-mean).topk(min(n, len(mean)))
    texts = (token_texts(lab.tokenizer, ids.tolist()) for ids in (best.indices, worst.indices))
    raised, lowered = texts
    return Writing(
        layer,
        expert,
        n_tokens,
        tuple(zip(raised, best.values.tolist(), strict=True)),
        tuple(zip(lowered, (-worst.values).tolist(), strict=True)),
    )


@dataclass(frozen=True, repr=False, eq=False)
class Extremes(EqualByValue, Displayed):
    """The largest activation of each expert, and the outliers among the experts.

    Attributes:
        layers: layers with experts; the rows of `largest`.
        largest: largest absolute value in an expert's output, before its weight; 0 for an
            expert without tokens.
        outliers: layer and expert of each outlier, largest activation first.
    """

    layers: tuple[int, ...]
    largest: Float[Tensor, "layer expert"]
    outliers: tuple[tuple[int, int], ...]

    def to_pandas(self) -> "pandas.DataFrame":
        """A table of the outliers: layer, expert, largest."""
        import pandas

        rows = [
            (layer, expert, float(self.largest[self.layers.index(layer), expert]))
            for layer, expert in self.outliers
        ]
        return pandas.DataFrame(rows, columns=["layer", "expert", "largest"])

    def _summary(self) -> Summary:
        facts = {tr("layers"): str(len(self.layers)), tr("outliers"): str(len(self.outliers))}
        return Summary(tr("Extreme activations of experts"), facts, frame=self.to_pandas)


@checked
def extreme_experts(recordings: Sequence[Recording]) -> Extremes:
    """Experts with extreme activations, as "super experts" have (Su et al., arXiv 2507.23279).

    An expert is an outlier if its largest activation is above the 99.5th percentile of all experts
    and above a tenth of the maximum.

    Args:
        recordings: with `capture=NEEDED`.

    Raises:
        RecordingError: the experts' outputs were not recorded.
        ValueError: there is no recording, or the model is dense.
    """
    check_one_model(recordings)
    config = recordings[0].config
    if not config.is_moe:
        raise ValueError(tr("this model is dense: it has no experts"))
    largest = torch.zeros(len(config.moe_layers), config.n_experts)
    for recording in recordings:
        for row, layer in enumerate(config.moe_layers):
            peaks = recording[OUT.format(layer)].abs().amax(dim=-1).flatten()
            experts = _experts(recording, layer).flatten()
            real = experts >= 0
            largest[row].scatter_reduce_(0, experts[real], peaks[real], "amax")
    return Extremes(config.moe_layers, largest, outliers_of(largest, config.moe_layers))


def outliers_of(
    largest: Float[Tensor, "layer expert"], layers: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """Layer and expert of each outlier of `extreme_experts`, largest activation first.

    Args:
        largest: largest absolute value in each expert's output.
        layers: number of each row's layer.
    """
    is_outlier = (largest > largest.quantile(0.995)) & (largest > largest.max() / 10)
    cells = is_outlier.nonzero().tolist()
    cells.sort(key=lambda cell: -float(largest[cell[0], cell[1]]))
    return tuple((layers[row], expert) for row, expert in cells)


def _experts(recording: Recording, layer: int) -> Int[Tensor, "token k"]:
    """Chosen experts of a layer, of the slots whose outputs were recorded."""
    routing = recording.routing.layer(layer)
    return routing.experts[:, : recording[OUT.format(routing.layer)].shape[1]]
