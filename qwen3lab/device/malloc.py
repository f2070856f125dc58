"""Settings of the C allocator for freed memory; they change speed and memory use, not results."""

import ctypes
import sys
from contextlib import suppress

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
"""Parameters of glibc's `mallopt`, from its malloc.h."""

MAX_TRIM_THRESHOLD = 2**31 - 1
"""Bytes; a trim threshold this high switches trimming off."""
MIN_MAPPED_BYTES = 2**17
"""glibc's initial threshold: blocks of at least this size get a memory mapping of their own."""


def keep_freed() -> None:
    """Keep freed memory in the process and reuse it for the next tensor.

    By default glibc returns a large tensor's memory to the system and maps new memory for the next
    one, and the system zeroes each new page. Does nothing with another allocator.
    """
    with suppress(OSError, AttributeError):
        libc = _glibc()
        libc.mallopt(MMAP_MAX, 0)
        libc.mallopt(TRIM_THRESHOLD, MAX_TRIM_THRESHOLD)


def map_large() -> None:
    """Give every large tensor a memory mapping of its own, which is returned when it is freed.

    By default glibc raises its threshold as mappings are freed, and then allocates tensors of up to
    32 MiB on its heap. There, memory between live tensors cannot be returned to the system
    (fragmentation). With this setting the process uses the memory of its tensors and no more, but
    allocations are slower. Does nothing with another allocator.
    """
    with suppress(OSError, AttributeError):
        _glibc().mallopt(MMAP_THRESHOLD, MIN_MAPPED_BYTES)


def give_back() -> None:
    """Return free memory between live blocks to the system.

    By default glibc keeps it, yet allocates new memory for the next matrix of the same size, so
    that up to twice the memory stays in use. Does nothing with another allocator.
    """
    with suppress(OSError, AttributeError):
        _glibc().malloc_trim(0)


def _glibc() -> ctypes.CDLL:
    if not sys.platform.startswith("linux"):
        raise OSError("no glibc here")
    return ctypes.CDLL("libc.so.6")
