"""NumPy's files: single arrays (.npy) and archives of them (.npz); `genscale.data.readers.arrays` has the layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from genscale.data.readers.arrays import ArrayFile
from genscale.data.readers.base import Options, Reader
from genscale.errors import InputError


class NpzReader(Reader):
    """Reader of NumPy archives; pickled objects are refused, because they could run code."""

    name = "npz"
    suffixes = (".npz",)

    def can_read(self, path: Path) -> bool:
        """Whether the file has the suffix .npz and begins as zip archives do."""
        with open(path, "rb") as file:
            return path.suffix == ".npz" and file.read(2) == b"PK"

    def _open(self, path: Path, options: Options) -> ArrayFile:
        """Read one archive into memory."""
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        except Exception as error:  # zip, zlib and NumPy have errors of their own
            reason = " ".join(str(error).split())[:120]
            raise InputError(f"{path}: not a whole archive of plain arrays ({reason})") from error
        return ArrayFile(path, arrays, lambda: None, options)


class NpyReader(Reader):
    """Reader of files with one array, which is mapped and not read whole."""

    name = "npy"
    suffixes = (".npy",)

    def can_read(self, path: Path) -> bool:
        """Whether the file begins as those of single arrays do."""
        with open(path, "rb") as file:
            return file.read(6) == b"\x93NUMPY"

    def _open(self, path: Path, options: Options) -> ArrayFile:
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except Exception as error:
            reason = " ".join(str(error).split())[:120]
            raise InputError(f"{path}: not a whole array of plain numbers ({reason})") from error
        return ArrayFile(path, {"the array": array}, lambda: None, options)
