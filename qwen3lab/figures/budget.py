"""What a thinking budget buys."""

from collections.abc import Mapping

import plotly.graph_objects as go

from qwen3lab.figures.theme import MUTED, OKABE_ITO, TEMPLATE, empty_figure
from qwen3lab.tiny.replies import Share


def budget_curve(by_budget: Mapping[int, Share], *, at_once: Share | None = None) -> go.Figure:
    """Accuracy against thinking tokens allowed, with 95% Wilson intervals.

    Args:
        by_budget: how many answers were right, for each budget in tokens; from `by_budget`.
        at_once: the same without thinking, drawn as a level line with its interval.
    """
    if not by_budget:
        return empty_figure("There is no accuracy to show: no budget was tried.")
    budgets = sorted(by_budget)
    shares = [by_budget[budget] for budget in budgets]
    figure = go.Figure(
        go.Scatter(
            x=budgets,
            y=[share.value for share in shares],
            error_y={
                "array": [share.interval[1] - share.value for share in shares],
                "arrayminus": [share.value - share.interval[0] for share in shares],
                "thickness": 1.5,
                "width": 4,
            },
            customdata=[[*share.interval, share.hits, share.total] for share in shares],
            mode="lines+markers",
            line={"color": OKABE_ITO[0], "width": 2},
            marker_size=8,
            name="within the budget",
            hovertemplate="at most %{x} thinking tokens<br>accuracy %{y:.3f} (%{customdata[0]:.3f} "
            "to %{customdata[1]:.3f})<br>%{customdata[2]} of %{customdata[3]}<extra></extra>",
        )
    )
    if at_once is not None:
        _level(figure, at_once)
    figure.update_layout(
        template=TEMPLATE,
        height=400,
        title="What a thinking budget buys",
        title_subtitle_text=f"{shares[0].total} problems, 95% Wilson intervals",
        margin_t=84,
        showlegend=False,
    )
    figure.update_xaxes(title="thinking tokens allowed", rangemode="tozero")
    return figure.update_yaxes(title="share of answers that are right", range=[0, 1.04])


def _level(figure: go.Figure, share: Share) -> None:
    low, high = share.interval
    figure.add_hrect(y0=low, y1=high, fillcolor=MUTED, opacity=0.15, line_width=0)
    figure.add_hline(
        y=share.value,
        line={"color": MUTED, "width": 1.5, "dash": "dash"},
        annotation={
            "text": f"without thinking: {share.value:.2f}",
            "font": {"color": MUTED},
            "yanchor": "bottom",
        },
        annotation_position="bottom right",
    )
