"""JetClass ROOT files (Qu, Li and Qian, arXiv:2202.03772; Zenodo record 6619768), read with uproot.

The tree `tree` has one entry per jet; its branches are the columns of `genscale.data.schema`. Particle branches are
``std::vector`` in the original files and variable-length arrays in those of `genscale.data.export`; uproot reads both
as lists.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak

from genscale.data import schema
from genscale.data.conform import by_falling_pt
from genscale.data.readers.base import Options, Reader
from genscale.errors import InputError

TREE = "tree"

_MAGIC = b"root"


class JetClassReader(Reader):
    """Reader of JetClass ROOT files."""

    name = "jetclass"
    suffixes = (".root",)

    def can_read(self, path: Path) -> bool:
        """Whether the file begins as ROOT files do."""
        with open(path, "rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC

    def _open(self, path: Path, options: Options) -> JetClassFile:
        return JetClassFile(path)


class JetClassFile:
    """One open JetClass file."""

    def __init__(self, path: Path) -> None:
        import uproot

        self.path = path
        try:
            self._file = uproot.open(path)
            found = self._file.keys(cycle=False, recursive=False)
            end = int(self._file.file.fEND)
        except Exception as error:  # uproot raises many kinds of exceptions for damaged files
            raise _damaged(path, error) from error
        if (size := path.stat().st_size) < end:
            self.close()
            raise InputError(f"{path}: {size} bytes of {end}, so cut short; download or copy it again")
        if TREE not in found:
            self.close()
            raise InputError(
                f"{path}: no tree called {TREE!r}, so not a JetClass file (found {_listed(found)})"
            )
        try:
            self._tree: Any = self._file[TREE]
            branches = self._tree.keys(recursive=False)
            self.rows = int(self._tree.num_entries)
        except Exception as error:
            self.close()
            raise _damaged(path, error) from error
        self.columns = schema.known(branches)
        if missing := [name for name in schema.REQUIRED_COLUMNS if name not in branches]:
            self.close()
            raise InputError(f"{path}: branches {_listed(missing)} are missing (found {_listed(branches)})")

    def read(self, start: int, stop: int) -> ak.Array:
        """Read jets start..stop, particles in order of decreasing pT (particles of equal pT keep their order)."""
        try:
            jets = self._tree.arrays(list(self.columns), entry_start=start, entry_stop=stop, library="ak")
        except Exception as error:
            raise _damaged(self.path, error) from error
        return by_falling_pt(jets)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _damaged(path: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:120]
    return InputError(
        f"{path}: not a whole ROOT file ({type(error).__name__}: {reason}); download or copy it again"
    )


def _listed(names: list[str], most: int = 8) -> str:
    return (", ".join(names[:most]) or "nothing") + (
        f" and {len(names) - most} more" if len(names) > most else ""
    )
