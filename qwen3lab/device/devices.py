"""Checks that a device can be used, before something large is read for it."""

import torch

from qwen3lab.errors import DeviceError


def usable_device(device: torch.device | str) -> torch.device:
    """The device, after an allocation on it has succeeded.

    Raises:
        DeviceError: torch cannot use the device on this machine.
    """
    try:
        torch.empty(1, device=device)
        return torch.device(device)
    except (RuntimeError, AssertionError) as error:
        kinds = {"cuda": torch.cuda, "mps": torch.backends.mps}
        usable = ["cpu", *(name for name, kind in kinds.items() if kind.is_available())]
        raise DeviceError(
            f"device {str(device)!r} cannot be used here: choose from {', '.join(usable)}"
        ) from error
