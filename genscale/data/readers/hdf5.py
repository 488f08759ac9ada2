"""HDF5 files of jets, read with h5py; `genscale.data.readers.arrays` has the layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genscale.data.readers.arrays import ArrayFile
from genscale.data.readers.base import Options, Reader
from genscale.errors import InputError

_MAGIC = b"\x89HDF\r\n\x1a\n"


class Hdf5Reader(Reader):
    """Reader of HDF5 files."""

    name = "hdf5"
    suffixes = (".h5", ".hdf5")

    def can_read(self, path: Path) -> bool:
        """Whether the file begins as HDF5 files do."""
        with open(path, "rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC

    def _open(self, path: Path, options: Options) -> ArrayFile:
        import h5py

        try:
            file = h5py.File(path, "r")
            arrays: dict[str, Any] = {}
            file.visititems(
                lambda name, item: (
                    arrays.__setitem__(name, item) if isinstance(item, h5py.Dataset) and item.shape else None
                )
            )
        except Exception as error:  # h5py raises many kinds of exceptions for damaged files
            reason = " ".join(str(error).split())[:120]
            raise InputError(
                f"{path}: not a whole HDF5 file ({reason}); download or copy it again"
            ) from error
        return ArrayFile(path, arrays, file.close, options)
