"""Shards as memory-mapped columns: nothing is read before it is needed, and pages do not pile up.

Mapped pages belong to the operating system's cache, but they count as resident memory of the process that
touched them. A training run over a large store would come to look as large as the store, and be stopped by a
batch system that counts so. Past a limit the pages are therefore let go; what is needed is read again.

A mapping outlives the descriptor of its file, so none stays open: a store may have more shards than a process may
have open files, 1,024 as a rule.
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

#: Mapped pages are let go after about this many bytes were touched.
RESIDENT_LIMIT_BYTES = 2**30


class MappedShards:
    """Columns of each shard, as views of its mapped file; pickles without them."""

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
        """Say that about so many bytes were touched; lets all pages go when it was too many."""
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
    """The whole file, mapped; its descriptor is closed already."""
    with pa.memory_map(str(file)) as source:
        # Arrow asks the system to read ahead all that it hands out, hence one byte, which keeps the mapping alive.
        first = source.read_buffer(1)
        return pa.foreign_buffer(first.address, source.size(), base=first)


def _let_go(mapped: pa.Buffer) -> None:
    """Let the pages of a mapping go; its addresses stay valid, and what is touched is read again."""
    ctypes.CDLL(None).madvise(
        ctypes.c_void_p(mapped.address), ctypes.c_size_t(mapped.size), mmap.MADV_DONTNEED
    )
