"""What a reader of a foreign format has to offer: nothing but rows of the jet schema, by range."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import awkward as ak


class Source(Protocol):
    """One open file: how many jets it holds, which columns, and any range of them."""

    rows: int
    columns: tuple[str, ...]

    def read(self, start: int, stop: int) -> ak.Array:
        """Jets start..stop as rows of `genscale.data.schema`, particles by falling pT."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


class Reader(Protocol):
    """One format."""

    name: str
    suffixes: tuple[str, ...]

    def can_read(self, path: Path) -> bool:
        """Whether the file looks like this format (a look at its first bytes, not a promise)."""
        ...

    def open(self, path: Path) -> Source:
        """Open the file; raise InputError naming it when it is damaged or something is missing."""
        ...
