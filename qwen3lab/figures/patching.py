"""Patching and ablation: the effect of each patch, by layer and token, head or expert."""

import math

import plotly.graph_objects as go

from qwen3lab.arguments import checked
from qwen3lab.figures.maps import DIVERGING, Side, labelled_map
from qwen3lab.figures.theme import empty_figure, escape, token_labels
from qwen3lab.patching.results import AXES, Patched, Swept
from qwen3lab.translation import later, tr

SHARE = later("share of the difference")
MIN_LIMIT = 1e-6
"""Minimum end of the colours, for a sweep without any effect."""


@checked
def patching_map(result: Swept) -> go.Figure:
    """The effect of each patch: blue lowers the metric, red raises it, grey was not run.

    Rows are layers, or heads and experts of each layer if tokens are the columns.

    Args:
        result: of `patching.patch`, `patching.attribution_patching`, `patching.path_patching` or
            `patching.ablate`.
    """
    if not result.values.numel():
        return empty_figure(tr("There is nothing to show: no patch was run."))
    n_columns = result.values.shape[-1] if len(result.axes) > 1 else 1
    effects = result.effects.reshape(-1, n_columns)
    limit = max(float(effects.nan_to_num().abs().max()), MIN_LIMIT)
    raw = [[_number(cell) for cell in row] for row in result.raw.reshape(-1, n_columns).tolist()]
    rows, columns = _rows(result), _columns(result)
    return labelled_map(
        effects,
        rows,
        columns,
        title=f"{_title(result)} · {escape(result.model_name)}",
        subtitle=_subtitle(result),
        value=_value(result),
        hover=tr(
            "{row} %{{y}}<br>{column} %{{x}}<br>%{{z:+.3f}}<br>metric: %{{customdata}} {unit}",
            row=rows.title,
            column=columns.title,
            unit=escape(tr(result.unit)),
        ),
        low=-limit,
        high=limit,
        palette=DIVERGING,
        about=raw,
    )


def _title(result: Swept) -> str:
    if isinstance(result, Patched):
        method = tr(result.method)
        return tr("{what}: {of}", what=f"{method[0].upper()}{method[1:]}", of=tr(result.site))
    return tr("Ablation: {site}", site=tr(result.site))


def _subtitle(result: Swept) -> str:
    if not isinstance(result, Patched):
        return tr("{what}: {of}", what=escape(result.metric), of=_number(result.start))
    ends = tr(
        "clean {clean}, corrupt {corrupt}",
        clean=_number(result.clean),
        corrupt=_number(result.corrupt),
    )
    is_clean = result.direction == "denoise"
    side = tr("clean into corrupt") if is_clean else tr("corrupt into clean")
    of = tr("{one}; {other}", one=f"{ends} {escape(tr(result.unit))}", other=side)
    if result.measured is not None:
        of = tr("{one}; {other}", one=of, other=result.measured)
    return tr("{what}: {of}", what=escape(result.metric), of=of)


def _value(result: Swept) -> str:
    if not isinstance(result, Patched):
        return tr("change of the metric ({unit})", unit=escape(tr(result.unit)))
    kind = tr("restored") if result.direction == "denoise" else tr("kept, minus 1")
    return tr("{share} that is {kind}", share=tr(SHARE), kind=kind)


def _rows(result: Swept) -> Side:
    """Layers, or layer and part, such as `3.0`, for three axes."""
    layers = result.names(0)
    if len(result.axes) < 3:
        return Side(tr("layer"), layers)
    parts = result.names(1)
    names = [f"{layer}.{part}" for layer in layers for part in parts]
    return Side(f"{tr('layer')}.{_axis(result.axes[1])}", names)


def _columns(result: Swept) -> Side:
    if len(result.axes) == 1:
        return Side(tr("reader"), [escape(tr(result.site))])
    axis = result.axes[-1]
    if axis != "token":
        return Side(_axis(axis), result.names(len(result.axes) - 1))
    pairs = zip(result.positions, result.tokens, strict=True)
    return Side(tr("token"), [token_labels([text], first=place)[0] for place, text in pairs])


def _axis(name: str) -> str:
    return tr(AXES.get(name, name))


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"
