"""Colour scales of maps, chosen by their values: linear, square root or logarithm, and clipped.

One rule for figures and explorers. On a linear scale from 0 to 1, one key that receives most of
the attention leaves the weights of all other keys of a long text in one colour.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from numpy.typing import NDArray
from plotly.colors import get_colorscale, sample_colorscale
from torch import Tensor

from qwen3lab.arguments import checked
from qwen3lab.figures.theme import colour_bar
from qwen3lab.translation import later, tr

MIN_CELLS = 4096
"""Minimum number of cells other than 0 for a scale that is not linear: about 90 tokens."""

QUANTILE = 0.995
"""Quantile at which colours are clipped, if the largest value is more than `CLIPPED` times it."""

CLIPPED = 2.0
MAX_LINEAR, MAX_ROOT = 8.0, 128.0
"""Maximum ratio of top and median for a linear and for a square root scale."""

MAX_ABOVE = 100.0
"""Maximum ratio of the largest value and the quantile for a scale that is clipped there."""

MAX_DECADES = 5
"""Maximum decades of a logarithmic scale."""

LINEAR, ROOT, LOGARITHM = later("linear"), later("square root"), later("logarithm")
AUTOMATIC = later("automatic")
"""The scale of `scale_for`, by the values."""

MIN_QUANTILE = 0.5
"""Least quantile at which colours can be clipped by hand."""

N_STOPS = 129
"""Stops of a palette that is bent for a scale."""


@dataclass(frozen=True)
class ColourScale:
    """How values become colours.

    Attributes:
        kind: `LINEAR`, `ROOT` or `LOGARITHM`.
        low: value of the first colour; smaller values have it, too.
        high: value of the last colour; larger values have it, too.
        clipped: True if values above `high` exist.
        quantile: of the values, at which they are clipped.
        is_chosen: True if a person has chosen it: then it is named also where it is linear.
    """

    kind: str
    low: float
    high: float
    clipped: bool = False
    quantile: float = QUANTILE
    is_chosen: bool = False

    def places(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """The place of each value among the colours, from 0 to 1; NaN stays NaN."""
        if not self.high > self.low:
            return np.where(np.isnan(values), np.nan, 0.0)
        inside = np.clip(values, self.low, self.high)
        if self.kind == LOGARITHM:
            return np.log(inside / self.low) / np.log(self.high / self.low)
        share = (inside - self.low) / (self.high - self.low)
        return np.sqrt(share) if self.kind == ROOT else share

    def values(self, places: NDArray[np.floating]) -> NDArray[np.floating]:
        """The value at each place from 0 to 1; the inverse of `places`."""
        if self.kind == LOGARITHM:
            return self.low * (self.high / self.low) ** places
        share = places**2 if self.kind == ROOT else places
        return self.low + share * (self.high - self.low)

    def note(self) -> str:
        """What is special about the scale; empty for a linear one that is not clipped or chosen."""
        parts = [] if self.kind == LINEAR and not self.is_chosen else [tr(self.kind)]
        if self.clipped:
            parts.append(tr("clipped at the {share} quantile", share=_percent(self.quantile)))
        return tr(", ").join(parts)

    def ticks(self) -> list[tuple[float, str]]:
        """Places and texts of a few round values, the two ends included."""
        ends = np.array([self.low, self.high])
        if self.kind == LOGARITHM:
            powers = np.arange(np.ceil(np.log10(self.low)), np.log10(self.high))
            between = 10.0**powers
        else:
            between = self.values(np.array([0.25, 0.5, 0.75]))
            between = np.array([float(f"{value:.1g}") for value in between])
        values = np.unique(np.concatenate([ends, between]))
        places = self.places(values)
        texts = [f"{value:.2g}" for value in values]
        if self.clipped:
            texts[-1] = f"≥ {texts[-1]}"
        return _apart(list(zip(places.tolist(), texts, strict=True)))


@checked
def scale_for(
    values: Float[Tensor, "row column"], *, low: float = 0.0, high: float = 1.0
) -> ColourScale:
    """The colour scale for these values.

    Below `MIN_CELLS` cells with a value other than 0, it is linear from `low` to `high`. Else
    colours are clipped at a quantile if a few values are far above all others, and the ratio of
    the top to the median decides: linear, square root or logarithm. If the few are more than
    `MAX_ABOVE` times the quantile, it is a logarithm up to `high`. Signed values (`low` below 0)
    stay linear, clipped at both ends.
    """
    sizes = values.detach().abs().flatten().double().numpy()
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    if sizes.size < MIN_CELLS:
        return ColourScale(LINEAR, low, high)
    bottom, median, quantile = np.quantile(sizes, [0.05, 0.5, QUANTILE]).tolist()
    largest = float(sizes.max())
    clipped = largest > CLIPPED * quantile
    top = quantile if clipped else high
    if low < 0:
        return ColourScale(LINEAR, -top, top, clipped)
    if largest > MAX_ABOVE * quantile or top > MAX_ROOT * median:
        return ColourScale(LOGARITHM, max(bottom, high / 10**MAX_DECADES), high)
    kind = LINEAR if top <= MAX_LINEAR * median else ROOT
    return ColourScale(kind, low, top, clipped)


@dataclass(frozen=True)
class ScaleChoice:
    """A colour scale as a person chooses it, for maps and for shaded texts.

    Attributes:
        kind: `AUTOMATIC`, `LINEAR`, `ROOT` or `LOGARITHM`.
        quantile: of the values, above which all have the last colour; 1 clips none.

    Example:
        >>> from qwen3lab.figures.scales import ScaleChoice
        >>> ScaleChoice.named("square root, clipped at 99%")
        ScaleChoice(kind='square root', quantile=0.99)
    """

    kind: str = AUTOMATIC
    quantile: float = 1.0

    @classmethod
    def named(cls, text: str) -> "ScaleChoice":
        """The choice of a text such as "logarithm" or "linear, clipped at 97.5%".

        Raises:
            ValueError: the text is no such choice.
        """
        kind, _, clip = text.partition(", clipped at ")
        try:
            quantile = float(clip.removesuffix("%")) / 100 if clip else 1.0
        except ValueError:
            quantile = -1.0
        is_known = kind in (LINEAR, ROOT, LOGARITHM) or (kind == AUTOMATIC and not clip)
        if not is_known or not MIN_QUANTILE <= quantile <= 1:
            raise ValueError(
                tr(
                    "{text!r} is no colour scale: expected {automatic}, or {linear}, {root} or "
                    "{logarithm}, each also with “, clipped at 99%”, from {least} to 100%",
                    text=text,
                    automatic=AUTOMATIC,
                    linear=LINEAR,
                    root=ROOT,
                    logarithm=LOGARITHM,
                    least=_percent(MIN_QUANTILE),
                )
            )
        return cls(kind, quantile)

    def scale(
        self, values: Float[Tensor, "row column"], *, low: float = 0.0, high: float = 1.0
    ) -> ColourScale:
        """The scale for these values; signed ones (`low` below 0) stay linear, clipped or not."""
        if self.kind == AUTOMATIC:
            return scale_for(values, low=low, high=high)
        sizes = values.detach().abs().flatten().double().numpy()
        sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
        if not sizes.size:
            return ColourScale(LINEAR, low, high, is_chosen=True)
        quantile = float(np.quantile(sizes, self.quantile))
        clipped = self.quantile < 1 and quantile < float(sizes.max())
        top, kind = quantile if clipped else high, LINEAR if low < 0 else self.kind
        bottom = -top if low < 0 else low
        if kind == LOGARITHM:
            bottom = min(max(float(sizes.min()), top / 10**MAX_DECADES), top / 10)
        return ColourScale(kind, bottom, top, clipped, self.quantile, is_chosen=True)


BY_VALUES = ScaleChoice()
"""No choice: the scale of `scale_for`."""


def colouring(scale: ColourScale, palette: str, title: str) -> dict[str, Any]:
    """Colour attributes of a heatmap that keeps its values: the palette is bent, not the values.

    `add_key` adds the colour bar of a bent palette.
    """
    ends = {"zmin": scale.low, "zmax": max(scale.high, scale.low + 1e-6)}
    if scale.kind == LINEAR:
        return ends | {"colorscale": palette, "colorbar": _bar(scale, title)}
    places = np.linspace(0, 1, N_STOPS)
    at = (scale.values(places) - scale.low) / (scale.high - scale.low)
    at[0], at[-1] = 0.0, 1.0
    colours = sample_colorscale(get_colorscale(palette), places.tolist())
    stops = [list(stop) for stop in zip(at.tolist(), colours, strict=True)]
    return ends | {"colorscale": stops, "showscale": False}


def add_key(figure: go.Figure, scale: ColourScale, palette: str, title: str) -> go.Figure:
    """Add a colour bar with evenly spaced colours, if the palette of the heatmap is bent."""
    if scale.kind == LINEAR:
        return figure
    marker = {
        "color": [0],
        "cmin": 0,
        "cmax": 1,
        "colorscale": palette,
        "showscale": True,
        "colorbar": _bar(scale, title),
    }
    return figure.add_trace(
        go.Scatter(
            x=[None], y=[None], mode="markers", marker=marker, showlegend=False, hoverinfo="skip"
        )
    )


def _bar(scale: ColourScale, title: str) -> dict[str, Any]:
    note = scale.note()
    bar = colour_bar(f"{title}; {note}" if note else title)
    if not note:
        return bar
    places, texts = zip(*scale.ticks(), strict=True)
    if scale.kind == LINEAR:
        places = scale.values(np.array(places)).tolist()
    return bar | {"tickvals": list(places), "ticktext": list(texts)}


def _percent(share: float) -> str:
    return f"{100 * share:.4g}%"


def _apart(
    ticks: Sequence[tuple[float, str]], *, distance: float = 0.08
) -> list[tuple[float, str]]:
    """The ticks without those too near to the last one kept, both ends kept."""
    kept = [ticks[0]]
    for tick in ticks[1:-1]:
        if tick[0] - kept[-1][0] >= distance and ticks[-1][0] - tick[0] >= distance:
            kept.append(tick)
    return [*kept, *ticks[1:][-1:]]
