"""Lenses that map the residual stream of a layer before it is read."""

from typing import Protocol, runtime_checkable

from qwen3lab.analysis.one_model import check_recorded_by
from qwen3lab.lab import Lab
from qwen3lab.lenses.lens import Lens, Transport
from qwen3lab.lenses.logit import chosen_positions
from qwen3lab.lenses.places import readable_hooks, recorded_places
from qwen3lab.recording.recording import Recording
from qwen3lab.recording.weights_fingerprint import fingerprint
from qwen3lab.translation import tr


@runtime_checkable
class Maps(Transport, Protocol):
    """A map for some layers.

    Attributes:
        model_name: of the model that they were made for.
        fingerprint: of its weights; empty if unknown.
        layers: that have a map.
        d_model: width of the residual stream.
    """

    @property
    def model_name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def layers(self) -> tuple[int, ...]: ...

    @property
    def d_model(self) -> int: ...


def mapped_lens(kind: str, lab: Lab, recording: Recording, maps: Maps, positions: slice) -> Lens:
    """A lens of the layers that have a map, and of the last one; raises as `tuned_lens` does."""
    check_recorded_by(lab, recording)
    check_fits(kind, lab, maps)
    layers = (*maps.layers, lab.config.n_layers - 1)
    hooks = [f"blocks.{layer}.hook_resid_post" for layer in layers]
    places = recorded_places(recording, readable_hooks(hooks, lab.config))
    return Lens(kind, lab, recording, places, chosen_positions(recording, positions), maps)


def check_fits(kind: str, lab: Lab, maps: Maps) -> None:
    """Raises `ValueError` if maps cannot be of this lab's weights."""
    last = lab.config.n_layers - 1
    if maps.d_model != lab.config.d_model or max(maps.layers) >= last:
        raise ValueError(
            tr(
                "the {kind} has maps of width {d_model} up to layer {layers}, and {name} "
                "has width {d_model_2} and maps layers 0 to {last}: give the lab that it "
                "was made for",
                kind=kind,
                d_model=maps.d_model,
                layers=max(maps.layers),
                name=lab.name,
                d_model_2=lab.config.d_model,
                last=last - 1,
            )
        )
    if maps.fingerprint and maps.fingerprint != fingerprint(lab.model):
        raise ValueError(
            tr(
                "the {kind} was made for other weights (of {model_name}) than those of "
                "{name}: give the lab that it was made for, in the same dtype",
                kind=kind,
                model_name=maps.model_name,
                name=lab.name,
            )
        )
