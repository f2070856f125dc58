"""AWQ in the layout "gemm": integers of 4 bits, packed along the outputs in an order of their own.

`qweight` [in, out / 8] holds q, `qzeros` [groups, out / 8] holds z, `scales` [groups, out]. The
eight values of a word are those of the outputs 0, 2, 4, 6, 1, 3, 5, 7.
W[out, in] = scales[g] * (q - z[g]).

Source: AutoAWQ 0.2.9, `awq/utils/packing_utils.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qwen3lab.checkpoints.formats.config_fields import chosen, group_size
from qwen3lab.checkpoints.formats.packed_format import (
    FLOATS,
    INTEGER_WORDS,
    Grouped,
    PackedFormat,
    ReadPart,
    grouped,
)
from qwen3lab.checkpoints.formats.words import WORD_BITS, unpacked
from qwen3lab.errors import CheckpointError
from qwen3lab.storage.tensor_header import StoredTensor

BITS = 4
PER_WORD = WORD_BITS // BITS
PLACE_OF_OUTPUT = (0, 4, 1, 5, 2, 6, 3, 7)
"""Place in the word of each of its eight outputs."""


@dataclass(frozen=True)
class Awq(PackedFormat):
    """An AWQ checkpoint; `group_size` inputs share a scale, all of them with -1."""

    method: ClassVar[str] = "awq"
    name: ClassVar[str] = "AWQ"
    parts: ClassVar[Mapping[str, bool]] = {"qweight": True, "qzeros": True, "scales": True}
    marker: ClassVar[str] = "qweight"

    group_size: int

    @classmethod
    def from_config(cls, fields: Mapping[str, Any]) -> "Awq":
        """The format that a `quantization_config` describes.

        Raises:
            CheckpointError: settings that are not read.
        """
        chosen(fields, "bits", (BITS,), cls.name)
        chosen(fields, "zero_point", (True,), cls.name)
        version = fields.get("version", "gemm")
        lower = version.lower() if isinstance(version, str) else version
        chosen({"version": lower}, "version", ("gemm",), cls.name)
        return cls(group_size(fields, cls.name))

    @property
    def described(self) -> str:
        return f"{self.name}, {BITS} bits in {grouped(self.group_size)}"

    def shape(
        self, module: str, stored: Mapping[str, StoredTensor], read: ReadPart
    ) -> tuple[int, int]:
        self.check_parts(module, stored)
        self.expect_axes(module, stored, {"qweight": 2})
        words = stored["qweight"].shape
        n_in, n_out = words[0], words[1] * PER_WORD
        size = n_in if self.group_size == -1 else self.group_size
        if n_in % size:
            raise CheckpointError(
                f"{module}.qweight has {n_in} inputs, which groups of {size} do not divide: the "
                "quantization_config is of another model"
            )
        self.expect(module, "qweight", stored, INTEGER_WORDS, words)
        self.expect(module, "qzeros", stored, INTEGER_WORDS, (n_in // size, words[1]))
        self.expect(module, "scales", stored, FLOATS, (n_in // size, n_out))
        return n_out, n_in

    def decode(self, module: str, tensors: Mapping[str, Tensor]) -> Float[Tensor, "out in"]:
        scales = tensors["scales"].float()
        q, zeros = in_order(tensors["qweight"]), in_order(tensors["qzeros"])
        groups = torch.arange(len(q)) // (len(q) // len(scales))
        return (scales[groups] * (q - zeros[groups])).T.contiguous()

    def grouped(self, module: str, tensors: Mapping[str, Tensor]) -> Grouped | None:
        scales = tensors["scales"].float()
        q, zeros = in_order(tensors["qweight"]), in_order(tensors["qzeros"])
        return Grouped(q.T, scales.T, -(scales * zeros).T, len(q) // len(scales))


def in_order(words: Int[Tensor, "row word"]) -> Int[Tensor, "row out"]:
    """The values of packed words in the order of the outputs."""
    values = unpacked(words, BITS).unflatten(1, (-1, PER_WORD))
    return values[:, :, list(PLACE_OF_OUTPUT)].flatten(1)
