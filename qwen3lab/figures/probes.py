"""Accuracy of linear probes by layer, beside their controls."""

from collections.abc import Sequence

import plotly.graph_objects as go

from qwen3lab.analysis.proportions import Share
from qwen3lab.arguments import checked
from qwen3lab.display import one_line
from qwen3lab.figures.theme import MUTED, OKABE_ITO, TEMPLATE, escape
from qwen3lab.probes.probes import Probes
from qwen3lab.translation import later, tr, tr_count

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
            _line(names, result.accuracy, tr("probe"), OKABE_ITO[0], 3.0),
            _line(names, result.control, tr("probe of shuffled labels"), OKABE_ITO[1], 1.5),
        ]
    )
    figure.add_hline(
        y=result.chance.value,
        line={"color": MUTED, "dash": "dash", "width": 1.5},
        annotation={"text": tr("most frequent label"), "font": {"color": MUTED, "size": 12}},
    )
    tokens = tr_count("{n:,} token", "{n:,} tokens", result.chance.total)
    groups = tr_count("{n:,} group", "{n:,} groups", result.n_groups)
    kind = later("Sparse linear probes of {labels}")
    kind = kind if result.sparse else later("Linear probes of {labels}")
    figure.update_layout(
        template=TEMPLATE,
        height=400,
        title=tr(kind, labels=_labels(result)),
        title_subtitle_text=tr(
            "{model}; {tokens} of {groups}, each measured without its own",
            model=escape(result.model_name),
            tokens=tokens,
            groups=groups,
        ),
        margin_t=84,
    )
    where = result.hooks[0].rpartition(".")[2] if by_layer else tr("hook")
    figure.update_xaxes(
        title=tr("layer ({where})", where=where) if by_layer else tr("hook"), type="category"
    )
    return figure.update_yaxes(title=tr("accuracy (share of tokens)"), range=[0, 1.03])


def _line(
    names: Sequence[str], shares: Sequence[Share], name: str, colour: str, width: float
) -> go.Scatter:
    ends = [share.interval for share in shares]
    values = [share.value for share in shares]
    hover = tr("%{x}: %{y:.3f} (%{customdata[0]:.3f} to %{customdata[1]:.3f})")
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
    return escape(", ".join(named)) + (tr(" and {more} more labels", more=more) if more else "")
