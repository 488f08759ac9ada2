"""NumPy archives (.npz) of padded jets; `genscale.data.readers.padded` describes the layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from genscale.data.readers.padded import PaddedFile
from genscale.errors import InputError

_MAGIC = b"PK"


class NpzReader:
    """Reader of NumPy archives; pickled objects are refused, because they could run code."""

    name = "npz"
    suffixes: tuple[str, ...] = (".npz",)

    def can_read(self, path: Path) -> bool:
        """Whether the file has the suffix .npz and begins as zip archives do."""
        with open(path, "rb") as file:
            return path.suffix == ".npz" and file.read(len(_MAGIC)) == _MAGIC

    def open(self, path: Path) -> PaddedFile:
        """Read one archive into memory; raises InputError if it is damaged or has no array of particles."""
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        except Exception as error:  # zip, zlib and NumPy have errors of their own
            reason = " ".join(str(error).split())[:120]
            raise InputError(f"{path}: not a complete archive of plain arrays ({reason})") from error
        return PaddedFile(path, arrays, lambda: None)
