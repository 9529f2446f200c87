"""How a process that works in batches uses memory: what one batch frees, the next takes again."""

import ctypes
import gc
import sys
from typing import Final

# glibc's mallopt(3).
_TRIM_THRESHOLD: Final = -1
_TOP_PAD: Final = -2
_MMAP_THRESHOLD: Final = -3

_KEPT_BYTES: Final = 32 * 1024**2
_ASKED_BYTES: Final = 1024**2
_MAPPED_BYTES: Final = 4 * 1024**2

_YOUNG: Final = 50_000


def suit_batches() -> None:
    """Tunes collector and allocator; called once, when everything that stays has been loaded.

    A batch makes thousands of objects that are gone with it. The collector looks for cycles less often, and not among what
    stays. The C library keeps what was freed (at most 32 MiB; single blocks above 4 MiB it still gives back at once):
    otherwise every batch returns its megabytes to the kernel and has them zeroed, page by page, for the next.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 50)
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # Another C library (musl) has none, and its own manners.
    if mallopt is not None:
        for parameter, size in ((_TRIM_THRESHOLD, _KEPT_BYTES), (_TOP_PAD, _ASKED_BYTES), (_MMAP_THRESHOLD, _MAPPED_BYTES)):
            mallopt(parameter, size)
