"""The interface of readers of foreign formats: ranges of rows of the jet schema."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import awkward as ak

from genscale.errors import InputError


class Source(Protocol):
    """One open file: its number of jets, its columns, and any range of its rows."""

    rows: int
    columns: tuple[str, ...]

    def read(self, start: int, stop: int) -> ak.Array:
        """Read jets start..stop as rows of `genscale.data.schema`, particles in order of decreasing pT."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class Reader(Protocol):
    """A file format."""

    name: str
    suffixes: tuple[str, ...]

    def can_read(self, path: Path) -> bool:
        """Whether the first bytes of the file are those of this format; the file may still be damaged."""
        ...

    def open(self, path: Path) -> Source:
        """Open the file; raises InputError, which names the file, if it is damaged or incomplete."""
        ...


def damaged(path: Path, kind: str, error: Exception) -> InputError:
    """Return the error of a file that its library cannot read; libraries raise exceptions of many kinds for these."""
    reason = " ".join(str(error).split())[:120]
    return InputError(
        f"{path}: not a complete {kind} file ({type(error).__name__}: {reason}); download or copy it again"
    )
