"""A command that cannot do what was asked: one sentence why, one what to do."""

from typing import Final

FAILED: Final = 1
INTERRUPTED: Final = 130


class CommandFailedError(Exception):
    """What a person reads instead of a traceback. ``advice`` says what to do; trying again unchanged does not help."""

    def __init__(self, problem: str, advice: str = "", code: int = FAILED) -> None:
        super().__init__(problem)
        self.problem = problem
        self.advice = advice
        self.code = code

    def __str__(self) -> str:
        return f"{self.problem.rstrip('.')}. {self.advice}" if self.advice else self.problem
