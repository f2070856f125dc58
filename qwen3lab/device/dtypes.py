"""What a dtype and a device can be: decided here for weights and recordings."""

import time
from functools import cache

import torch
from torch import Tensor

from qwen3lab.display.plain import one_line
from qwen3lab.errors import DeviceError, DtypeError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

MIN_PARAMS_IN_BFLOAT16 = 100_000_000
"""Parameters from which a model runs in bfloat16 on a CPU; smaller ones are quick in float32."""

FAST_BFLOAT16_FLAGS = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
"""Functions of `torch.cpu` that tell whether the processor multiplies bfloat16 itself."""

MEASURED_ROWS = (1, 64)
"""Rows of the measured products: a decoding step, and a short prompt."""
CLEARLY_FASTER = 0.8
"""Share of float32's time below which bfloat16 counts as faster, despite noise."""


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums and softmaxes over such values: float32, or float64 for float64."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def dtype_of(dtype: object) -> torch.dtype | None:
    """The dtype with a name; None stays None.

    Raises:
        DtypeError: it is not one of `DTYPES`, or its name is not.
    """
    if dtype is None or (isinstance(dtype, torch.dtype) and dtype in DTYPES.values()):
        return dtype
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise DtypeError(f"dtype {dtype!r} is unknown: choose from {', '.join(DTYPES)}")
    return DTYPES[dtype]


def default_dtype(device: torch.device, stored: torch.dtype, n_params: int) -> torch.dtype:
    """The dtype in which a model runs unless one is given.

    On a CPU it is float32, except for a large model that is stored in bfloat16, on a processor
    that multiplies bfloat16 fast: its weights are then the stored ones, in half the memory, and
    activations are rounded as on a GPU.

    Args:
        device: of the weights.
        stored: dtype of the checkpoint.
        n_params: number of parameters.
    """
    if device.type != "cpu":
        return stored
    is_large = n_params >= MIN_PARAMS_IN_BFLOAT16
    if is_large and stored == torch.bfloat16 and multiplies_bfloat16_fast():
        return torch.bfloat16
    return torch.float32


@cache
def multiplies_bfloat16_fast() -> bool:
    """True if this processor multiplies bfloat16 faster than float32.

    Where no flag of the processor says so, small products are timed once.
    """
    flags = [getattr(torch.cpu, name, None) for name in FAST_BFLOAT16_FLAGS]
    if any(flag() for flag in flags if flag is not None):
        return True
    seconds = [_product_seconds(dtype) for dtype in (torch.bfloat16, torch.float32)]
    return all(half <= CLEARLY_FASTER * full for half, full in zip(*seconds, strict=True))


def _product_seconds(dtype: torch.dtype) -> list[float]:
    """The shortest time of a product of each size in `MEASURED_ROWS`; about 50 ms in all."""
    weight = torch.ones(4096, 1024, dtype=dtype)
    return [_least_seconds(torch.ones(n, 1024, dtype=dtype), weight) for n in MEASURED_ROWS]


def _least_seconds(x: Tensor, weight: Tensor) -> float:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        torch.nn.functional.linear(x, weight)
        times.append(time.perf_counter() - start)
    return min(times)


def device_of(device: object) -> torch.device:
    """The device with a name, if this machine has it.

    Raises:
        DeviceError: there is no such device, or it holds no values ("meta").
    """
    try:
        if not isinstance(device, torch.device | str):
            raise TypeError(f"it is of type {type(device).__name__}")
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, TypeError, ValueError, NotImplementedError) as error:
        reason = str(error).strip().partition("\n")[0].partition(" device type at start")[0]
        reason = one_line(reason, width=120) or type(error).__name__
        raise DeviceError(
            f"device {device!r} cannot be used ({reason}): choose {_usable()}"
        ) from error
    if found.type == "meta":
        raise DeviceError(f"device 'meta' holds no values: choose {_usable()}")
    return found


def _usable() -> str:
    """Devices of this machine, for a message."""
    cards = [f"'cuda:{index}'" for index in range(torch.cuda.device_count())]
    apple = ["'mps'"] if torch.backends.mps.is_available() else []
    return " or ".join(["'cpu'", *cards, *apple])
