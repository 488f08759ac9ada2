"""HDF5 files of padded jets, read with h5py; `genscale.data.readers.padded` describes the layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genscale.data.readers.base import damaged
from genscale.data.readers.padded import PaddedFile

_MAGIC = b"\x89HDF\r\n\x1a\n"


class Hdf5Reader:
    """Reader of HDF5 files: those of JetNet, and files with one padded array of particles."""

    name = "hdf5"
    suffixes: tuple[str, ...] = (".h5", ".hdf5")

    def can_read(self, path: Path) -> bool:
        """Whether the file begins as HDF5 files do."""
        with open(path, "rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC

    def open(self, path: Path) -> PaddedFile:
        """Open one file; raises InputError if it is damaged or has no array of particles."""
        import h5py

        try:
            file = h5py.File(path, "r")
            arrays: dict[str, Any] = {}
            file.visititems(
                lambda name, item: (
                    arrays.__setitem__(name, item) if isinstance(item, h5py.Dataset) and item.shape else None
                )
            )
        except Exception as error:
            raise damaged(path, "HDF5", error) from error
        return PaddedFile(path, arrays, file.close)
