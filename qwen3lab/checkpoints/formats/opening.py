"""Finds the format that a `quantization_config` names."""

from collections.abc import Callable, Mapping
from reprlib import repr as shown
from typing import Any

from qwen3lab.checkpoints.formats import bitsandbytes
from qwen3lab.checkpoints.formats.awq import Awq
from qwen3lab.checkpoints.formats.compressed_tensors import CompressedTensors
from qwen3lab.checkpoints.formats.fp8 import Fp8
from qwen3lab.checkpoints.formats.gptq import Gptq
from qwen3lab.checkpoints.formats.mlx import Mlx
from qwen3lab.checkpoints.formats.packed_format import PackedFormat
from qwen3lab.display.plain import one_line
from qwen3lab.errors import CheckpointError

FORMATS: Mapping[str, Callable[[Mapping[str, Any]], PackedFormat]] = {
    "fp8": Fp8.from_config,
    "gptq": Gptq.from_config,
    "awq": Awq.from_config,
    "bitsandbytes": bitsandbytes.from_config,
    "compressed-tensors": CompressedTensors.from_config,
    "mlx": Mlx.from_config,
}
"""What reads each `quant_method`."""


def quantisation_fields(fields: Mapping[str, Any], source: str) -> Any:
    """The entry of a config.json that describes quantised weights; None if there is none.

    MLX writes it as `quantization`, and newer versions repeat it as `quantization_config`.

    Raises:
        CheckpointError: both are there and differ, or the latter holds no settings.
    """
    entry, of_mlx = fields.get("quantization_config"), fields.get("quantization")
    if of_mlx is None:
        return entry
    if not isinstance(of_mlx, Mapping):
        raise CheckpointError(
            f"config.json in {source} gives quantization as {shown(of_mlx)}: expected MLX's "
            "settings, such as bits and group_size"
        )
    if entry not in (None, of_mlx):
        raise CheckpointError(
            f"config.json in {source} describes quantised weights twice, as quantization_config "
            "and as quantization of MLX: remove the entry that is not of these weights"
        )
    return {**of_mlx, "quant_method": "mlx"}


def format_of(fields: Any, source: str) -> PackedFormat:
    """The format of a checkpoint.

    Args:
        fields: the entry `quantization_config` of config.json.
        source: name of the checkpoint, for error messages.

    Raises:
        CheckpointError: a method or settings that are not read.
    """
    method = fields.get("quant_method") if isinstance(fields, Mapping) else None
    if not isinstance(method, str) or method not in FORMATS:
        shown = one_line(method, width=60) if isinstance(method, str) else "an unknown method"
        raise CheckpointError(
            f"{source} holds weights quantised with {shown}, and of quantised weights "
            f"{', '.join(FORMATS)} are read: load the model's unquantised release"
        )
    try:
        return FORMATS[method](fields)
    except CheckpointError as error:
        raise CheckpointError(
            f"config.json in {source} (quant_method {method}): {error}"
        ) from error
