"""Memory on a CPU: let the C library keep what is freed instead of returning it to the system."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Make large arrays reuse memory that this process already has; return whether the C library obeyed.

    glibc returns arrays of many megabytes to the system as soon as they are freed and asks for fresh pages, which
    the system must clear, for the next ones: in training on a CPU that is every activation of every step. Setting
    MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ does the same from outside. Other C libraries are left
    alone. The process keeps its peak of memory until it ends.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and all(
        mallopt(option, _NEVER) == 1 for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD)
    )
