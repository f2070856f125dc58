"""Data of the workbench's raw view: one activation as numbers and as a map. Draws nothing."""

import html
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.figures.maps import DIVERGING
from qwen3lab.figures.scales import AUTOMATIC, BY_VALUES, ScaleChoice
from qwen3lab.figures.theme import visible
from qwen3lab.hooks.points import PATTERN_HOOKS, hook_names
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import tr
from qwen3lab.widgets.components.heatmap import Axis, Heatmap
from qwen3lab.widgets.explorers.chat_compute import token_spans

N_LARGEST = 8
"""Dimensions of a token that are listed, with the largest values."""

QUANTILE = 0.995
"""Share of the values, by size, that the colours of a map tell apart."""


def listed_hooks(config: Qwen3Config, containing: str, recording: Recording | None) -> list[str]:
    """Names of hooks that contain all words of a text, in the order of the forward pass.

    Args:
        config: of the model.
        containing: words, separated by spaces.
        recording: if given, only its hooks: what was not recorded cannot be.
    """
    words = containing.lower().split()
    names = hook_names(config) if recording is None else recording.capture
    return [name for name in names if all(word in name.lower() for word in words)]


def axes_of(hook: str, config: Qwen3Config) -> list[str]:
    """Names of an activation's axes, without the batch."""
    return hook_names(config)[hook].axes.split()[1:]


def hook_html(hook: str, config: Qwen3Config, value: Tensor | None) -> str:
    """What a hook is, and the shape and kind of its values if they were recorded."""
    meaning = html.escape(tr(hook_names(config)[hook].meaning))
    shape = ""
    if value is not None:
        sizes = zip(axes_of(hook, config), value.shape, strict=True)
        named = ", ".join(f"{name} {size:,}" for name, size in sizes)
        dtype = str(value.dtype).removeprefix("torch.")
        shape = f" · {named} · {dtype} · {value.nbytes / 2**20:.2f} MiB"
    return f'<div class="q3-said"><b>{html.escape(hook)}</b>{tr(": ")}{meaning}{shape}</div>'


def as_rows(hook: str, value: Tensor) -> Float[Tensor, "token dimension"]:
    """An activation with one row for each token; the other axes become one.

    Of patterns, which have a query and a key axis, a row is a query, with the keys of all heads.
    """
    if hook.endswith(PATTERN_HOOKS):
        value = value.transpose(0, 1)
    return value.reshape(len(value), -1)


def raw_heatmap(
    hook: str,
    value: Tensor,
    recording: Recording,
    config: Qwen3Config,
    colours: ScaleChoice = BY_VALUES,
) -> Heatmap:
    """The values of an activation: tokens downwards, dimensions to the right.

    Args:
        hook: its name.
        value: of the activation, without the batch.
        recording: of the text.
        config: of the model.
        colours: the colour scale that the map is shown with. The automatic one ends at `QUANTILE`,
            a chosen one at the largest value unless it is clipped.
    """
    rows = as_rows(hook, value).float()
    finite = rows[rows.isfinite()]
    is_signed = bool((finite < 0).any())
    is_automatic = colours.kind == AUTOMATIC
    high = _clip(finite.abs(), QUANTILE if is_automatic else 1.0)
    inner = " × ".join(name for name in axes_of(hook, config) if name not in ("pos", "query"))
    return Heatmap(
        title=_title(hook) if is_automatic else hook,
        values=rows.masked_fill(~rows.isfinite(), torch.nan),
        rows=Axis(tr("token"), tr("token"), tuple(recording.tokens), token_spans(recording)),
        columns=Axis(inner, inner, ("",) * rows.shape[1]),
        value_title=tr("value"),
        low=-high if is_signed else 0.0,
        high=high,
        nothing=tr("masked"),
        palette=DIVERGING if is_signed else "Viridis",
    )


def _title(hook: str) -> str:
    return tr("{hook}, colours up to the {percent:g}% quantile", hook=hook, percent=100 * QUANTILE)


def token_html(hook: str, value: Tensor, recording: Recording, token: int) -> str:
    """Statistics and the largest values of an activation at one token, as HTML."""
    here = as_rows(hook, value)[token].float()
    finite = here[here.isfinite()]
    if not len(finite):
        return ""
    text = html.escape(visible(recording.tokens[token]))
    numbers = {
        tr("mean"): finite.mean(),
        tr("deviation"): finite.std(correction=0),
        tr("norm"): finite.norm(),
        tr("smallest"): finite.min(),
        tr("largest"): finite.max(),
    }
    facts = tr(", ").join(f"{name} {float(number):.4g}" for name, number in numbers.items())
    order = here.nan_to_num(neginf=0.0).abs().topk(min(N_LARGEST, len(here))).indices.tolist()
    about = tr("Token {token} “{text}”: {facts}", token=token, text=text, facts=facts)
    largest = tr("largest by size: {listed}", listed=_listed(here, order, value, hook))
    return f'<div class="q3-notes"><div>{about}</div><div>{largest}</div></div>'


def _listed(here: Float[Tensor, " n"], order: Sequence[int], value: Tensor, hook: str) -> str:
    """Values with the index on each of the axes that a row has."""
    inner = value.shape[1:]
    if hook.endswith(PATTERN_HOOKS):
        inner = (value.shape[0], *value.shape[2:])
    found = []
    for flat in order:
        places = torch.unravel_index(torch.tensor(flat), inner)
        name = ", ".join(str(int(place)) for place in places)
        found.append(f"[{name}] {float(here[flat]):.4g}")
    return " · ".join(found)


def _clip(sizes: Float[Tensor, " n"], quantile: float) -> float:
    """A high quantile of the sizes; of many, of a sample that is evenly spaced."""
    if not len(sizes):
        return 1.0
    if quantile == 1:
        return max(float(sizes.max()), 1e-9)
    sample = sizes[:: max(1, len(sizes) // 1_000_000)]
    place = min(len(sample) - 1, int(quantile * len(sample)))
    return max(float(sample.kthvalue(place + 1).values), 1e-9)
