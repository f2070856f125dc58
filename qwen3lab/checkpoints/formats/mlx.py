"""MLX: integers of 2 to 8 bits with a scale and an offset for each group of inputs.

`weight` [out, in * bits / 32] holds q as one stream of bits, the lowest first; `scales` and
`biases` [out, in / group]; W[out, in] = scales[g] * q + biases[g]. The experts of a layer are one
stack, `switch_mlp.{gate,up,down}_proj`, with an axis for the experts in front. Embeddings can be
packed, too. config.json has the settings as `quantization`, with those of single modules by name.

Source: MLX 0.32, `mlx.core.quantize`; mlx-lm, `utils.py` (`load_model`, `quantize_model`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from reprlib import repr as shown
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qwen3lab.checkpoints.formats.config_fields import chosen, whole
from qwen3lab.checkpoints.formats.packed_format import (
    FLOATS,
    Grouped,
    PackedFormat,
    ReadPart,
    grouped,
)
from qwen3lab.checkpoints.formats.words import WORD_BITS, unpacked
from qwen3lab.display.plain import one_line
from qwen3lab.errors import CheckpointError
from qwen3lab.storage.tensor_header import StoredTensor

BITS = (4, 8, 2, 3, 5, 6)
GROUPS = (64, 32, 128)
SETTINGS = ("group_size", "bits", "mode", "quant_method")
VALUES_AT_ONCE = 2**22
"""Values that are decoded together; unpacking takes several times their memory."""
Settings = tuple[int, int]
"""Bits and inputs in a group."""


@dataclass(frozen=True)
class Mlx(PackedFormat):
    """An MLX checkpoint.

    Attributes:
        settings: of all modules without their own.
        overrides: by module; None for a module that is not packed.
    """

    method: ClassVar[str] = "mlx"
    name: ClassVar[str] = "MLX"
    parts: ClassVar[Mapping[str, bool]] = {"weight": True, "scales": True, "biases": True}
    marker: ClassVar[str] = "scales"
    scale_part: ClassVar[str] = "scales"

    settings: Settings
    overrides: Mapping[str, Settings | None]

    @classmethod
    def from_config(cls, fields: Mapping[str, Any]) -> "Mlx":
        """The format that the entry `quantization` of a config.json describes.

        Raises:
            CheckpointError: settings that are not read.
        """
        settings = _settings(fields)
        overrides: dict[str, Settings | None] = {}
        for module, value in fields.items():
            if module in SETTINGS:
                continue
            if not isinstance(value, Mapping | bool):
                raise CheckpointError(
                    f"quantization gives {one_line(module, width=80)} as {shown(value)}: expected "
                    "the settings of a module, or true or false"
                )
            own = _settings(value) if isinstance(value, Mapping) else settings
            overrides[module] = None if value is False else own
        return cls(settings, overrides)

    @property
    def described(self) -> str:
        bits, size = self.settings
        mixed = any(own not in (None, self.settings) for own in self.overrides.values())
        others = ", some modules with others" if mixed else ""
        return f"{self.name}, {bits} bits in {grouped(size)}{others}"

    def is_packed(self, stored: Mapping[str, StoredTensor]) -> bool:
        weight = stored.get("weight")
        is_words = weight is not None and weight.code == "U32"
        return super().is_packed(stored) or is_words or "biases" in stored

    def shape(
        self, module: str, stored: Mapping[str, StoredTensor], read: ReadPart
    ) -> tuple[int, ...]:
        self.check_parts(module, stored)
        bits, size = self._of_module(module)
        n_axes = 3 if ".switch_mlp." in module else 2
        self.expect_axes(module, stored, {"weight": n_axes})
        *lead, n_words = stored["weight"].shape
        n_in = n_words * WORD_BITS // bits
        if n_words * WORD_BITS % bits or n_in % size:
            raise CheckpointError(
                f"{module}.weight has {n_words} words in a row, which are no values of {bits} bits "
                f"in {grouped(size)}: config.json and weights do not belong together"
            )
        groups = (*lead, n_in // size)
        self.expect(module, "weight", stored, ("U32",), stored["weight"].shape)
        self.expect(module, "scales", stored, FLOATS, groups)
        self.expect(module, "biases", stored, (stored["scales"].code,), groups)
        return (*lead, n_in)

    def decode(self, module: str, tensors: Mapping[str, Tensor]) -> Float[Tensor, "*any out in"]:
        bits, size = self._of_module(module)
        words = tensors["weight"].view(torch.int32).flatten(0, -2)
        scales, biases = (tensors[part].float().flatten(0, -2) for part in ("scales", "biases"))
        n_in = words.shape[1] * WORD_BITS // bits
        out = torch.empty(len(words), n_in, device=words.device)
        n_rows = max(1, VALUES_AT_ONCE // n_in)
        for first in range(0, len(words), n_rows):
            rows = slice(first, first + n_rows)
            q = _values(words[rows], bits).float().unflatten(1, (-1, size))
            out[rows] = (scales[rows, :, None] * q + biases[rows, :, None]).flatten(1)
        return out.view(*tensors["weight"].shape[:-1], n_in)

    def grouped(self, module: str, tensors: Mapping[str, Tensor]) -> Grouped | None:
        bits, size = self._of_module(module)
        if bits != 4 or tensors["weight"].ndim != 2:
            return None
        q = _values(tensors["weight"].view(torch.int32), bits)
        return Grouped(q, tensors["scales"].float(), tensors["biases"].float(), size)

    def _of_module(self, module: str) -> Settings:
        """Bits and group size of a packed module."""
        own = self.overrides.get(module, self.settings)
        if own is None:
            raise CheckpointError(
                f"{module} is packed, and config.json says that it is not: config.json and weights "
                "do not belong together"
            )
        return own


def _settings(fields: Mapping[str, Any]) -> Settings:
    chosen(fields, "mode", ("affine",), Mlx.name)
    for name, allowed in (("bits", BITS), ("group_size", GROUPS)):
        whole(fields, name, Mlx.name)
        chosen(fields, name, allowed, Mlx.name)
    return fields["bits"], fields["group_size"]


def _values(words: Int[Tensor, "row word"], bits: int) -> Int[Tensor, "row value"]:
    """The values of each row, which is one stream of bits."""
    if WORD_BITS % bits == 0:
        return unpacked(words, bits)
    each = unpacked(words, 1).unflatten(1, (-1, bits))
    places = torch.arange(bits, dtype=torch.int32, device=words.device)
    return (each << places).sum(dim=-1)
