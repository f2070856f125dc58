"""Direct logit attribution: the strongest parts as a waterfall, and all parts by layer."""

import plotly.graph_objects as go

from qwen3lab.arguments import Count, checked
from qwen3lab.attribution.direct import DirectAttribution, Part
from qwen3lab.figures.theme import INK, MUTED, OKABE_ITO, TEMPLATE, empty_figure, escape, short_text
from qwen3lab.translation import later, tr, tr_count

RISE, FALL = OKABE_ITO[0], OKABE_ITO[5]
N_PARTS = 15
"""Number of parts of a waterfall."""

KIND_COLOURS = {
    later("embedding"): MUTED,
    "head": OKABE_ITO[0],
    later("mlp"): OKABE_ITO[1],
    "expert": OKABE_ITO[1],
    later("neuron"): OKABE_ITO[2],
    later("remainder"): INK,
}
KIND_NAMES = {
    "head": later("heads"),
    later("mlp"): later("MLP"),
    "expert": later("experts"),
    later("neuron"): later("neurons"),
}
HOVER = later("%{x}<br>%{y:+.3f} logits<extra></extra>")


@checked
def attribution_waterfall(direct: DirectAttribution, *, most: Count = N_PARTS) -> go.Figure:
    """The strongest parts of a logit one after another, up to the logit itself.

    Parts are in the order of the forward pass; those that are not shown are one step before the
    total.

    Args:
        direct: of `attribution.direct` or `attribution.neurons`.
        most: maximum number of parts shown.
    """
    if not direct.parts:
        return empty_figure(tr("There is nothing to show: the attribution has no parts."))
    shown, rest = _strongest(direct, most)
    steps = [(escape(part.title), part.value) for part in shown]
    if rest:
        steps.append(
            (
                tr_count("{n:,} other part", "{n:,} other parts", len(rest)),
                sum(part.value for part in rest),
            )
        )
    names, values = zip(*steps, strict=True)
    figure = go.Figure(
        go.Waterfall(
            x=[*names, tr("total")],
            y=[*values, 0.0],
            measure=[*["relative"] * len(values), "total"],
            text=[*(f"{value:+.2f}" for value in values), f"{sum(values):.2f}"],
            textposition="outside",
            cliponaxis=False,
            increasing_marker_color=RISE,
            decreasing_marker_color=FALL,
            totals_marker_color=MUTED,
            connector_line_color=MUTED,
            hovertemplate=tr("%{x}<br>%{text} logits<extra></extra>"),
        )
    )
    return _titled(figure, direct, tr("part, in the order of the forward pass"))


@checked
def attribution_layers(direct: DirectAttribution) -> go.Figure:
    """What heads and MLPs or experts of each layer add to a logit, stacked.

    Args:
        direct: of `attribution.direct`.
    """
    if not direct.parts:
        return empty_figure(tr("There is nothing to show: the attribution has no parts."))
    sums = {kind: values.tolist() for kind, values in direct.by_layer().items()}
    n_layers = max(map(len, sums.values()), default=0)
    alone = {part.kind: part.value for part in direct.parts if part.layer is None}
    order = [*(tr(kind) for kind in alone if kind != "remainder"), *map(str, range(n_layers))]
    order += [tr(kind) for kind in alone if kind == "remainder"]
    figure = go.Figure()
    for kind, value in alone.items():
        figure.add_trace(_bars([tr(kind)], [value], kind))
    for kind, values in sums.items():
        figure.add_trace(_bars([str(layer) for layer in range(len(values))], values, kind))
    figure.update_layout(barmode="relative")
    figure = _titled(figure, direct, tr("layer"))
    return figure.update_xaxes(categoryorder="array", categoryarray=order)


def _strongest(direct: DirectAttribution, most: int) -> tuple[list[Part], list[Part]]:
    """The strongest parts in the order of the forward pass, and the others."""
    order = sorted(range(len(direct.parts)), key=lambda n: -abs(direct.parts[n].value))
    chosen = set(order[:most])
    numbered = list(enumerate(direct.parts))
    return [p for n, p in numbered if n in chosen], [p for n, p in numbered if n not in chosen]


def _bars(names: list[str], values: list[float], kind: str) -> go.Bar:
    name = tr(KIND_NAMES.get(kind, kind))
    return go.Bar(
        x=names,
        y=values,
        name=name,
        marker_color=KIND_COLOURS.get(kind, MUTED),
        hovertemplate=tr("{kind}, layer {hover}", kind=name, hover=tr(HOVER))
        if kind in KIND_NAMES
        else tr(HOVER),
    )


def _titled(figure: go.Figure, direct: DirectAttribution, axis: str) -> go.Figure:
    where = tr(
        "at token {position} {token}",
        position=direct.position,
        token=short_text(direct.token, width=16),
    )
    figure.update_layout(
        template=TEMPLATE,
        height=440,
        margin_t=84,
        title=tr(
            "Direct attribution of {label} · {model_name}",
            label=escape(tr(direct.label)),
            model_name=escape(direct.model_name),
        ),
        title_subtitle_text=tr(
            "{where}; total {total:.2f} logits", where=where, total=direct.total
        ),
    )
    figure.update_xaxes(type="category", title=axis)
    return figure.update_yaxes(title=tr("added to the logit (logits)"))
