"""Accuracy and thinking length against the thinking budget."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from qwen3lab.analysis.budgets import BudgetCurve, BudgetPoint, Lengths
from qwen3lab.analysis.proportions import Share
from qwen3lab.arguments import checked
from qwen3lab.figures.theme import MUTED, OKABE_ITO, TEMPLATE, empty_figure, escape
from qwen3lab.translation import later, tr

ACCURACY = later("share of right answers")
TITLE = later("Accuracy under a thinking budget")
COSTS = {
    "budget": later("thinking tokens allowed"),
    "tokens": later("thinking tokens used (mean)"),
    "flops": later("floating-point operations per answer (mean)"),
}
NO_BUDGET = later("There is no accuracy to show: no budget was tested.")


@checked
def budget_curve(by_budget: Mapping[int, Share], *, at_once: Share | None = None) -> go.Figure:
    """Accuracy against thinking tokens allowed, with 95% Wilson intervals.

    Args:
        by_budget: share of right answers for each budget in tokens, as in a model card.
        at_once: share without thinking, drawn as a horizontal line with its interval.
    """
    if not by_budget:
        return empty_figure(tr(NO_BUDGET))
    budgets = sorted(by_budget)
    shares = [by_budget[budget] for budget in budgets]
    about = [tr("at most {budget} thinking tokens", budget=budget) for budget in budgets]
    totals = [share.total for share in shares]
    figure = _framed(tr(TITLE), totals, tr(COSTS["budget"]))
    figure.add_trace(_line(tr("within the budget"), budgets, shares, about, 0))
    figure.update_layout(showlegend=False)
    if at_once is not None:
        _level(figure, at_once)
    return figure.update_xaxes(rangemode="tozero")


@checked
def accuracy_curves(curves: Sequence[BudgetCurve], *, against: str = "budget") -> go.Figure:
    """Accuracy against the budget, for several models or several levels of problems.

    Args:
        curves: from `analysis.budgets.curve`.
        against: "budget", the thinking tokens allowed; "tokens", the thinking tokens used; or
            "flops", the operations per answer, on a logarithmic axis. Answers without thinking
            are open circles, left of 0 if the axis is the budget.

    Raises:
        ValueError: `against` is none of the three.
    """
    if against not in COSTS:
        raise ValueError(
            tr(
                "against is {against!r}: choose from {costs}",
                against=against,
                costs=", ".join(COSTS),
            )
        )
    if not curves:
        return empty_figure(tr(NO_BUDGET))
    totals = [point.right.total for curve in curves for point in curve.points]
    figure = _framed(tr(TITLE), totals, tr(COSTS[against]))
    left = -0.05 * max(curve.points[-1].budget or 1 for curve in curves)
    for number, curve in enumerate(curves):
        costs = [_cost(point, against, left) for point in curve.points]
        rights = [point.right for point in curve.points]
        about = [_about(point) for point in curve.points]
        figure.add_trace(_line(escape(curve.name), costs, rights, about, number))
        if curve.at_once is not None:
            quick = curve.at_once
            dot = _line(
                escape(curve.name),
                [_cost(quick, against, left)],
                [quick.right],
                [_about(quick)],
                number,
            )
            figure.add_trace(
                dot.update(showlegend=False, mode="markers", marker_symbol="circle-open")
            )
    figure.update_layout(showlegend=len(curves) > 1)
    if all(curve.name.isdigit() for curve in curves):  # a bare number says nothing by itself
        figure.update_layout(legend_title_text=tr("level"))
    if against == "flops":
        figure.update_xaxes(type="log", exponentformat="SI")
    return figure


@checked
def accuracy_by_size(curves: Sequence[BudgetCurve]) -> go.Figure:
    """Accuracy of each model against its active parameters.

    One line with the largest budget and one without thinking, if that was tested: they show
    whether a small model with thinking reaches the accuracy of a larger one without.

    Args:
        curves: one per model, from `analysis.budgets.curve`.
    """
    if not curves:
        return empty_figure(tr(NO_BUDGET))
    totals = [point.right.total for curve in curves for point in curve.points]
    figure = _framed(tr("Accuracy and size"), totals, tr("active parameters"))
    ordered = sorted(curves, key=lambda curve: curve.active_params)
    lines = {
        tr("with thinking"): [(curve, curve.points[-1]) for curve in ordered],
        tr("without thinking"): [
            (curve, curve.at_once) for curve in ordered if curve.at_once is not None
        ],
    }
    for number, (name, models) in enumerate(lines.items()):
        if models:
            sizes = [curve.active_params for curve, _ in models]
            about = [f"{escape(curve.name)}, {_about(point)}" for curve, point in models]
            line = _line(name, sizes, [point.right for _, point in models], about, number)
            figure.add_trace(line.update(line_dash="dot"))
    for curve in ordered:
        figure.add_annotation(
            x=math.log10(curve.active_params),
            y=0,
            yref="paper",
            yanchor="bottom",
            text=escape(curve.name),
            showarrow=False,
            textangle=-90,
            font={"color": MUTED, "size": 12},
        )
    sizes = sorted({curve.active_params for curve in curves})
    labels = [f"{size / 1e6:,.2f} M" for size in sizes]
    return figure.update_xaxes(type="log", tickvals=sizes, ticktext=labels, tickangle=-30)


@checked
def thinking_lengths(lengths: Sequence[Lengths]) -> go.Figure:
    """Thinking lengths without a budget, by problem level.

    Args:
        lengths: from `analysis.budgets.natural_lengths`.
    """
    if not any(level.tokens for level in lengths):
        return empty_figure(
            tr("There is no length to show: the largest budget cut every thinking.")
        )
    figure = go.Figure(
        [
            go.Box(
                y=level.tokens,
                name=escape(level.level) or tr("all"),
                marker_color=OKABE_ITO[0],
                boxpoints="all" if len(level.tokens) <= 50 else False,
                jitter=0.4,
                pointpos=0,
                marker_size=4,
                hovertemplate=tr("level %{x}<br>%{y} thinking tokens<extra></extra>"),
            )
            for level in lengths
        ]
    )
    cut = sum(level.cut for level in lengths)
    total = cut + sum(len(level.tokens) for level in lengths)
    figure.update_layout(
        template=TEMPLATE,
        height=400,
        title=tr("Thinking length by problem level"),
        title_subtitle_text=tr(
            "{total} replies; without {cut} that the largest budget cut", total=total, cut=cut
        ),
        margin_t=84,
        showlegend=False,
    )
    figure.update_xaxes(title=tr("problem level"), type="category")
    return figure.update_yaxes(title=tr("thinking tokens"), rangemode="tozero")


def _framed(title: str, totals: Sequence[int], x: str) -> go.Figure:
    least, most = min(totals), max(totals)
    n = str(most) if least == most else tr("{least} to {most}", least=least, most=most)
    figure = go.Figure()
    figure.update_layout(
        template=TEMPLATE,
        height=400,
        title=title,
        title_subtitle_text=tr("{n} answers per point, 95% Wilson intervals", n=n),
        margin_t=84,
    )
    figure.update_xaxes(title=x)
    return figure.update_yaxes(title=tr(ACCURACY), range=[0, 1.04])


def _line(
    name: str, x: Sequence[int | float], shares: Sequence[Share], about: Sequence[str], number: int
) -> go.Scatter:
    intervals = [share.interval for share in shares]
    return go.Scatter(
        x=list(x),
        y=[share.value for share in shares],
        error_y={
            "array": [high - s.value for s, (_, high) in zip(shares, intervals, strict=True)],
            "arrayminus": [s.value - low for s, (low, _) in zip(shares, intervals, strict=True)],
            "thickness": 1.5,
            "width": 4,
        },
        customdata=[
            [*interval, share.hits, share.total, text]
            for interval, share, text in zip(intervals, shares, about, strict=True)
        ],
        mode="lines+markers",
        line={"color": OKABE_ITO[number % len(OKABE_ITO)], "width": 2},
        marker_size=8,
        name=name,
        hovertemplate=tr(
            "%{customdata[4]}<br>accuracy %{y:.3f} (%{customdata[0]:.3f} "
            "to %{customdata[1]:.3f})<br>%{customdata[2]} of %{customdata[3]}<extra></extra>"
        ),
    )


def _cost(point: BudgetPoint, against: str, left: float) -> float:
    if against == "budget":
        return left if point.budget is None else float(point.budget)
    return point.thinking_tokens if against == "tokens" else point.flops


def _about(point: BudgetPoint) -> str:
    allowed = (
        tr("no thinking")
        if point.budget is None
        else tr("at most {budget} thinking tokens", budget=point.budget)
    )
    return tr(
        "{allowed}: {thinking_tokens:.1f} used, {flops:.2g} operations",
        allowed=allowed,
        thinking_tokens=point.thinking_tokens,
        flops=point.flops,
    )


def _level(figure: go.Figure, share: Share) -> None:
    low, high = share.interval
    figure.add_hrect(y0=low, y1=high, fillcolor=MUTED, opacity=0.15, line_width=0)
    note: dict[str, Any] = {
        "text": tr("without thinking: {value:.2f}", value=share.value),
        "font": {"color": MUTED},
        "yanchor": "bottom",
    }
    figure.add_hline(
        y=share.value,
        line={"color": MUTED, "width": 1.5, "dash": "dash"},
        annotation=note,
        annotation_position="bottom right",
    )
