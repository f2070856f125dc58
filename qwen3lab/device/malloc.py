"""What the C allocator does with memory that is free: a matter of speed on a CPU, no more."""

import ctypes
import sys
from contextlib import suppress

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
"""Numbers of glibc's `mallopt`, from its malloc.h."""

NEVER = 2**31 - 1
LARGE = 2**17
"""Bytes from which glibc maps a block of its own, until it has freed one and raises this."""


def keep_freed() -> None:
    """Let this process keep what it frees, for the next tensor, instead of handing it back.

    By default glibc maps every large tensor anew, and the system fills its pages with zeros one
    by one. Does nothing under another allocator.
    """
    with suppress(OSError, AttributeError):
        libc = _glibc()
        libc.mallopt(MMAP_MAX, 0)
        libc.mallopt(TRIM_THRESHOLD, NEVER)


def map_large() -> None:
    """Let every large tensor have a mapping of its own for good, which goes when it does.

    By default glibc soon takes tensors of up to 32 MiB from its heap, where what lives on keeps
    what was freed beside it in the process: how much is a matter of luck. Slower, but what the
    process takes is then what its tensors take. Does nothing under another allocator.
    """
    with suppress(OSError, AttributeError):
        _glibc().mallopt(MMAP_THRESHOLD, LARGE)


def give_back() -> None:
    """Let the system have what is free between what is kept.

    glibc holds on to it, and takes new memory for the next matrix of the same size all the same:
    without this, twice the memory stays in use.
    """
    with suppress(OSError, AttributeError):
        _glibc().malloc_trim(0)


def _glibc() -> ctypes.CDLL:
    if not sys.platform.startswith("linux"):
        raise OSError("no glibc here")
    return ctypes.CDLL("libc.so.6")
