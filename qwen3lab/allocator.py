"""What the C allocator does with memory that is free: a matter of speed on a CPU, no more."""

import ctypes
import sys
from contextlib import suppress

TRIM_THRESHOLD, MMAP_MAX = -1, -4
"""Numbers of glibc's `mallopt`, from its malloc.h."""

NEVER = 2**31 - 1


def keep_freed() -> None:
    """Let this process keep what it frees, for the next tensor, instead of handing it back.

    By default glibc maps every large tensor anew, and the system fills its pages with zeros one
    by one. Does nothing under another allocator.
    """
    with suppress(OSError, AttributeError):
        libc = _glibc()
        libc.mallopt(MMAP_MAX, 0)
        libc.mallopt(TRIM_THRESHOLD, NEVER)


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
