"""Speed and memory of qwen3lab relative to the best other library, by case."""

from collections.abc import Sequence

import plotly.graph_objects as go

from qwen3lab.arguments import checked
from qwen3lab.figures.theme import OKABE_ITO, STOP_COLOUR, TEMPLATE, empty_figure, escape
from qwen3lab.translation import tr


@checked
def ratios(
    cases: Sequence[str], values: Sequence[float], details: Sequence[str], *, title: str
) -> go.Figure:
    """Bars from 1 on a logarithmic axis, to the right if qwen3lab is better.

    Args:
        cases: name of each measurement.
        values: ratio of qwen3lab to the best other library; above 1 is better.
        details: hover text of each case.
        title: of the figure.

    Raises:
        ValueError: the numbers of cases, values and details differ, or a ratio is not above 0.
    """
    if not len(cases) == len(values) == len(details):
        raise ValueError(
            tr(
                "there are {n_cases} cases, {n_values} ratios and {n_details} details: "
                "expected one of each for every case",
                n_cases=len(cases),
                n_values=len(values),
                n_details=len(details),
            )
        )
    if any(not value > 0 for value in values):
        raise ValueError(tr("ratios are {values}: expected numbers above 0", values=list(values)))
    if not cases:
        return empty_figure(tr("There is no ratio to show: no other library was measured."))
    figure = go.Figure(
        go.Bar(
            # Bars start at 1: a logarithmic axis has no natural origin.
            x=[value - 1 for value in values],
            base=1,
            y=[escape(case) for case in cases],
            orientation="h",
            marker_color=[OKABE_ITO[2] if value >= 1 else STOP_COLOUR for value in values],
            text=[f"{value:.2f}" for value in values],
            textposition="outside",
            cliponaxis=False,
            customdata=[escape(detail) for detail in details],
            hovertemplate="%{y}<br>%{customdata}<extra></extra>",
        )
    )
    figure.add_vline(x=1, line={"color": "#24292f", "width": 1})
    figure.update_layout(
        template=TEMPLATE,
        title=escape(title),
        title_subtitle_text=tr(
            "above 1: qwen3lab is faster, or uses less memory, than the best other"
        ),
        height=150 + 34 * len(cases),
        margin_t=84,
        margin_r=60,
    )
    spacing = "D1" if max(values) < 10 else 1
    figure.update_xaxes(title=tr("ratio to the best other library"), type="log", dtick=spacing)
    return figure.update_yaxes(title=tr("case"), autorange="reversed", showgrid=False)
