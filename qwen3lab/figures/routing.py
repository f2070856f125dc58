"""Routing maps and expert loads."""

from collections.abc import Sequence

import plotly.graph_objects as go
import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.arguments import checked
from qwen3lab.figures.labels import by_model, layer_of, layers_of, tokens_of
from qwen3lab.figures.maps import Side, labelled_map
from qwen3lab.figures.scales import add_key, colouring, scale_for
from qwen3lab.figures.sizes import PLOT_WIDTH, cells, gap, plot_height, thinned
from qwen3lab.figures.theme import (
    EMPTY_CELL_COLOUR,
    SEQUENTIAL,
    TEMPLATE,
    empty_figure,
    token_axis,
    token_labels,
)
from qwen3lab.translation import tr


@checked
def routing_map(
    weights: Float[Tensor, "token expert"],
    tokens: Sequence[str] | None = None,
    *,
    layer: int | None = None,
) -> go.Figure:
    """Routing of one layer: each column shows the expert weights of one token.

    Args:
        weights: routing weights as applied, 0 for an expert that was not chosen; those of
            `analysis.routing.layer_weights` have labels for tokens, layer and model.
        tokens: text of each token, such as `rec.tokens`; needed for a plain tensor.
        layer: shown in the title.

    Raises:
        ValueError: the numbers of rows and tokens differ, or the tokens are unknown.
    """
    tokens, layer = tokens_of(weights, tokens), layer_of(weights, layer)
    n_tokens, n_experts = weights.shape
    if n_tokens != len(tokens):
        raise ValueError(
            tr(
                "the weights have {n_rows} rows, but there are {n_tokens} tokens: "
                "expected one row per token",
                n_rows=n_tokens,
                n_tokens=len(tokens),
            )
        )
    if n_tokens == 0 or n_experts == 0:
        return empty_figure(tr("There is no routing to show: no token passed through an expert."))
    table = weights.detach().float().T
    table = table.masked_fill(table == 0, torch.nan)
    height, scale = plot_height(n_experts, 16), scale_for(table, high=float(weights.max()))
    gaps = gap(n_experts, n_tokens, height)
    figure = go.Figure(
        go.Heatmap(
            z=cells(table.numpy()),
            x=token_labels(tokens),
            y=list(range(n_experts)),
            hoverongaps=False,
            hovertemplate="token %{x}<br>expert %{y}<br>weight %{z:.4f}<extra></extra>",
            xgap=gaps,
            ygap=gaps,
            **colouring(scale, SEQUENTIAL, tr("routing weight")),
        )
    )
    add_key(figure, scale, SEQUENTIAL, tr("routing weight"))
    where = "" if layer is None else tr(", layer {layer}", layer=layer)
    figure.update_layout(
        template=TEMPLATE,
        height=max(320, 190 + height),
        plot_bgcolor=EMPTY_CELL_COLOUR,
        title=by_model(tr("Expert routing of each token{where}", where=where), weights),
        title_subtitle_text=tr("grey: not chosen"),
        margin_t=84,
    )
    figure.update_xaxes(token_axis(tr("token")) | thinned(n_tokens, PLOT_WIDTH), tickangle=-90)
    return figure.update_yaxes(_expert_axis(n_experts, height), autorange="reversed")


@checked
def expert_load(
    load: Float[Tensor, "layer expert"], *, layers: Sequence[int] | None = None
) -> go.Figure:
    """Load of each expert, by layer.

    Args:
        load: share of routed slots per expert, rows sum to 1; results of
            `analysis.routing.layer_loads` and `RoutingCorpus.load` have labels for the layers.
        layers: the layer of each row; needed for a plain tensor.

    Raises:
        ValueError: the layers are unknown, or the numbers of layers and rows differ.
    """
    numbers, n_experts = layers_of(load, layers, what=tr("load")), load.shape[1]
    if load.numel() == 0:
        return empty_figure(tr("There is no load to show: no token passed through an expert."))
    return labelled_map(
        100 * load.float(),
        Side(tr("layer"), [str(number) for number in numbers]),
        Side(tr("expert"), [str(expert) for expert in range(n_experts)]),
        title=by_model(tr("Load of each expert by layer"), load),
        subtitle=tr("uniform load: {percent:.1f} % each", percent=100 / n_experts),
        value=tr("share of routed slots (%)"),
        hover=tr("layer %{y}<br>expert %{x}<br>load %{z:.2f} %"),
        high=100 * float(load.max()),
        row_height=28,
    )


def _expert_axis(n_experts: int, height: int) -> dict[str, object]:
    axis: dict[str, object] = {"title": tr("expert"), "showgrid": False, "zeroline": False}
    return axis | (thinned(n_experts, height) or {"dtick": 1})
