"""Entropy and surprisal along a reply."""

from typing import Any

import plotly.graph_objects as go
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from qwen3lab.analysis.uncertainty import Uncertainty
from qwen3lab.arguments import checked
from qwen3lab.figures.theme import (
    FORCED_COLOUR,
    INK,
    OKABE_ITO,
    PART_COLOURS,
    STOP_COLOUR,
    TEMPLATE,
    empty_figure,
    short_text,
    token_labels,
    traces,
)
from qwen3lab.generation.thinking_control import STOP_REASONS
from qwen3lab.translation import tr

MAX_LABELLED = 60
"""Maximum number of tokens that are written below the axis."""

MAX_MARKED = 200
"""Maximum number of tokens whose points are marked on the lines."""


@checked
def uncertainty(result: Uncertainty) -> go.Figure:
    """Entropy and surprisal of each generated token, in nats.

    Thinking and answer are shaded, a labelled line marks the stop, and diamonds mark inserted
    tokens.
    """
    if not result.tokens:
        return empty_figure(tr("There is no entropy to show: no token was generated."))
    drawn = ~result.forced
    figure = _frame()
    surprisal, entropy, inserted = traces(figure)
    surprisal.update(_line(result, result.surprisal, drawn))
    entropy.update(_line(result, result.entropy, drawn))
    inserted.update(_inserted(result))
    figure.update_layout(shapes=_shapes(result), annotations=_annotations(result))
    shown = torch.stack([result.entropy, result.surprisal])[:, drawn].nan_to_num(0, 0, 0)
    highest = float(shown.max()) if shown.numel() else 0.0
    figure.update_yaxes(range=[0, 1.45 * max(highest, 0.4)])  # Room for the names above.
    return figure.update_xaxes(_token_ticks(result))


def _frame() -> go.Figure:
    """A figure with the three traces, without data."""
    line = {"mode": "lines+markers", "marker_size": 5}
    hover = tr("%{customdata}: %{y:.3f} nats")
    figure = go.Figure(
        [
            go.Scatter(name=tr("surprisal"), hovertemplate=hover, **line, line=_stroke(1, "dot")),
            go.Scatter(name=tr("entropy"), hovertemplate=hover, **line, line=_stroke(0, "solid")),
            go.Scatter(
                name=tr("inserted, not sampled"),
                mode="markers",
                marker={"symbol": "diamond", "size": 8, "color": FORCED_COLOUR},
                hovertemplate="%{customdata}",
                showlegend=False,
            ),
        ]
    )
    figure.update_layout(
        template=TEMPLATE,
        height=320,
        title=tr("Entropy and surprisal of each generated token"),
        hovermode="x unified",
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"},
    )
    axis = {"showgrid": False, "zeroline": False}
    figure.update_xaxes(axis, title=tr("position in the conversation (tokens)"))
    return figure.update_yaxes(title=tr("nats"), rangemode="tozero")


def _token_ticks(result: Uncertainty) -> dict[str, Any]:
    """Axis ticks: the tokens' text if there is room for it, else positions."""
    n = len(result.tokens)
    span = {"range": [result.first - 0.8, result.first + n - 0.2]}
    if n > MAX_LABELLED:
        return span | {"tickmode": "auto", "title": tr("position in the conversation (tokens)")}
    text = [short_text(token, width=10) for token in result.tokens]
    ticks = {"tickmode": "array", "tickvals": _positions(result), "ticktext": text}
    return (
        span | ticks | {"tickangle": -90, "tickfont": {"size": 11}, "title": tr("generated token")}
    )


def _stroke(colour: int, dash: str) -> dict[str, object]:
    return {"color": OKABE_ITO[colour], "width": 2, "dash": dash}


def _positions(result: Uncertainty) -> list[int]:
    return list(range(result.first, result.first + len(result.tokens)))


def _line(
    result: Uncertainty, values: Float[Tensor, " token"], shown: Bool[Tensor, " token"]
) -> dict[str, object]:
    finite = (shown & torch.isfinite(values)).tolist()
    return {
        "x": _positions(result),
        "y": [v if ok else None for v, ok in zip(values.tolist(), finite, strict=True)],
        "customdata": token_labels(result.tokens, first=result.first),
        "mode": "lines+markers" if len(result.tokens) <= MAX_MARKED else "lines",
    }


def _inserted(result: Uncertainty) -> dict[str, object]:
    labels = token_labels(result.tokens, first=result.first)
    at = torch.nonzero(result.forced).flatten().tolist()
    return {
        "x": [result.first + i for i in at],
        "y": [0.0] * len(at),
        "customdata": [labels[i] for i in at],
        "showlegend": bool(at),
    }


def _stop(result: Uncertainty) -> float:
    """Position of the stop line: after the thinking if it ended or was stopped, else at the end."""
    if result.thinking[1] > result.thinking[0] and result.stop in ("natural", "budget", "asked"):
        return result.thinking[1] - 0.5
    return result.first + len(result.tokens) - 0.5


def _regions(result: Uncertainty) -> list[tuple[str, float, float]]:
    parts = [("thinking", *result.thinking), ("answer", *result.answer)]
    return [(name, start - 0.5, end - 0.5) for name, start, end in parts if end > start]


def _shapes(result: Uncertainty) -> list[dict[str, Any]]:
    shaded = [
        {
            "type": "rect",
            "xref": "x",
            "yref": "paper",
            "x0": start,
            "x1": end,
            "y0": 0,
            "y1": 1,
            "fillcolor": PART_COLOURS[name],
            "opacity": 0.09,
            "line": {"width": 0},
            "layer": "below",
        }
        for name, start, end in _regions(result)
    ]
    at = _stop(result)
    line = {"color": STOP_COLOUR, "width": 2, "dash": "dash"}
    stop = {"type": "line", "xref": "x", "yref": "paper", "x0": at, "x1": at, "y0": 0, "y1": 1}
    return [*shaded, stop | {"line": line}]


def _annotations(result: Uncertainty) -> list[dict[str, Any]]:
    near_end = result.first + 0.85 * len(result.tokens)
    names = [
        {
            "text": tr(name),
            "x": end if start > near_end else start,
            "xanchor": "right" if start > near_end else "left",
            "y": 1,
            "yanchor": "top",
            "xref": "x",
            "yref": "paper",
            "showarrow": False,
            "font": {"color": PART_COLOURS[name], "size": 13},
        }
        for name, start, end in _regions(result)
    ]
    return [*names, _stop_note(result)]


def _stop_note(result: Uncertainty) -> dict[str, Any]:
    at = _stop(result)
    reason = tr(STOP_REASONS.get(result.stop, result.stop))
    thinks, answers = (part[1] > part[0] for part in (result.thinking, result.answer))
    if result.stop == "natural" and thinks and answers:
        reason = tr("thinking ended by the model")
    in_left_half = at < result.first + len(result.tokens) / 2
    return {
        "text": reason,
        "x": at,
        "y": 0.9,
        "xref": "x",
        "yref": "paper",
        "xanchor": "left" if in_left_half else "right",
        "xshift": 6 if in_left_half else -6,
        "showarrow": False,
        "bgcolor": "rgba(255,255,255,0.8)",
        "font": {"color": INK, "size": 12},
    }
