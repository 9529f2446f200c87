"""Leaving at once when everything is done."""

import contextlib
import os
import sys
from typing import NoReturn


def leave(code: int) -> NoReturn:
    """Ends this process with ``code`` once its output is written.

    Python takes every module apart before it leaves, which on a busy machine costs seconds in which whoever waits for this
    process kills it. Call it when everything is closed: nothing registered to run at exit does.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)
