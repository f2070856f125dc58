"""Memory that is free on a device or on the host, as far as the system says."""

from contextlib import suppress
from pathlib import Path

import torch

MEMINFO = Path("/proc/meminfo")
LIMIT, IN_USE = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
"""Of a container, in bytes; the limit is "max" where there is none."""


def free_bytes(device: torch.device) -> int | None:
    """Bytes that can still be allocated; None if the system does not say (Linux and CUDA do)."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return free_host_bytes() if device.type == "cpu" else None


def free_host_bytes() -> int | None:
    """Bytes of the host's memory that can still be allocated; None if the system does not say."""
    found = [value for value in (_available(), _left_of_container()) if value is not None]
    return min(found, default=None)


def _available() -> int | None:
    with suppress(OSError, ValueError, IndexError):
        lines = MEMINFO.read_text().splitlines()
        return next((int(s.split()[1]) * 1024 for s in lines if s.startswith("MemAvailable")), None)
    return None


def _left_of_container() -> int | None:
    with suppress(OSError, ValueError):
        return max(0, int(LIMIT.read_text()) - int(IN_USE.read_text()))
    return None
