"""Exceptions that end a command with a message, and their exit codes; any other exception is a bug."""

from __future__ import annotations

import sys
from collections.abc import Callable
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


def run_guarded(command: Callable[[], object]) -> int:
    """Run a command and return its exit code: 0, 1 for a failure, 2 for bad input, 128 + signal if it was stopped.

    Messages take the place of tracebacks, which are left to bugs.
    """
    from eval.common.errors import InputError as EvalInputError
    from tokenizer.errors import InputError as TokenizerInputError

    try:
        command()
    except (InputError, EvalInputError, TokenizerInputError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return 2
    except Interrupted as error:
        print(error, file=sys.stderr)
        return 128 + error.signal
    except (CellFailed, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        _end_process_group()
    return 0


def _end_process_group() -> None:
    """Close the connections of a training on several processes; a process that exits with open ones may abort."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
