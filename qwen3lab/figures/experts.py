"""Experts beside experts, and beside what they serve."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, Int
from plotly.colors import qualitative
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from torch import Tensor

from qwen3lab.analysis.specialisation import Interval
from qwen3lab.experiments.knockout import KnockOut
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

PER_ROW = 12
MOST_BARS = 24
COLOURS = (*OKABE_ITO, *qualitative.Dark24)
PALE = 0.45
"""How much of a colour is left where text stands on it."""


def token_strip(
    tokens: Sequence[str], experts: Int[Tensor, " token"], *, layer: int | None = None
) -> go.Figure:
    """The text itself, each token in the colour of one expert.

    Args:
        tokens: text of each token; `rec.tokens`.
        experts: one of each token, such as the best: `rec.routing.experts[row, :, 0]`; -1 for none.
        layer: named in the title.

    Raises:
        ValueError: there is not one expert for each token.
    """
    if len(tokens) != len(experts):
        raise ValueError(
            f"there are {len(experts)} experts for {len(tokens)} tokens: expected one for each"
        )
    if not tokens:
        return empty_figure("There is no text to show: it has no tokens.")
    n_rows = -(-len(tokens) // PER_ROW)
    cells = np.full((n_rows, PER_ROW), np.nan)
    cells.flat[: len(tokens)] = experts.numpy()
    cells[cells < 0] = np.nan
    named = [
        f"<b>{short_text(token, width=9)}</b><br>{'none' if expert < 0 else f'expert {expert}'}"
        for token, expert in zip(tokens, experts.tolist(), strict=True)
    ]
    padded = [*named, *[""] * (n_rows * PER_ROW - len(named))]
    grid = [padded[start : start + PER_ROW] for start in range(0, len(padded), PER_ROW)]
    places = np.arange(n_rows * PER_ROW).reshape(n_rows, PER_ROW)
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
            hovertemplate="token %{customdata}: %{text}<extra></extra>",
            xgap=2,
            ygap=4,
        )
    )
    where = "" if layer is None else f" in layer {layer}"
    figure.update_layout(
        template=TEMPLATE,
        height=90 + 46 * n_rows,
        title=f"The expert of each token{where}",
        margin={"l": 16, "t": 56, "b": 16},
    )
    figure.update_xaxes(visible=False)
    return figure.update_yaxes(visible=False, autorange="reversed")


def transitions(
    flow: Float[Tensor, "earlier later"], *, layers: tuple[int, int] | None = None
) -> go.Figure:
    """Where the tokens of each expert are sent in a later layer.

    Args:
        flow: rows of shares that sum to 1; from `analysis.structure.transitions`.
        layers: the two layers, named on the axes.
    """
    earlier, later = ("earlier layer", "later layer")
    if layers is not None:
        earlier, later = (f"layer {layer}" for layer in layers)
    return _map(
        flow,
        title="Where the tokens of an expert go",
        subtitle=f"uniform would be {100 / max(1, flow.shape[1]):.1f} % each; grey: no tokens",
        x=f"expert in {later}",
        y=f"expert in {earlier}",
        value="share of the slots (%)",
    )


def co_activation(
    together: Float[Tensor, "expert other"], *, layer: int | None = None
) -> go.Figure:
    """Which experts serve the same tokens; alike experts stand side by side.

    Args:
        together: from `analysis.structure.co_activation`.
        layer: named in the title.
    """
    order = _clustered(together)
    where = "" if layer is None else f", layer {layer}"
    shown = together[order][:, order].clone()
    shown.fill_diagonal_(np.nan)
    return _map(
        shown,
        title=f"Experts that serve the same tokens{where}",
        subtitle="grey: an expert with itself, or without tokens",
        x="other expert",
        y="expert",
        value="of its tokens, the other serves (%)",
        names=[str(expert) for expert in order],
    )


def specialisation(
    found: Interval, labels: Sequence[str], *, expert: int, k: int, layer: int | None = None
) -> go.Figure:
    """The share of each label's tokens that an expert serves, with 95% intervals.

    Args:
        found: from `analysis.specialisation.share_intervals`.
        labels: in the order of its rows.
        expert: which one.
        k: experts per token; uniform routing would give each k / experts.
        layer: named in the title.

    Raises:
        ValueError: the labels are not those of the rows, or there is no such expert.
    """
    n_labels, n_experts = found.value.shape
    if len(labels) != n_labels:
        raise ValueError(f"{len(labels)} labels name {n_labels} rows: expected one for each")
    if not 0 <= expert < n_experts:
        raise ValueError(
            f"expert {expert} does not exist: the layer has experts 0 to {n_experts - 1}"
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
            hovertemplate="%{x}<br>%{y:.1f} % (%{customdata[0]:.1f} to %{customdata[1]:.1f})"
            "<extra></extra>",
        )
    )
    uniform = 100 * k / n_experts
    figure.add_hline(
        y=uniform,
        line={"color": MUTED, "width": 1.5, "dash": "dash"},
        annotation={"text": f"uniform: {uniform:.0f} %", "font": {"color": MUTED}},
        annotation_position="top right",
    )
    where = "" if layer is None else f" of layer {layer}"
    figure.update_layout(
        template=TEMPLATE,
        height=380,
        title=f"Whom expert {expert}{where} serves",
        title_subtitle_text="share of each group's tokens; 95% bootstrap intervals over documents",
        margin_t=84,
    )
    return figure.update_yaxes(title="tokens served (%)", rangemode="tozero")


def load_difference(
    one: Float[Tensor, "layer expert"],
    other: Float[Tensor, "*alike"],
    *,
    names: tuple[str, str],
    layers: Sequence[int] | None = None,
) -> go.Figure:
    """The load of each expert on one set of tokens less that on another.

    Args:
        one: share of routed slots, rows sum to 1.
        other: the same for the other set.
        names: of the two sets, such as thinking and answer.
        layers: the number of each row's layer; 0, 1, 2 ... if None.

    Raises:
        ValueError: the two are of different shapes.
    """
    if one.shape != other.shape:
        raise ValueError(
            f"loads of shapes {tuple(one.shape)} and {tuple(other.shape)} cannot be compared: "
            "expected the same layers and experts"
        )
    rows = range(len(one)) if layers is None else layers
    first, second = map(escape, names)
    return _map(
        one - other,
        title=f"Experts of {first} against {second}",
        subtitle=f"red: more of {first}; blue: more of {second}",
        x="expert",
        y="layer",
        value="difference of load (points)",
        rows=[str(row) for row in rows],
        diverging=True,
    )


def knock_out(found: KnockOut, *, most: int = MOST_BARS) -> go.Figure:
    """Which group of texts suffers when an expert is off: the experts that are missed most.

    Args:
        found: from `analysis.knockout.knock_out`.
        most: experts shown at most.
    """
    if not found.added.numel():
        return empty_figure("There is nothing to show: no expert was switched off.")
    worst = found.added.flatten(0, 1).max(dim=1).values
    cells = worst.argsort(descending=True)[:most].tolist()
    n_experts = found.added.shape[1]
    names = [f"layer {found.layers[c // n_experts]}, expert {c % n_experts}" for c in cells]
    load = [100 * float(found.load.flatten()[cell]) for cell in cells]
    shown = found.added.flatten(0, 1)[cells]
    limit = max(float(shown.abs().max()), 1e-6)
    figure = labelled_map(
        shown,
        Side("", names),
        Side("", [escape(group) for group in found.groups]),
        title="What is lost without an expert",
        subtitle=f"the {len(cells)} of {len(worst)} experts that are missed most",
        value="added loss (nats per token)",
        hover="%{y}<br>%{x}: %{z:+.3f} nats per token<br>load %{customdata:.1f} %",
        low=-limit,
        high=limit,
        palette=DIVERGING,
        about=[[share] * len(found.groups) for share in load],
    )
    figure.update_layout(margin_t=110)
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
        return empty_figure("There is nothing to show: no token passed through an expert.")
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


def _clustered(together: Float[Tensor, "expert other"]) -> list[int]:
    """An order in which experts that go together stand together: average linkage."""
    alike = together.nan_to_num(0.0)
    mean = ((alike + alike.T) / 2).clamp(0, 1).double()
    mean.fill_diagonal_(1.0)
    if len(mean) < 3:
        return list(range(len(mean)))
    return leaves_list(linkage(squareform(1 - mean.numpy(), checks=False), "average")).tolist()


def _colours(n: int) -> list[list[Any]]:
    """A colour scale in n even steps, pale enough to read dark text on."""
    steps: list[list[Any]] = []
    for step in range(n):
        colour = _pale(COLOURS[step % len(COLOURS)])
        steps += [[step / n, colour], [(step + 1) / n, colour]]
    return steps


def _pale(colour: str) -> str:
    """A colour such as `#0072b2`, mixed with white."""
    parts = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return "rgb({}, {}, {})".format(*(round(255 - PALE * (255 - part)) for part in parts))
