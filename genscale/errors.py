"""Exceptions that end a command with a message, and their exit codes; any other exception is a bug."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any


class InputError(ValueError):
    """Bad input from outside the program; the message names the file, key or value, and says what would be right."""


class Interrupted(Exception):
    """A training or a study was asked to stop (SIGTERM or SIGINT) and has saved; ``signal`` is the number."""

    def __init__(self, number: int, folder: Path, step: int | None = None) -> None:
        after = "" if step is None else f" after step {step}"
        super().__init__(f"{folder}: stopped by signal {number}{after}; run the same command to resume")
        self.signal = number


class CellFailed(Exception):
    """A cell of a study ended with an error; the message holds the end of its log."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean X?``, or nothing, for an error message about an unknown name."""
    near = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def require(condition: bool, message: str) -> None:
    """Raise InputError with this message unless the condition holds."""
    if not condition:
        raise InputError(message)


def run_guarded(command: Callable[[], object]) -> int:
    """Run a command and return its exit code: 0, 1 for a failure, 2 for bad input, 128 + signal if it was stopped.

    Messages take the place of tracebacks, which are left to bugs.
    """
    from eval.common.errors import InputError as EvalInputError
    from tokenizer.errors import InputError as TokenizerInputError

    _outlive_readers()
    try:
        command()
    except (InputError, EvalInputError, TokenizerInputError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
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


class _Output(io.FileIO):
    """Standard output or error, which drops what nobody reads any more: results are written all the same."""

    def write(self, data: Any) -> int:
        """Write to the descriptor, or to nowhere once its reader has closed the pipe, as ``head`` does."""
        try:
            return super().write(data)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())  # also for child processes and compiled code
            os.close(nowhere)
            return len(memoryview(data).cast("B"))


def _outlive_readers() -> None:
    """Let no closed pipe end the command, unless output or error are those of a test or a notebook."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and stream is getattr(sys, f"__{name}__"):
            stream.flush()
            output = _Output(stream.fileno(), "w", closefd=False)
            unbuffered = getattr(stream, "write_through", False)  # python -u
            text = io.TextIOWrapper(
                output if unbuffered else io.BufferedWriter(output),
                stream.encoding, stream.errors,
                line_buffering=stream.line_buffering, write_through=unbuffered,
            )  # fmt: skip
            setattr(sys, name, text)


def _end_process_group() -> None:
    """Close the connections of a training on several processes; a process that exits with open ones may abort."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
