"""What is going on, for whoever watches: one line that changes in a terminal, now and then a line elsewhere."""

import sys
import time
from dataclasses import dataclass, field
from typing import Final, TextIO

_EVERY_S: Final = 10.0


@dataclass(slots=True)
class Progress:
    """Told often, shows what a person can follow."""

    stream: TextIO = field(default_factory=lambda: sys.stderr)
    verbose: bool = False
    """Shows every trouble and every word of the supervisors."""
    _shown_at: float = 0.0
    _open: bool = False

    def now(self, text: str) -> None:
        """Replaces what is going on."""
        if self.stream.isatty():
            self.stream.write(f"\r\x1b[2K{text[:200]}")
            self._open = True
        elif time.monotonic() - self._shown_at >= _EVERY_S:
            self._shown_at = time.monotonic()
            self.stream.write(f"{text}\n")
        self.stream.flush()

    def line(self, text: str) -> None:
        """A line that stays."""
        if self._open:
            self.stream.write("\r\x1b[2K")
            self._open = False
        self.stream.write(f"{text}\n")
        self.stream.flush()

    def detail(self, text: str) -> None:
        """A line for whoever asked for all of them."""
        if self.verbose:
            self.line(text)
