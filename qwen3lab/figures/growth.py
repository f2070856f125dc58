"""Loss, heads and routing over the steps of a training run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from qwen3lab.arguments import checked
from qwen3lab.figures.theme import MUTED, OKABE_ITO, TEMPLATE
from qwen3lab.tiny.growth import Snapshot, saturation
from qwen3lab.translation import tr

DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
MAX_MARKED = 60
"""Maximum number of snapshots whose points are marked on the lines."""


MARGIN = {"t": 64, "r": 16, "l": 60, "b": 50, "autoexpand": False}
"""Fixed, so that a legend wider than its panel does not shrink the plots."""


@dataclass(frozen=True)
class Panel:
    """One plot: title, unit, and the named values of each snapshot."""

    title: str
    unit: str
    rows: Sequence[Mapping[str, float]]
    chance: Sequence[Mapping[str, float]] | None = None
    top: float | None = None


@checked
def growth(history: Sequence[Snapshot], *, log_steps: bool = False) -> go.Figure:
    """The training of a model in four plots over its steps.

    Excess loss by family; best score of each kind of head; mutual information of expert and
    family, in grey its maximum over shuffled labels; and router saturation, the share of the
    last snapshot's expert choices that were made already. A dense model has the first two only.

    Args:
        history: of a `Growth` or an `early_life`, the first snapshot first.
        log_steps: logarithmic step axis; it does not show step 0.

    Raises:
        ValueError: the history is empty.
    """
    if not history:
        raise ValueError(tr("the history is empty: expected at least one snapshot"))
    steps, panels = [snapshot.step for snapshot in history], _panels(history)
    n_rows = len(panels) // 2
    figure = make_subplots(rows=n_rows, cols=2, horizontal_spacing=0.1, vertical_spacing=0.21)
    for number, panel in enumerate(panels):
        row, col = number // 2 + 1, number % 2 + 1
        for line in _lines(steps, panel, number):
            figure.add_trace(line, row=row, col=col)
        span = None if panel.top is None else [0, panel.top]
        figure.update_yaxes(title=panel.unit, rangemode="tozero", range=span, row=row, col=col)
        figure.update_xaxes(title=tr("training step"), row=row, col=col)
        figure.add_annotation(_title(figure, panel, number))
        figure.update_layout({_legend_name(number): _legend(figure, number)})
    if log_steps:
        figure.update_xaxes(type="log", tickvals=steps)
    else:
        figure.update_xaxes(rangemode="tozero")
    return figure.update_layout(template=TEMPLATE, height=340 * n_rows, margin=MARGIN)


def _panels(history: Sequence[Snapshot]) -> list[Panel]:
    heads = [{kind: float(s.max()) for kind, s in one.heads.items()} for one in history]
    all_models = [
        Panel(tr("Excess loss"), tr("nats per token"), [one.surplus for one in history]),
        Panel(tr("Best head of each kind"), tr("score"), heads, top=1.05),
    ]
    if not history[-1].information:
        return all_models
    names = [tr("layer {layer}", layer=layer) for layer in history[-1].layers]
    values = [_by_name(names, [i.value for i in one.information]) for one in history]
    chance = [_by_name(names, [i.shuffled[-1] for i in one.information]) for one in history]
    saturated = [_by_name(names, row.tolist()) for row in saturation(history)]
    return [
        *all_models,
        Panel(tr("Mutual information: expert, family"), tr("nats"), values, chance),
        Panel(tr("Router saturation"), tr("share"), saturated, top=1.05),
    ]


def _by_name(names: Sequence[str], values: Sequence[float]) -> dict[str, float]:
    return dict(zip(names, values, strict=True))


def _title(figure: go.Figure, panel: Panel, number: int) -> dict[str, Any]:
    x, y = _domain(figure, number)
    return {
        "text": f"<b>{panel.title}</b>",
        "xref": "paper",
        "yref": "paper",
        "x": x[0],
        "xanchor": "left",
        "y": y[1],
        "yanchor": "bottom",
        "yshift": 26,
        "showarrow": False,
        "font": {"size": 14},
    }


def _lines(steps: Sequence[int], panel: Panel, number: int) -> list[go.Scatter]:
    lines = []
    for place, name in enumerate(panel.rows[0]):
        if panel.chance is not None:
            below = [row[name] for row in panel.chance]
            grey = {"color": MUTED, "width": 1, "dash": "dot"}
            hover = tr("{name}, maximum of the shuffles: %{{y:.3f}}<extra></extra>", name=tr(name))
            chance = go.Scatter(x=steps, y=below, mode="lines", line=grey, hovertemplate=hover)
            lines.append(chance.update(showlegend=False))
        stroke = {"color": OKABE_ITO[place % len(OKABE_ITO)], "width": 2}
        line = go.Scatter(
            x=steps,
            y=[row[name] for row in panel.rows],
            name=tr(name).removesuffix(" token"),
            legend=_legend_name(number),
            mode="lines+markers" if len(steps) <= MAX_MARKED else "lines",
            marker_size=4,
            line=stroke | {"dash": DASHES[place % len(DASHES)]},
            hovertemplate=tr("step %{{x}}<br>{name}: %{{y:.3f}}<extra></extra>", name=tr(name)),
        )
        lines.append(line)
    return lines


def _legend_name(number: int) -> str:
    return "legend" if number == 0 else f"legend{number + 1}"


def _legend(figure: go.Figure, number: int) -> dict[str, Any]:
    """Layout of a panel's legend: above the panel, below its title."""
    x, y = _domain(figure, number)
    left = number % 2 == 0
    aligned = {"x": x[0], "xanchor": "left"} if left else {"x": x[1], "xanchor": "right"}
    place = aligned | {"y": y[1], "yanchor": "bottom", "orientation": "h"}
    return place | {"bgcolor": "rgba(255,255,255,0)", "font": {"size": 10.5}}


def _domain(figure: go.Figure, number: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """A panel's x and y range in paper coordinates."""
    axis = "" if number == 0 else str(number + 1)
    layout: Any = figure.layout
    return layout[f"xaxis{axis}"].domain, layout[f"yaxis{axis}"].domain
