"""GPTQ: integers of 2, 4 or 8 bits, packed along the inputs, with a scale and zero for each group.

`qweight` [in * bits / 32, out] holds q, `qzeros` [groups, out * bits / 32] holds z, `scales`
[groups, out], and `g_idx` [in] the group g of each input; W[out, in] = scales[g] * (q - z[g]). The
first version of the format stores z - 1, "gptq_v2" stores z.

Bits and groups of a module follow from the shapes of its tensors. Where `dynamic` gives modules
settings of their own, its patterns are not evaluated.

Source: the PyTorch layers of GPTQModel (`nn_modules/qlinear`), which read and write both versions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qwen3lab.checkpoints.formats.config_fields import chosen, group_size, whole
from qwen3lab.checkpoints.formats.packed_format import (
    FLOATS,
    INTEGER_WORDS,
    Grouped,
    PackedFormat,
    ReadPart,
    grouped,
    shared,
)
from qwen3lab.checkpoints.formats.words import WORD_BITS, unpacked
from qwen3lab.errors import CheckpointError
from qwen3lab.storage.tensor_header import StoredTensor

BITS = (4, 8, 2)
VERSIONS = ("gptq", "gptq_v2")


@dataclass(frozen=True)
class Gptq(PackedFormat):
    """A GPTQ checkpoint.

    Attributes:
        bits: of a value.
        group_size: inputs that share a scale; -1 for all.
        version: of `VERSIONS`.
        is_mixed: True if modules may have other bits and groups.
        is_reordered: True if inputs were reordered, so that `g_idx` names the group of each.
    """

    method: ClassVar[str] = "gptq"
    name: ClassVar[str] = "GPTQ"
    parts: ClassVar[Mapping[str, bool]] = {
        "qweight": True,
        "qzeros": True,
        "scales": True,
        "g_idx": False,
    }
    marker: ClassVar[str] = "qweight"

    bits: int
    group_size: int
    version: str
    is_mixed: bool
    is_reordered: bool = False

    @classmethod
    def from_config(cls, fields: Mapping[str, Any]) -> "Gptq":
        """The format that a `quantization_config` describes.

        Raises:
            CheckpointError: settings that are not read.
        """
        chosen(fields, "bits", BITS, cls.name)
        chosen(fields, "pack_dtype", ("int32",), cls.name)
        version = chosen(fields, "checkpoint_format", VERSIONS, cls.name)
        bits, size = whole(fields, "bits", cls.name), group_size(fields, cls.name)
        is_reordered = chosen(fields, "desc_act", (False, True, None), cls.name) is True
        return cls(bits, size, version, bool(fields.get("dynamic")), is_reordered)

    @property
    def described(self) -> str:
        others = ", some modules with others" if self.is_mixed else ""
        return f"{self.name}, {self.bits} bits in {grouped(self.group_size)}{others}"

    def shape(
        self, module: str, stored: Mapping[str, StoredTensor], read: ReadPart
    ) -> tuple[int, int]:
        self.check_parts(module, stored)
        self.expect_axes(module, stored, {"qweight": 2, "qzeros": 2, "scales": 2})
        n_words, n_out = stored["qweight"].shape
        bits = self._bits(module, n_out, stored["qzeros"].shape[1])
        n_in, n_groups = n_words * WORD_BITS // bits, stored["scales"].shape[0]
        self.expect(module, "qweight", stored, INTEGER_WORDS, (n_words, n_out))
        self.expect(module, "qzeros", stored, INTEGER_WORDS, (n_groups, n_out * bits // WORD_BITS))
        self.expect(module, "scales", stored, FLOATS, (n_groups, n_out))
        if self.is_reordered and "g_idx" not in stored:
            raise CheckpointError(
                f"{module}.g_idx is missing, without which desc_act cannot be undone: fetch the "
                "files of the model again"
            )
        if "g_idx" in stored:
            self.expect(module, "g_idx", stored, INTEGER_WORDS, (n_in,))
        self._check_groups(module, n_in, n_groups)
        return n_out, n_in

    def decode(self, module: str, tensors: Mapping[str, Tensor]) -> Float[Tensor, "out in"]:
        q, zeros, scales, _ = self._values(module, tensors)
        groups = self._groups(module, tensors, len(q), len(scales))
        return (scales[groups] * (q - zeros[groups])).T.contiguous()

    def grouped(self, module: str, tensors: Mapping[str, Tensor]) -> Grouped | None:
        q, zeros, scales, bits = self._values(module, tensors)
        groups = self._groups(module, tensors, len(q), len(scales)).to(q.device)
        in_order = shared(len(q), len(q) // len(scales)).to(q.device)
        if bits != 4 or len(q) % len(scales) or not torch.equal(groups, in_order):
            return None
        size = len(q) // len(scales)
        return Grouped(q.T, scales.T, -(scales * zeros).T, size)

    def _values(
        self, module: str, tensors: Mapping[str, Tensor]
    ) -> tuple[Int[Tensor, "in out"], Int[Tensor, "group out"], Float[Tensor, "group out"], int]:
        """The integers, the zeros and scales of the groups, and the bits of an integer."""
        scales = tensors["scales"].float()
        bits = tensors["qzeros"].shape[1] * WORD_BITS // scales.shape[1]
        q = unpacked(tensors["qweight"].T, bits).T
        return q, self._zeros(module, unpacked(tensors["qzeros"], bits), bits), scales, bits

    def _bits(self, module: str, n_out: int, n_words: int) -> int:
        """Bits of a module's values, by the number of words that hold a zero for each output."""
        bits = n_words * WORD_BITS // n_out if n_out and not n_words * WORD_BITS % n_out else 0
        if bits not in BITS or (bits != self.bits and not self.is_mixed):
            raise CheckpointError(
                f"{module}.qzeros has {n_words} words for {n_out} outputs, which is not "
                f"{self.bits} bits for each: quantization_config and weights do not belong "
                "together"
            )
        return bits

    def _check_groups(self, module: str, n_in: int, n_groups: int) -> None:
        size = n_in if self.group_size == -1 else self.group_size
        is_even = n_groups > 0 and n_in % n_groups == 0
        if -(-n_in // size) != n_groups and not (self.is_mixed and is_even):
            raise CheckpointError(
                f"{module}.scales has {n_groups} groups for {n_in} inputs, which is not "
                f"{grouped(self.group_size)}: quantization_config and weights do not belong "
                "together"
            )

    def _zeros(
        self, module: str, stored: Int[Tensor, "group out"], bits: int
    ) -> Int[Tensor, "group out"]:
        if self.version == "gptq_v2":
            return stored
        highest = 2**bits - 1
        if bool((stored == highest).any()):
            raise CheckpointError(
                f"{module}.qzeros holds {highest}, which libraries read as a zero of 0 or of "
                f"{highest + 1} in the first version of GPTQ: convert the model to the "
                "checkpoint_format gptq_v2"
            )
        return stored + 1

    def _groups(
        self, module: str, tensors: Mapping[str, Tensor], n_in: int, n_groups: int
    ) -> Int[Tensor, " in"]:
        """The group of each input."""
        if "g_idx" not in tensors:
            size = n_in if self.group_size == -1 else self.group_size
            size = size if -(-n_in // size) == n_groups else n_in // n_groups
            return shared(n_in, size)
        groups = tensors["g_idx"].long()
        if not 0 <= int(groups.min()) <= int(groups.max()) < n_groups:
            raise CheckpointError(
                f"{module}.g_idx names groups {int(groups.min())} to {int(groups.max())}: expected "
                f"some of 0 to {n_groups - 1}"
            )
        return groups
