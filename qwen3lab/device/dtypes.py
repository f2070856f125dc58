"""What a dtype and a device can be: decided here for weights and recordings."""

import torch

from qwen3lab.display.plain import one_line
from qwen3lab.errors import DeviceError, DtypeError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


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
