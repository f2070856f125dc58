"""Accuracy of linear probes by layer, beside their controls."""

from collections.abc import Sequence

import plotly.graph_objects as go

from qwen3lab.analysis.proportions import Share
from qwen3lab.arguments import checked
from qwen3lab.display import count, one_line
from qwen3lab.figures.theme import MUTED, OKABE_ITO, TEMPLATE, escape
from qwen3lab.probes.probes import Probes

MAX_NAMED_LABELS = 6


@checked
def probe_accuracy(result: Probes) -> go.Figure:
    """The share of right labels on held-out groups at each hook, with 95 % intervals.

    Beside it, the probe of shuffled labels, and the share of the most frequent label.

    Args:
        result: from `probes.fit`.
    """
    layers = result.layers
    by_layer = None not in layers and len(set(layers)) == len(layers)
    names = [str(layer) for layer in layers] if by_layer else [escape(h) for h in result.hooks]
    figure = go.Figure(
        [
            _line(names, result.accuracy, "probe", OKABE_ITO[0], 3.0),
            _line(names, result.control, "probe of shuffled labels", OKABE_ITO[1], 1.5),
        ]
    )
    figure.add_hline(
        y=result.chance.value,
        line={"color": MUTED, "dash": "dash", "width": 1.5},
        annotation={"text": "most frequent label", "font": {"color": MUTED, "size": 12}},
    )
    tokens = count(result.chance.total, "token")
    figure.update_layout(
        template=TEMPLATE,
        height=400,
        title=f"{'Sparse linear' if result.sparse else 'Linear'} probes of {_labels(result)}",
        title_subtitle_text=f"{escape(result.model_name)}; {tokens} of "
        f"{count(result.n_groups, 'group')}, each measured without its own",
        margin_t=84,
    )
    where = result.hooks[0].rpartition(".")[2] if by_layer else "hook"
    figure.update_xaxes(title=f"layer ({where})" if by_layer else "hook", type="category")
    return figure.update_yaxes(title="accuracy (share of tokens)", range=[0, 1.03])


def _line(
    names: Sequence[str], shares: Sequence[Share], name: str, colour: str, width: float
) -> go.Scatter:
    ends = [share.interval for share in shares]
    values = [share.value for share in shares]
    hover = "%{x}: %{y:.3f} (%{customdata[0]:.3f} to %{customdata[1]:.3f})"
    return go.Scatter(
        x=list(names),
        y=values,
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [high - value for (_, high), value in zip(ends, values, strict=True)],
            "arrayminus": [value - low for (low, _), value in zip(ends, values, strict=True)],
            "thickness": 1,
        },
        name=name,
        mode="lines+markers",
        line={"color": colour, "width": width},
        customdata=ends,
        hovertemplate=f"{name}<br>{hover}<extra></extra>",
    )


def _labels(result: Probes) -> str:
    named = [one_line(str(label), width=20) for label in result.labels[:MAX_NAMED_LABELS]]
    more = len(result.labels) - len(named)
    return escape(", ".join(named)) + (f" and {more} more labels" if more else "")
