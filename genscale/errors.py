"""Errors that end a command in a known way; everything else is a bug and shows its traceback."""

from __future__ import annotations

from pathlib import Path


class InputError(ValueError):
    """Bad input from outside the program; the message names the file, key or value and what would be right."""


class Interrupted(Exception):
    """Training was asked to stop (SIGTERM or SIGINT) and has saved a checkpoint; ``signal`` is the number."""

    def __init__(self, number: int, run: Path, step: int) -> None:
        super().__init__(
            f"{run}: stopped by signal {number} after step {step}; run the same command to go on"
        )
        self.signal = number


class CellFailed(Exception):
    """A cell of a study ended with an error; the message holds the end of its log."""
