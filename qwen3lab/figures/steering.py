"""Effect and damage of a steering vector by strength, beside its controls."""

from typing import Any

import plotly.graph_objects as go
from jaxtyping import Float
from plotly.subplots import make_subplots
from torch import Tensor

from qwen3lab.arguments import checked
from qwen3lab.figures.theme import MUTED, OKABE_ITO, TEMPLATE, escape
from qwen3lab.steering.strength import SHUFFLED, VECTOR, StrengthCurve
from qwen3lab.translation import later, tr

UNRELATED = later("vector, on unrelated text")


@checked
def strength_curve(result: StrengthCurve) -> go.Figure:
    """The change of the metric by strength, above; the loss added on neutral text, below.

    Controls have the norm of the vector: random directions are grey, its shuffled values orange.

    Args:
        result: from `steering.strength_curve`.
    """
    figure = make_subplots(rows=2, cols=1, vertical_spacing=0.16, row_heights=[0.58, 0.42])
    for row, values in enumerate((result.effect, result.damage), start=1):
        for trace in _lines(result, values, shown=row == 1):
            figure.add_trace(trace, row=row, col=1)
    on_unrelated = _line(result, UNRELATED, result.unrelated[0], OKABE_ITO[0], "dash")
    figure.add_trace(on_unrelated, row=1, col=1)
    figure.update_layout(
        template=TEMPLATE,
        height=560,
        title=tr(
            "Effect and damage of a steering vector · {model_name}",
            model_name=escape(result.model_name),
        ),
        title_subtitle_text=escape(result.made_by),
        margin_t=84,
        legend={"orientation": "h", "y": -0.16, "yanchor": "top"},
    )
    figure.update_xaxes(title=tr("strength (factor of the vector)"))
    figure.update_yaxes(
        title=tr("change of {metric} ({unit})", metric=escape(result.metric), unit=tr(result.unit)),
        row=1,
        col=1,
    )
    return figure.update_yaxes(title=tr("loss added (nats per token)"), row=2, col=1)


def _lines(
    result: StrengthCurve, values: Float[Tensor, "direction strength"], *, shown: bool
) -> list[go.Scatter]:
    """A line for each direction, the vector's last, so that it is on top."""
    lines = []
    is_first_random = True
    for name, each in reversed(list(zip(result.directions, values, strict=True))):
        is_random = name not in (VECTOR, SHUFFLED)
        colour = MUTED if is_random else OKABE_ITO[1 if name == SHUFFLED else 0]
        line = _line(result, name, each, colour, "solid" if name == VECTOR else "dot")
        in_legend = shown and (not is_random or is_first_random)
        line.update(showlegend=in_legend, legendgroup="random" if is_random else name)
        if is_random and is_first_random:
            line.update(name=tr("random, same norm"))
            is_first_random = False
        lines.append(line)
    return lines


def _line(
    result: StrengthCurve, name: str, values: Float[Tensor, " strength"], colour: str, dash: str
) -> go.Scatter:
    shown: list[Any] = [None if value != value else value for value in values.tolist()]
    return go.Scatter(
        x=list(result.strengths),
        y=shown,
        name=tr(name),
        mode="lines+markers",
        line={"color": colour, "width": 3 if name == VECTOR else 1.5, "dash": dash},
        marker_size=6 if name == VECTOR else 4,
        hovertemplate=tr("{name}<br>strength %{{x:g}}<br>%{{y:.4f}}<extra></extra>", name=tr(name)),
    )
