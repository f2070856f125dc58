"""Experts: their tokens, their co-activation, and the loss without them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, Int
from plotly.colors import qualitative
from torch import Tensor

from qwen3lab.analysis.specialisation import Interval
from qwen3lab.analysis.structure import cluster_order
from qwen3lab.arguments import checked
from qwen3lab.experiments.knockout import KnockOut
from qwen3lab.figures.labels import by_model, layer_of, layers_of
from qwen3lab.figures.maps import DIVERGING, Side, labelled_map
from qwen3lab.figures.theme import (
    INK,
    MUTED,
    OKABE_ITO,
    SEQUENTIAL,
    TEMPLATE,
    empty_figure,
    escape,
    short_text,
)
from qwen3lab.recording.labels import labels_of
from qwen3lab.recording.views import LayerRouting
from qwen3lab.translation import tr

TOKENS_PER_ROW = 12
MAX_KNOCK_OUT_ROWS = 24
COLOURS = (*OKABE_ITO, *qualitative.Dark24)
TINT_STRENGTH = 0.45
"""Share of a colour in a cell's background; the rest is white, so that text is readable."""


@checked
def token_strip(
    tokens: LayerRouting | Sequence[str],
    experts: Int[Tensor, " token"] | None = None,
    *,
    layer: int | None = None,
) -> go.Figure:
    """The text, with each token in the colour of one expert.

    Args:
        tokens: a layer's routing, `rec.routing.layer(2)`; or the text of each token.
        experts: one expert per token, -1 for none; the expert with the greatest weight if None.
        layer: shown in the title.

    Raises:
        ValueError: the numbers of experts and tokens differ, or there are no experts.
    """
    if isinstance(tokens, LayerRouting):
        layer = tokens.layer if layer is None else layer
        source = tokens.experts
        tokens, experts = tokens.tokens, source[:, 0] if experts is None else experts
    else:
        source = experts
    if experts is None or source is None:
        raise ValueError(
            tr("there are tokens without experts: pass rec.routing.layer(...) or both")
        )
    if len(tokens) != len(experts):
        raise ValueError(
            tr(
                "there are {n_experts} experts for {n_tokens} tokens: expected one for each",
                n_experts=len(experts),
                n_tokens=len(tokens),
            )
        )
    if not tokens:
        return empty_figure(tr("There is no text to show: it has no tokens."))
    n_rows = -(-len(tokens) // TOKENS_PER_ROW)
    cells = np.full((n_rows, TOKENS_PER_ROW), np.nan)
    cells.flat[: len(tokens)] = experts.numpy()
    cells[cells < 0] = np.nan
    names = {e: tr("none") if e < 0 else tr("expert {expert}", expert=e) for e in experts.tolist()}
    named = [
        f"<b>{short_text(token, width=9)}</b><br>{names[expert]}"
        for token, expert in zip(tokens, experts.tolist(), strict=True)
    ]
    padded = [*named, *[""] * (n_rows * TOKENS_PER_ROW - len(named))]
    grid = [
        padded[start : start + TOKENS_PER_ROW] for start in range(0, len(padded), TOKENS_PER_ROW)
    ]
    places = np.arange(n_rows * TOKENS_PER_ROW).reshape(n_rows, TOKENS_PER_ROW)
    figure = go.Figure(
        go.Heatmap(
            z=[[None if np.isnan(cell) else cell for cell in row] for row in cells.tolist()],
            text=grid,
            texttemplate="%{text}",
            textfont={"size": 12, "color": INK},
            customdata=places,
            colorscale=_colours(int(max(experts.max(), 0)) + 1),
            zmin=-0.5,
            zmax=int(max(experts.max(), 0)) + 0.5,
            showscale=False,
            hoverongaps=False,
            hovertemplate=tr("token %{customdata}: %{text}<extra></extra>"),
            xgap=2,
            ygap=4,
        )
    )
    where = "" if layer is None else tr(", layer {layer}", layer=layer)
    figure.update_layout(
        template=TEMPLATE,
        height=90 + 46 * n_rows,
        title=by_model(tr("Expert of each token{where}", where=where), source),
        margin={"l": 16, "t": 56, "b": 16},
    )
    figure.update_xaxes(visible=False)
    return figure.update_yaxes(visible=False, autorange="reversed")


@checked
def transitions(
    flow: Float[Tensor, "earlier later"], *, layers: tuple[int, int] | None = None
) -> go.Figure:
    """Experts of a later layer to which the tokens of each expert are routed.

    Args:
        flow: rows of shares that sum to 1; from `analysis.structure.transitions`.
        layers: the two layers, shown on the axes; the labels of `flow` if None.
    """
    earlier, later = (tr("earlier layer"), tr("later layer"))
    labels = labels_of(flow)
    if layers is None and labels is not None and len(labels.layers) == 2:
        layers = (labels.layers[0], labels.layers[1])
    if layers is not None:
        earlier, later = (tr("layer {layer}", layer=layer) for layer in layers)
    return _map(
        flow,
        title=by_model(tr("Expert transitions between layers"), flow),
        subtitle=tr(
            "uniform routing: {percent:.1f} % each; grey: no tokens",
            percent=100 / max(1, flow.shape[1]),
        ),
        x=tr("expert in {later}", later=later),
        y=tr("expert in {earlier}", earlier=earlier),
        value=tr("share of routed slots (%)"),
    )


@checked
def co_activation(
    together: Float[Tensor, "expert other"], *, layer: int | None = None
) -> go.Figure:
    """Co-activation of experts; frequently co-activated experts are adjacent.

    Args:
        together: from `analysis.structure.co_activation`.
        layer: shown in the title; the label of `together` if None.
    """
    order, layer = cluster_order(together), layer_of(together, layer)
    where = "" if layer is None else tr(", layer {layer}", layer=layer)
    shown = together[order][:, order].clone()
    shown.fill_diagonal_(np.nan)
    return _map(
        shown,
        title=by_model(tr("Co-activation of experts{where}", where=where), together),
        subtitle=tr("grey: the diagonal, and experts without tokens"),
        x=tr("other expert"),
        y=tr("expert"),
        value=tr("its tokens that the other also gets (%)"),
        names=[str(expert) for expert in order],
    )


@checked
def specialisation(
    found: Interval, labels: Sequence[str], *, expert: int, k: int, layer: int | None = None
) -> go.Figure:
    """The share of each label's tokens that are routed to an expert, with 95% intervals.

    Args:
        found: from `analysis.specialisation.share_intervals`.
        labels: in the order of the rows.
        expert: its number.
        k: experts per token; with uniform routing the share is k / experts.
        layer: shown in the title.

    Raises:
        ValueError: the numbers of labels and rows differ, or no such expert.
    """
    n_labels, n_experts = found.value.shape
    if len(labels) != n_labels:
        raise ValueError(
            tr(
                "{n_labels} labels name {n_rows} rows: expected one for each",
                n_labels=len(labels),
                n_rows=n_labels,
            )
        )
    if not 0 <= expert < n_experts:
        raise ValueError(
            tr(
                "expert {expert} does not exist: the layer has experts 0 to {last}",
                expert=expert,
                last=n_experts - 1,
            )
        )
    value, low, high = (100 * t[:, expert] for t in (found.value, found.low, found.high))
    figure = go.Figure(
        go.Bar(
            x=[escape(label) for label in labels],
            y=value.tolist(),
            error_y={
                "array": (high - value).tolist(),
                "arrayminus": (value - low).tolist(),
                "thickness": 1.5,
            },
            customdata=list(zip(low.tolist(), high.tolist(), strict=True)),
            marker_color=OKABE_ITO[0],
            hovertemplate=tr(
                "%{x}<br>%{y:.1f} % (%{customdata[0]:.1f} to %{customdata[1]:.1f})<extra></extra>"
            ),
        )
    )
    uniform = 100 * k / n_experts
    figure.add_hline(
        y=uniform,
        line={"color": MUTED, "width": 1.5, "dash": "dash"},
        annotation={
            "text": tr("uniform: {uniform:.0f} %", uniform=uniform),
            "font": {"color": MUTED},
            "bgcolor": "rgba(255, 255, 255, 0.85)",
        },
        annotation_position="top right",
    )
    where = "" if layer is None else tr(" of layer {layer}", layer=layer)
    figure.update_layout(
        template=TEMPLATE,
        height=380,
        title=tr("Tokens routed to expert {expert}{where}", expert=expert, where=where),
        title_subtitle_text=tr(
            "share of each label's tokens; 95% bootstrap intervals over documents"
        ),
        margin_t=84,
    )
    figure.update_xaxes(title=tr("label"), type="category")
    return figure.update_yaxes(title=tr("tokens routed to the expert (%)"), rangemode="tozero")


@checked
def load_difference(
    one: Float[Tensor, "layer expert"],
    other: Float[Tensor, "*alike"],
    *,
    names: tuple[str, str],
    layers: Sequence[int] | None = None,
) -> go.Figure:
    """The load of each expert on one set of tokens minus its load on another.

    Args:
        one: share of routed slots, rows sum to 1; results of `analysis.thinking_text.part_loads`
            and `RoutingCorpus.load` have labels for the layers.
        other: the same for the other set.
        names: of the two sets, such as thinking and answer.
        layers: the layer of each row; needed for plain tensors.

    Raises:
        ValueError: the shapes differ, or the layers are unknown.
    """
    if one.shape != other.shape:
        raise ValueError(
            tr(
                "loads of shapes {shape} and {other} cannot be compared: expected the "
                "same layers and experts",
                shape=tuple(one.shape),
                other=tuple(other.shape),
            )
        )
    if one.shape[0] == 0:
        return empty_figure(tr("There is no load to show: a dense model has no experts."))
    rows = layers_of(one, layers, what=tr("load"))
    first, second = (escape(tr(name)) for name in names)
    return _map(
        one - other,
        title=by_model(tr("Expert load: {first} minus {second}", first=first, second=second), one),
        subtitle=tr("red: higher in {first}; blue: higher in {second}", first=first, second=second),
        x=tr("expert"),
        y=tr("layer"),
        value=tr("difference of load (percentage points)"),
        rows=[str(row) for row in rows],
        diverging=True,
    )


@checked
def knock_out(found: KnockOut, *, most: int = MAX_KNOCK_OUT_ROWS) -> go.Figure:
    """The loss added to each group of texts by switching off an expert, largest first.

    Args:
        found: from `experiments.knockout.knock_out`.
        most: maximum number of experts shown.
    """
    if not found.added.numel():
        return empty_figure(tr("There is nothing to show: no expert was switched off."))
    ranked = found.ranked()
    cells = [(found.layers.index(layer), expert) for layer, expert in ranked[:most]]
    names = [
        tr("layer {layer}, expert {expert}", layer=layer, expert=expert)
        for layer, expert in ranked[:most]
    ]
    rows, columns = map(list, zip(*cells, strict=True))
    load, shown = (100 * found.load[rows, columns]).tolist(), found.added[rows, columns]
    limit = max(float(shown.abs().max()), 1e-6)
    figure = labelled_map(
        shown,
        Side(tr("expert"), names),
        Side(tr("group of texts"), [escape(group) for group in found.groups]),
        title=tr("Loss added by switching off one expert"),
        subtitle=tr(
            "the {n_cells} of {n_ranked} experts with the largest added loss",
            n_cells=len(cells),
            n_ranked=len(ranked),
        ),
        value=tr("added loss (nats per token)"),
        hover=tr("%{y}<br>%{x}: %{z:+.3f} nats per token<br>load %{customdata:.1f} %"),
        low=-limit,
        high=limit,
        palette=DIVERGING,
        about=[[share] * len(found.groups) for share in load],
    )
    figure.update_layout(margin_t=130)
    return figure.update_traces(texttemplate="%{z:.2f}").update_xaxes(side="top")


def _map(
    values: Float[Tensor, "row column"],
    *,
    title: str,
    subtitle: str,
    x: str,
    y: str,
    value: str,
    names: Sequence[str] | None = None,
    rows: Sequence[str] | None = None,
    diverging: bool = False,
) -> go.Figure:
    """A map of shares in percent; NaN is grey."""
    if not values.numel():
        return empty_figure(tr("There is nothing to show: no token passed through an expert."))
    shares = 100 * values.float()
    top = float(shares[~shares.isnan()].abs().max()) if not bool(shares.isnan().all()) else 1.0
    return labelled_map(
        shares,
        Side(y, list(rows or names or map(str, range(len(values))))),
        Side(x, list(names or map(str, range(values.shape[1])))),
        title=title,
        subtitle=subtitle,
        value=value,
        hover=f"{y} %{{y}}<br>{x} %{{x}}<br>%{{z:.1f}}",
        low=-top if diverging else 0.0,
        high=top,
        palette=DIVERGING if diverging else SEQUENTIAL,
    )


def _colours(n: int) -> list[list[Any]]:
    """A colour scale with n equal steps, pale enough for dark text."""
    steps: list[list[Any]] = []
    for step in range(n):
        colour = _pale(COLOURS[step % len(COLOURS)])
        steps += [[step / n, colour], [(step + 1) / n, colour]]
    return steps


def _pale(colour: str) -> str:
    """A colour such as `#0072b2`, mixed with white."""
    parts = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return "rgb({}, {}, {})".format(*(round(255 - TINT_STRENGTH * (255 - part)) for part in parts))
