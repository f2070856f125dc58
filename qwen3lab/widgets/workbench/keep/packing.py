"""Packs a recording for a page without Python: numbers in 8 bits, compressed, as text."""

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Shaped
from numpy.typing import NDArray
from torch import Tensor

from qwen3lab.errors import RecordingError
from qwen3lab.figures.scales import LINEAR, ROOT, ColourScale, ScaleChoice
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import tr
from qwen3lab.widgets.components.heatmap import LEVELS, quantise

MAX_WEIGHTS = 2**26
"""Attention weights that a page holds at most, a byte each before they are compressed."""

ATTENTION = ColourScale(ROOT, 0.0, 1.0)
"""A square root: small weights keep their digits. A weight is off by 1/254 at most."""


@dataclass
class Packed:
    """Byte strings one after another, each found by its place."""

    parts: list[bytes] = field(default_factory=list)

    def add(self, data: bytes) -> tuple[int, int]:
        """Add bytes; returns their first place and their number."""
        start = sum(map(len, self.parts))
        self.parts.append(data)
        return start, len(data)

    def text(self) -> str:
        """All bytes, compressed as zlib does, as base64."""
        return base64.b64encode(zlib.compress(b"".join(self.parts), 9)).decode()


def check_layers(recording: Recording, layers: Sequence[int] | None) -> tuple[int, ...]:
    """The layers whose attention goes into a page.

    Raises:
        RecordingError: one of them was not recorded, or their maps are too large for a page.
    """
    there = recording.attention.some_layers
    chosen = there if layers is None else tuple(layers)
    if not chosen:
        raise RecordingError(tr("no layers are chosen: give one or more, as in layers=[0, 3]"))
    for layer in chosen:
        if layer not in there:
            listed = ", ".join(map(str, there))
            raise RecordingError(
                tr(
                    "layer {layer} has no attention to export: there is {listed}",
                    layer=layer,
                    listed=listed,
                )
            )
    n, n_heads = len(recording), recording.config.n_heads
    weights = len(chosen) * n_heads * n * (n + 1) // 2
    if weights > MAX_WEIGHTS:
        fitting = MAX_WEIGHTS // (n_heads * n * (n + 1) // 2)
        way_out = (
            tr(
                "choose up to {fitting}, as in layers={layers}",
                fitting=fitting,
                layers=list(chosen[: min(fitting, 2)]),
            )
            if fitting
            else tr("record a shorter text")
        )
        raise RecordingError(
            tr(
                "a page holds up to {max_weights:,} attention weights, and {n_chosen} "
                "layers of {n_heads} heads and {n:,} tokens have {weights:,}: {way_out}",
                max_weights=MAX_WEIGHTS,
                n_chosen=len(chosen),
                n_heads=n_heads,
                n=n,
                weights=weights,
                way_out=way_out,
            )
        )
    return chosen


def attention_bytes(recording: Recording, layers: Sequence[int]) -> bytes:
    """The weights of all heads in 8 bits: row after row, each up to its own token."""
    n = len(recording)
    rows, columns = np.tril_indices(n)
    found = []
    for layer in layers:
        for values in recording.attention.pattern(layer):
            levels = np.frombuffer(quantise(values, ATTENTION), np.uint8).reshape(n, n)
            found.append(levels[rows, columns].tobytes())
    return b"".join(found)


def routing_bytes(recording: Recording) -> tuple[bytes, bytes, ColourScale]:
    """Chosen experts in 16 bits and their weights in 8, of each layer with experts.

    An empty slot has expert 65,535.
    """
    routing = recording.routing
    experts = torch.stack([*map(torch.Tensor.cpu, routing.experts)]).numpy()
    weights = torch.stack([*map(torch.Tensor.cpu, routing.weights)])
    scale = ColourScale(LINEAR, 0.0, max(float(weights.max()), 1e-6))
    levels = quantise(weights.flatten(1), scale)
    return np.where(experts < 0, 0xFFFF, experts).astype("<u2").tobytes(), levels, scale


def colour_bytes(stored: ColourScale, shown: ColourScale) -> bytes:
    """The colour, 0 to 255, of each level from 1 to 255 of a stored value on another scale."""
    places = shown.places(stored.values(np.linspace(0, 1, LEVELS)))
    return (places * 255).round().astype(np.uint8).tobytes()


def shade_fields(scale: ColourScale) -> dict[str, object]:
    """What a shaded text of the page has to know of a colour scale."""
    found = {"low": scale.low, "high": scale.high, "kind": scale.kind}
    return found | {"note": scale.note(), "clipped": scale.clipped}


@dataclass
class ChosenScales:
    """The scales that a person has chosen for maps, by the values of each.

    Args:
        choice: of the person.
        stored: the scale of the packed values.
        packed: takes the colours.
    """

    choice: ScaleChoice
    stored: ColourScale
    packed: Packed
    scales: dict[ColourScale, int] = field(default_factory=dict)
    places: list[int] = field(default_factory=list)

    def add(self, values: Float[Tensor, "row column"], high: float = 1.0) -> None:
        """Add the scale of one map; equal ones are packed once."""
        scale = self.choice.scale(values, high=high)
        self.places.append(self.scales.setdefault(scale, len(self.scales)))

    def fields(self) -> dict[str, object]:
        """The scales, and the place among them of each map in the order that they were added."""
        found = [
            {
                "colours": self.packed.add(colour_bytes(self.stored, scale)),
                "barTicks": [list(tick) for tick in scale.ticks()],
                "scaleNote": scale.note(),
                "shades": shade_fields(scale),
            }
            for scale in self.scales
        ]
        return {"scales": found, "of": self.places}


def float_bytes(values: Shaped[Tensor, "*any"]) -> bytes:
    """Numbers as 32-bit floats, the first byte the least."""
    found: NDArray[np.float32] = values.to(torch.float32).cpu().numpy()
    return found.astype("<f4").tobytes()


def scale_fields(scale: ColourScale) -> dict[str, object]:
    """What a map of the page has to know of a colour scale."""
    levels = scale.values(np.linspace(0, 1, LEVELS))
    return {
        "levels": [float(f"{level:.4g}") for level in levels],
        "barTicks": [list(tick) for tick in scale.ticks()],
        "scaleNote": scale.note(),
    }
