"""Maps of a lens that were fitted to a model, and are kept in a file."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from jaxtyping import Float
from torch import Tensor

from qwen3lab.display import Displayed
from qwen3lab.lab import Lab
from qwen3lab.lenses.lens_file import read_lens, save_lens
from qwen3lab.lenses.shipped import shipped_file
from qwen3lab.recording.equality import EqualByValue

Made = TypeVar("Made", bound="StoredMaps")


@dataclass(frozen=True, repr=False, eq=False)
class StoredMaps(EqualByValue, Displayed):
    """A map for each layer but the last, whose lens is the output.

    Attributes:
        model_name: of the model that they were made for.
        fingerprint: of its weights; empty if unknown.
        layers: of the maps; each maps the residual stream after its layer.
    """

    kind: ClassVar[str]
    axes: ClassVar[dict[str, str]]
    """Of each tensor, by the name of its attribute."""

    model_name: str
    fingerprint: str
    layers: tuple[int, ...]

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return getattr(self, next(iter(self.axes))).shape[-1]

    @property
    def matrices_by_layer(self) -> Float[Tensor, "layer d_model d_model"]:
        """The linear part of the maps."""
        return getattr(self, next(iter(self.axes)))

    def pulled_back(self, layer: int, direction: Float[Tensor, " d_model"]) -> Tensor:
        """The direction at a layer whose map reads along this direction of the last layer.

        The readout along w of the mapped stream A h is that along A^T w of h.

        Args:
            layer: of the map; the last layer has none, and its direction is the given one.
            direction: w, in the basis of the last layer.
        """
        if layer not in self.layers:
            return direction.float()
        return self.matrices_by_layer[self.layers.index(layer)].float().T @ direction.float()

    def save(self, path: str | Path, *, rounded: tuple[str, ...] = ()) -> None:
        """Write the maps to a safetensors file.

        Args:
            path: of the file.
            rounded: fingerprints of the same weights in other dtypes, whose lab may read it, too.

        Raises:
            CheckpointError: the file cannot be written.
        """
        tensors = {name: getattr(self, name) for name in self.axes}
        about = {"rounded": list(rounded)}
        for each in fields(self):
            value = getattr(self, each.name)
            if not isinstance(value, Tensor):
                about[each.name] = list(value) if isinstance(value, tuple) else value
        save_lens(path, self.kind, tensors, about)

    @classmethod
    def load(cls: type[Made], path: str | Path, lab: Lab) -> Made:
        """Read maps that `save` wrote.

        Args:
            path: of the file.
            lab: that they were made for.

        Raises:
            CheckpointError: the file does not exist, is damaged or of another kind, or the maps
                were made for other weights.
        """
        about, tensors = read_lens(path, cls.kind, lab, cls.axes)
        layers = tuple(about["layers"])
        told = cls._told(about)
        return cls(about["model_name"], about["fingerprint"], layers, **tensors, **told)

    @classmethod
    def shipped(cls: type[Made], lab: Lab) -> Made:
        """The maps that ship with an embedded model.

        Args:
            lab: of an embedded model, with its weights as they ship, in any dtype.

        Raises:
            CheckpointError: none ship for these weights.
        """
        return cls.load(shipped_file(lab, cls.kind), lab)

    @classmethod
    def _told(cls, about: dict[str, Any]) -> dict[str, Any]:
        """The other attributes, from what a file says about itself."""
        raise NotImplementedError
