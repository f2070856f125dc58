"""Loss and errors against the share of the experts that stay."""

from collections.abc import Sequence
from statistics import fmean

import plotly.graph_objects as go

from qwen3lab.arguments import checked
from qwen3lab.experiments.pruning import RANDOM, PruningCurve, PruningPoint
from qwen3lab.figures.theme import MUTED, OKABE_ITO, TEMPLATE, empty_figure, escape
from qwen3lab.translation import later, tr

UNITS = {
    "loss": (later("Loss"), later("loss (nats per token)"), ".3f"),
    "errors": (later("Errors"), later("share of wrong answers"), ".0%"),
}
DASHES = ("dot", "dash", "dashdot")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross")


@checked
def pruning_curve(curve: PruningCurve, *, measure: str = "loss") -> go.Figure:
    """The mean over all groups against the share of the experts that stay.

    Random choices are a grey line of their mean, and a band from the best to the worst of them.

    Args:
        curve: from `experiments.pruning.pruning_curve`.
        measure: "loss" or "errors".

    Raises:
        ValueError: an unknown measure.
    """
    if measure not in UNITS:
        raise ValueError(
            tr(
                "measure is {measure!r}: choose from {units}",
                measure=measure,
                units=", ".join(UNITS),
            )
        )
    points = [each for each in curve.points if getattr(each, measure)]
    if not points:
        return empty_figure(tr("There is nothing to show: no model was measured with problems."))
    title, unit, digits = UNITS[measure]
    shares = sorted({each.share for each in points})
    figure = go.Figure()
    whole = [each for each in points if each.share == 1][:1]
    for place, name in enumerate(dict.fromkeys(e.score for e in points if e.is_random)):
        drawn = [*whole, *(each for each in points if each.score == name)]
        figure.add_traces(_band(drawn, name, place, measure, shares, digits))
    names = dict.fromkeys(each.score for each in points if not each.is_random)
    for place, name in enumerate(names):
        own = [each for each in points if each.score == name]
        figure.add_trace(_line(own, name, place, measure, digits))
    figure.update_layout(
        template=TEMPLATE,
        height=400,
        title=tr("{title} with fewer experts", title=tr(title)),
        title_subtitle_text=tr("mean over the groups; each score chooses the experts that stay"),
        margin_t=84,
        legend={"orientation": "h", "y": -0.2, "yanchor": "top"},
    )
    figure.update_xaxes(title=tr("experts that stay (%)"), ticksuffix=" %")
    return figure.update_yaxes(title=tr(unit), tickformat=digits if measure == "errors" else None)


def _line(
    points: Sequence[PruningPoint], name: str, place: int, measure: str, digits: str
) -> go.Scatter:
    ordered = sorted(points, key=lambda each: each.share)
    return go.Scatter(
        x=[100 * each.share for each in ordered],
        y=[fmean(getattr(each, measure).values()) for each in ordered],
        name=escape(name),
        mode="lines+markers",
        line={"color": OKABE_ITO[place % len(OKABE_ITO)], "width": 2},
        marker={"symbol": SYMBOLS[place % len(SYMBOLS)], "size": 8},
        hovertemplate=_hover(escape(name), digits),
    )


def _hover(name: str, digits: str) -> str:
    stay = tr("%{x:.0f} % stay")
    return f"{name}<br>{stay}<br>%{{y:{digits}}}<extra></extra>"


def _band(
    points: Sequence[PruningPoint],
    name: str,
    place: int,
    measure: str,
    shares: Sequence[float],
    digits: str,
) -> list[go.Scatter]:
    """The best and the worst random choice of each share, filled, and their mean."""
    at = {
        share: [fmean(getattr(e, measure).values()) for e in points if e.share == share]
        for share in shares
    }
    drawn, name = {100 * share: values for share, values in at.items() if values}, _random(name)
    x, edge = list(drawn), {"mode": "lines", "line_width": 0, "showlegend": False}
    fill = {"fill": "tonexty", "fillcolor": "rgba(106, 115, 125, 0.2)", "hoverinfo": "skip"}
    return [
        go.Scatter(x=x, y=[min(v) for v in drawn.values()], hoverinfo="skip", **edge),
        go.Scatter(x=x, y=[max(v) for v in drawn.values()], **fill, **edge),
        go.Scatter(
            x=x,
            y=[fmean(v) for v in drawn.values()],
            name=name,
            mode="lines+markers",
            line={"color": MUTED, "width": 2, "dash": DASHES[place % len(DASHES)]},
            marker={"symbol": "x", "size": 7},
            hovertemplate=_hover(name, digits),
        ),
    ]


def _random(score: str) -> str:
    kind = score.removeprefix(RANDOM)
    return f"{tr('random choice')}{escape(kind)}"
