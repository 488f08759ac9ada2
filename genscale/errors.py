"""Exceptions that end a command with a message and an exit code; any other exception is a bug."""

from __future__ import annotations

from pathlib import Path


class InputError(ValueError):
    """Bad input from outside the program; the message names the file, key or value, and says what would be right."""


class Interrupted(Exception):
    """A training or a study was asked to stop (SIGTERM or SIGINT) and has saved; ``signal`` is the number."""

    def __init__(self, number: int, folder: Path, step: int | None = None) -> None:
        after = "" if step is None else f" after step {step}"
        super().__init__(f"{folder}: stopped by signal {number}{after}; run the same command to go on")
        self.signal = number


class CellFailed(Exception):
    """A cell of a study ended with an error; the message holds the end of its log."""
