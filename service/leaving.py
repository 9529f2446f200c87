"""Leaving at once when everything is done."""

import contextlib
import os
import sys
from typing import Final, NoReturn

UNUSABLE: Final = 78
"""Exit code of a service that cannot work with what it was given, and told why: starting it again does not help."""

CANNOT_START: Final = "cannot start: "
"""How ``/readyz`` begins what it says of a part that was refused at its start for good: a person must look."""


def leave(code: int) -> NoReturn:
    """Ends this process with ``code`` once its output is written.

    Python takes every module apart before it leaves, which on a busy machine costs seconds in which whoever waits for this
    process kills it. Call it when everything is closed: nothing registered to run at exit does.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)
