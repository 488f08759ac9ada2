"""Shards as memory-mapped columns: data are read when they are needed, and resident memory stays bounded.

Mapped pages belong to the operating system's cache, but they count as resident memory of the process that touched
them. A training over a large store would appear to need as much memory as the store is large, and batch systems would
stop it. Beyond a limit the pages are therefore released, and read again if they are needed again.

A mapping does not need the descriptor of its file, so none stays open: a store may have more shards than a process may
have open files, usually 1,024.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from genscale.data.columns import Column
from genscale.data.manifest import Manifest
from genscale.errors import InputError

#: Linux maps about this much around a touched byte.
PAGE_BYTES = 65_536

#: Mapped pages are released after about this many bytes have been touched.
RESIDENT_LIMIT_BYTES = 2**30


class MappedShards:
    """Columns of each shard, as views of its mapped file; pickling leaves the mappings out."""

    def __init__(self, files: Sequence[Path], manifest: Manifest) -> None:
        self._files = tuple(files)
        self._manifest = manifest
        self._fits = sum(shard.bytes for shard in manifest.shards) <= RESIDENT_LIMIT_BYTES
        self._touched_bytes = 0
        self._open: dict[int, tuple[pa.Buffer, dict[str, Column]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}

    def __getitem__(self, number: int) -> dict[str, Column]:
        if number not in self._open:
            self._open[number] = self._map(number)
        return self._open[number][1]

    def touched(self, count_bytes: int) -> None:
        """Count touched bytes, and release all pages when the limit is reached."""
        self._touched_bytes += count_bytes
        if self._fits or self._touched_bytes < RESIDENT_LIMIT_BYTES or not hasattr(mmap, "MADV_DONTNEED"):
            return
        for mapped, _ in self._open.values():
            _let_go(mapped)
        self._touched_bytes = 0

    def _map(self, number: int) -> tuple[pa.Buffer, dict[str, Column]]:
        file, rows = self._files[number], self._manifest.shards[number].rows
        try:
            mapped = _mapped(file)
            batches = pa.ipc.open_file(pa.BufferReader(mapped))
            if batches.num_record_batches != 1:
                raise InputError(f"{file}: has {batches.num_record_batches} record batches instead of one")
            batch = batches.get_batch(0)
            columns = {name: Column.from_arrow(batch.column(name)) for name in batch.schema.names}
        except (pa.ArrowException, OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
                raise InputError(
                    f"{file}: too many files are open in this process or on this machine; raise the limit (ulimit -n)"
                ) from error
            raise InputError(f"{file}: not a readable Arrow file ({error}); copy or make it again") from error
        if batch.num_rows != rows:
            raise InputError(f"{file}: has {batch.num_rows} rows, the manifest says {rows}")
        for name in self._manifest.columns:
            if name not in columns:
                raise InputError(f"{file}: column {name} is missing (found {', '.join(columns)})")
        return mapped, columns


def _mapped(file: Path) -> pa.Buffer:
    """Map the whole file; its descriptor is closed on return."""
    with pa.memory_map(str(file)) as source:
        # Arrow asks the system to read ahead all that it returns. One byte is enough to keep the mapping alive.
        first = source.read_buffer(1)
        return pa.foreign_buffer(first.address, source.size(), base=first)


def _let_go(mapped: pa.Buffer) -> None:
    """Release the pages of a mapping; its addresses stay valid, and pages that are touched again are read again."""
    ctypes.CDLL(None).madvise(
        ctypes.c_void_p(mapped.address), ctypes.c_size_t(mapped.size), mmap.MADV_DONTNEED
    )
