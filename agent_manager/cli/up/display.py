# ruff: noqa: PLC0415 - rich only on a terminal
"""Progress while starting, then one line that stays; plain lines where there is no terminal."""

import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Display:
    """What a person sees of ``up``."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._began = time.monotonic()
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._done: set[str] = set()
        self._status = ""

    def lasted_s(self) -> float:
        """Seconds since the start began."""
        return time.monotonic() - self._began

    def begin(self, parts: list[str]) -> None:
        """Shows ``parts`` as being started."""
        if not self._terminal:
            self.line(f"starting {', '.join(parts)}")
            return
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"), TextColumn("{task.description:<34}"), TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[why]}"), refresh_per_second=6, transient=True,
        )  # fmt: skip
        self._tasks = {part: self._progress.add_task(part, total=1, why="") for part in parts}
        self._progress.start()

    def waiting(self, part: str, why: str) -> None:
        """``part`` is not ready yet."""
        if self._progress is not None and part in self._tasks:
            self._progress.update(self._tasks[part], why=why[:80])

    def ready(self, part: str) -> None:
        """``part`` does its work."""
        if part in self._done:
            return
        self._done.add(part)
        if self._progress is not None and part in self._tasks:
            self._progress.update(self._tasks[part], completed=1, why="")
        elif not self._terminal:
            self.line(f"{part}: ready after {self.lasted_s():.1f} s")

    def end(self) -> None:
        """The start is over."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def line(self, text: str) -> None:
        """One line that stays."""
        if self._progress is not None:
            self._progress.console.print(text, markup=False, highlight=False)
            return
        self._write(f"{self._clear()}{text}\n{self._status}")

    def status(self, text: str) -> None:
        """Replaces the line at the bottom; nothing where there is no terminal."""
        if not self._terminal or self._progress is not None:
            return
        fitting = text[: max(10, shutil.get_terminal_size().columns - 1)]
        if fitting != self._status:
            self._write(f"{self._clear()}{fitting}")
            self._status = fitting

    def _clear(self) -> str:
        return "\r\x1b[2K" if self._terminal and self._status else ""

    @staticmethod
    def _write(text: Any) -> None:
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except OSError:
            # The terminal is gone; stopping in order matters more.
            return
