"""FP8 as Qwen publishes it: float8_e4m3fn, with a scale for each block of the matrix.

`weight` [out, in], `weight_scale_inv` [ceil(out / rows), ceil(in / columns)] for blocks of rows x
columns; W = weight * weight_scale_inv, despite the name.

Source: transformers, `integrations/finegrained_fp8.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from qwen3lab.checkpoints.formats.config_fields import chosen
from qwen3lab.checkpoints.formats.packed_format import FLOATS, PackedFormat, ReadPart, shared
from qwen3lab.display.plain import one_line
from qwen3lab.errors import CheckpointError
from qwen3lab.storage.tensor_header import StoredTensor

CODE = "F8_E4M3"
DEFAULT_BLOCK = (128, 128)


@dataclass(frozen=True)
class Fp8(PackedFormat):
    """An FP8 checkpoint with scales for blocks of `rows` x `columns` values."""

    method: ClassVar[str] = "fp8"
    name: ClassVar[str] = "FP8"
    parts: ClassVar[Mapping[str, bool]] = {"weight": True, "weight_scale_inv": True}
    marker: ClassVar[str] = "weight_scale_inv"

    rows: int
    columns: int

    @classmethod
    def from_config(cls, fields: Mapping[str, Any]) -> "Fp8":
        """The format that a `quantization_config` describes.

        Raises:
            CheckpointError: settings that are not read.
        """
        chosen(fields, "activation_scheme", ("dynamic",), cls.name)
        chosen(fields, "fmt", ("e4m3",), cls.name)
        block = fields.get("weight_block_size", list(DEFAULT_BLOCK))
        is_pair = isinstance(block, list | tuple) and len(block) == 2
        if not is_pair or not all(type(size) is int and size > 0 for size in block):
            shown = one_line(str(block), width=60)
            raise CheckpointError(
                f"quantization_config gives weight_block_size as {shown}: expected two "
                "sizes, such as [128, 128]"
            )
        return cls(*block)

    @property
    def described(self) -> str:
        return f"{self.name}, blocks of {self.rows} x {self.columns}"

    @property
    def note(self) -> str:
        return (
            "its own kernels also round activations to FP8, which is not done here: logits differ "
            "by that"
        )

    def is_packed(self, stored: Mapping[str, StoredTensor]) -> bool:
        weight = stored.get("weight")
        return super().is_packed(stored) or (weight is not None and weight.code == CODE)

    def shape(
        self, module: str, stored: Mapping[str, StoredTensor], read: ReadPart
    ) -> tuple[int, int]:
        self.check_parts(module, stored)
        self.expect_axes(module, stored, {"weight": 2})
        shape = stored["weight"].shape
        blocks = (-(-shape[0] // self.rows), -(-shape[1] // self.columns))
        self.expect(module, "weight", stored, (CODE,), shape)
        self.expect(module, "weight_scale_inv", stored, FLOATS, blocks)
        return shape[0], shape[1]

    def decode(self, module: str, tensors: Mapping[str, Tensor]) -> Float[Tensor, "out in"]:
        weight = tensors["weight"].float()
        scales = tensors["weight_scale_inv"].float()
        rows, columns = (shared(*pair) for pair in zip(weight.shape, self._block, strict=True))
        return weight * scales[rows][:, columns]

    @property
    def _block(self) -> tuple[int, int]:
        return self.rows, self.columns
