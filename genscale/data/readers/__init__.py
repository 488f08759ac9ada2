"""Readers of foreign formats, one file each; conversion and evaluation find them in the table `READERS`."""

from __future__ import annotations

from genscale.data.readers.base import Options, Reader, Source
from genscale.data.readers.hdf5 import Hdf5Reader
from genscale.data.readers.jetclass import JetClassReader
from genscale.data.readers.npz import NpyReader, NpzReader
from genscale.data.readers.parquet import ParquetReader

__all__ = ["READERS", "Options", "Reader", "Source"]

_ALL: tuple[Reader, ...] = (JetClassReader(), ParquetReader(), Hdf5Reader(), NpzReader(), NpyReader())

READERS: dict[str, Reader] = {reader.name: reader for reader in _ALL}
