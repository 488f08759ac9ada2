"""Jet and token stores: Arrow IPC shards beside a JSON manifest, written whole or not at all.

A store is a folder::

    jets/
        manifest.json           counts, classes, columns, settings, shards with sizes and checksums
        shards/QCD-00000.arrow  one record batch, uncompressed, list columns; memory-mapped when read

It is written into ``jets.partial/`` and renamed when complete, so a folder that carries the final name
is a whole store. An interrupted run leaves verified shards in ``jets.partial/`` that the next run keeps.
"""

from __future__ import annotations

import datetime
import difflib
import functools
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar, Self

import awkward as ak
import numpy as np
import pyarrow as pa

from genscale.data import schema
from genscale.data.columns import Column, from_awkward, gather, joined, to_awkward
from genscale.data.conform import conform_jets, conform_tokens
from genscale.data.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    SHARDS,
    Kind,
    Manifest,
    Shard,
    clear_errors,
    fsync_folder,
    partial_path,
    sha256,
    write_atomically,
)
from genscale.errors import InputError

__all__ = ["TOKEN_META", "JetStore", "Manifest", "Shard", "Store", "StoreWriter", "TokenStore"]

#: What the meta of every token store says, so that tokens can never meet a tokenizer that is not theirs.
TOKEN_META = ("tokenizer_fingerprint", "vocabulary_size", "source_fingerprint")

_PROGRESS = "progress"
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class StoreWriter:
    """Write one store, shard by shard, resumably.

    Parameters
    ----------
    path
        Where the finished store will lie; until then it is ``<path>.partial``.
    kind
        "jets" (rows of `genscale.data.schema`) or "tokens" (columns `tokens` and `label`).
    meta
        Seeds, settings and provenance; JSON values. A resumed run must bring equal ones. Token stores
        need `TOKEN_META`.

    Raises
    ------
    InputError
        If `path` exists, or `<path>.partial` belongs to a run with other settings.

    Notes
    -----
    `write_shard` may be called from several processes with distinct keys: the object pickles, or each
    process makes its own with the same arguments. `finish` is called once, by one of them.
    """

    def __init__(self, path: Path | str, kind: Kind, meta: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.kind: Kind = kind
        self.meta: dict[str, Any] = json.loads(json.dumps(dict(meta)))
        self.partial = partial_path(self.path)
        if kind == "tokens" and (missing := [key for key in TOKEN_META if key not in self.meta]):
            raise InputError(f"{self.path}: the meta of a token store needs {', '.join(missing)}")
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            what = "a finished store" if (self.path / MANIFEST).is_file() else "something that is not a store"
            raise InputError(
                f"{self.path}: {what} is already there; choose another folder or remove it first"
            )
        with clear_errors(self.partial):
            (self.partial / SHARDS).mkdir(parents=True, exist_ok=True)
            (self.partial / _PROGRESS).mkdir(exist_ok=True)
            header = self.partial / _PROGRESS / "header.json"
            ours = {"format_version": FORMAT_VERSION, "kind": kind, "meta": self.meta}
            if not header.is_file():
                write_atomically(header, json.dumps(ours, indent=1).encode())
            theirs = json.loads(header.read_text())
        if theirs != ours:
            raise InputError(
                f"{self.partial}: begun with other settings ({_first_difference(theirs, ours)}); "
                "repeat them to go on, choose another folder, or remove it to start again"
            )

    def has_shard(self, key: str) -> bool:
        """Whether shard `key` is there, whole, with the size and checksum it was written with."""
        record = self._record(key)
        if record is None:
            return False
        file = self._shard_file(key)
        return file.is_file() and file.stat().st_size == record["bytes"] and sha256(file) == record["sha256"]

    def write_shard(self, key: str, rows: ak.Array) -> None:
        """Write `rows` as shard `key`, replacing any older one; other processes see all of it or nothing.

        Raises
        ------
        InputError
            If `rows` break the schema, or the disk is full or not writable.
        """
        if not _KEY.fullmatch(key):
            raise InputError(f"shard key {key!r}: use letters, digits, dot, dash and underscore only")
        columns = from_awkward(rows)
        if self.kind == "jets":
            columns, labels = conform_jets(columns, where=f"shard {key}")
        else:
            columns, labels = conform_tokens(
                columns, vocabulary_size=int(self.meta["vocabulary_size"]), where=f"shard {key}"
            )
        table = pa.table({name: column.to_arrow() for name, column in columns.items()})
        file = self._shard_file(key)
        aside = file.with_name(f".{key}.{uuid.uuid4().hex}.tmp")
        with clear_errors(file):
            try:
                with open(aside, "wb") as sink:
                    with pa.ipc.new_file(sink, table.schema) as writer:
                        # One batch a shard: every column is then one contiguous stretch of the mapped file.
                        writer.write_table(table, max_chunksize=max(1, len(table)))
                    sink.flush()
                    os.fsync(sink.fileno())
                record = {
                    "key": key,
                    "rows": len(table),
                    "items": next((len(c.content) for c in columns.values() if c.offsets is not None), 0),
                    "bytes": aside.stat().st_size,
                    "sha256": sha256(aside),
                    "columns": {field.name: str(field.type) for field in table.schema},
                    "class_counts": np.bincount(labels, minlength=len(schema.CLASSES)).tolist(),
                }
                os.replace(aside, file)
                # The record comes last: a shard without one is not whole, whatever the file looks like.
                write_atomically(self._record_file(key), json.dumps(record).encode())
            finally:
                aside.unlink(missing_ok=True)

    def finish(self) -> Manifest:
        """Write the manifest over all whole shards, in key order, and publish the store under its name."""
        records = sorted(
            (json.loads(file.read_text()) for file in (self.partial / _PROGRESS).glob("*.shard.json")),
            key=lambda record: record["key"],
        )
        if not records:
            raise InputError(f"{self.partial}: no shard was written, so there is no store to finish")
        for record in records:
            file = self._shard_file(record["key"])
            if not file.is_file() or file.stat().st_size != record["bytes"]:
                raise InputError(f"{file}: missing or changed since it was written; run the command again")
            if record["columns"] != records[0]["columns"]:
                raise InputError(f"{file}: its columns differ from those of {records[0]['key']}")
        counts = np.sum([record["class_counts"] for record in records], axis=0).tolist()
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            kind=self.kind,
            rows=sum(record["rows"] for record in records),
            items=sum(record["items"] for record in records),
            class_counts=dict(zip(schema.CLASSES, counts, strict=True)),
            columns=records[0]["columns"],
            meta=self.meta,
            shards=tuple(
                Shard(**{k: r[k] for k in ("key", "rows", "items", "bytes", "sha256")}) for r in records
            ),
            packages=_packages("genscale", "numpy", "awkward", "pyarrow"),
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        with clear_errors(self.path):
            keep = {f"{record['key']}.arrow" for record in records}
            for file in (self.partial / SHARDS).iterdir():
                if file.name not in keep:  # what a killed process left
                    file.unlink(missing_ok=True)
            write_atomically(self.partial / MANIFEST, json.dumps(asdict(manifest), indent=1).encode())
            os.replace(self.partial, self.path)
            fsync_folder(self.path.parent)
            # Only now: had the records gone first, a kill in between would have cost every shard.
            shutil.rmtree(self.path / _PROGRESS, ignore_errors=True)
        return manifest

    def _shard_file(self, key: str) -> Path:
        return self.partial / SHARDS / f"{key}.arrow"

    def _record_file(self, key: str) -> Path:
        return self.partial / _PROGRESS / f"{key}.shard.json"

    def _record(self, key: str) -> dict[str, Any] | None:
        file = self._record_file(key)
        return json.loads(file.read_text()) if file.is_file() else None


class Store:
    """A finished store, memory-mapped: opening it reads no rows, reading rows touches only their pages."""

    KIND: ClassVar[Kind | None] = None
    REQUIRED: ClassVar[tuple[str, ...]] = ()

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._starts = np.concatenate([[0], np.cumsum([shard.rows for shard in manifest.shards])])
        self._mapped: dict[int, dict[str, Column]] = {}

    @classmethod
    def open(cls, path: Path | str, verify: bool = True) -> Self:
        """Open the store at `path`.

        Parameters
        ----------
        path
            The store's folder.
        verify
            Also compare every shard's checksum (reads each file once, in constant memory).

        Raises
        ------
        InputError
            Naming the file: no manifest, wrong kind, newer format, missing column, missing shard, wrong
            size or checksum.
        """
        path = Path(path)
        manifest = Manifest.load(path)
        if cls.KIND is not None and manifest.kind != cls.KIND:
            raise InputError(f"{path}: a store of {manifest.kind}, but one of {cls.KIND} is needed here")
        for name in cls.REQUIRED:
            if name not in manifest.columns:
                raise InputError(f"{path}: column {name} is missing (found {', '.join(manifest.columns)})")
        store = cls(path, manifest)
        store._check_files(verify)
        return store

    def __len__(self) -> int:
        return self.manifest.rows

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}: {len(self):,} jets, {len(self.columns)} columns>"

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self.manifest.columns)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that have at least one jet, in schema order."""
        return tuple(name for name in schema.CLASSES if self.manifest.class_counts.get(name, 0))

    @functools.cached_property
    def fingerprint(self) -> str:
        """Short hash of the shards' checksums: equal content, equal fingerprint, wherever written."""
        sums = "".join(shard.sha256 for shard in self.manifest.shards)
        return hashlib.sha256(sums.encode()).hexdigest()[:16]

    def read(
        self, indices: slice | np.ndarray | Sequence[int] | None = None, columns: Sequence[str] | None = None
    ) -> ak.Array:
        """Rows as a ragged array, in the order of `indices`.

        Parameters
        ----------
        indices
            Rows of the whole store; all of them if None. A slice with step 1 inside one shard is returned
            without copying.
        columns
            Names of the columns wanted; all of them if None.

        Returns
        -------
        ak.Array
            Record array [n_rows] with the columns as fields.

        Raises
        ------
        InputError
            If a column is not there.
        IndexError
            If a row is not there.
        """
        names = self._known(columns)
        if indices is None:
            indices = slice(None)
        if isinstance(indices, slice):
            start, stop, step = indices.indices(len(self))
            if step == 1:
                return to_awkward(self._contiguous(start, max(start, stop), names), max(0, stop - start))
            indices = np.arange(start, stop, step)
        rows = np.asarray(indices)
        if rows.dtype == bool:
            if len(rows) != len(self):
                raise IndexError(f"{self.path}: a mask of {len(rows)} for {len(self)} rows")
            rows = np.flatnonzero(rows)
        rows = rows.astype(np.int64, casting="same_kind") if len(rows) else rows.astype(np.int64)
        rows = np.where(rows < 0, rows + len(self), rows)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError(
                f"{self.path}: row {rows.min()} or {rows.max()} is not among its {len(self)} rows"
            )
        return to_awkward(self._scattered(rows, names), len(rows))

    def labels(self) -> np.ndarray:
        """Class index of every row, int64 [n_rows], in the order of `schema.CLASSES`."""
        if "label" in self.manifest.columns:
            return ak.to_numpy(self.read(columns=["label"])["label"]).astype(np.int64)
        labels = np.empty(len(self), dtype=np.int64)
        for number, (start, stop) in enumerate(zip(self._starts[:-1], self._starts[1:], strict=True)):
            columns = self._shard(number)
            labels[start:stop] = np.argmax([columns[name].content for name in schema.LABELS], axis=0)
        return labels

    def _known(self, columns: Sequence[str] | None) -> tuple[str, ...]:
        names = self.columns if columns is None else tuple(columns)
        for name in names:
            if name not in self.manifest.columns:
                near = difflib.get_close_matches(name, self.columns, n=1)
                guess = f"; nearest is {near[0]}" if near else ""
                raise InputError(
                    f"{self.path}: column {name} is missing (found {', '.join(self.columns)}){guess}"
                )
        return names

    def _contiguous(self, start: int, stop: int, names: Sequence[str]) -> dict[str, Column]:
        parts = []
        for number, first in enumerate(self._starts[:-1]):
            low, high = max(start, first) - first, min(stop, self._starts[number + 1]) - first
            if low < high:
                columns = self._shard(number)
                parts.append({name: columns[name].rows(int(low), int(high)) for name in names})
        if not parts:
            columns = self._shard(0)
            return {name: columns[name].rows(0, 0) for name in names}
        return (
            parts[0] if len(parts) == 1 else {name: joined([part[name] for part in parts]) for name in names}
        )

    def _scattered(self, rows: np.ndarray, names: Sequence[str]) -> dict[str, Column]:
        owner = np.searchsorted(self._starts, rows, side="right") - 1
        order = np.argsort(owner, kind="stable")
        numbers, first = np.unique(owner[order], return_index=True)
        places = np.split(order, first[1:])
        parts = [
            (self._shard(n), p, rows[p] - self._starts[n]) for n, p in zip(numbers, places, strict=False)
        ]
        if not len(rows):
            parts = [(self._shard(0), rows, rows)]
        return gather(parts, names, len(rows))

    def _shard(self, number: int) -> dict[str, Column]:
        """Columns of one shard as views of the mapped file; mapped when first needed."""
        if number not in self._mapped:
            shard = self.manifest.shards[number]
            file = self._file(shard)
            try:
                batches = pa.ipc.open_file(pa.memory_map(str(file)))
                if batches.num_record_batches != 1:
                    raise InputError(
                        f"{file}: has {batches.num_record_batches} record batches instead of one"
                    )
                batch = batches.get_batch(0)
                found = {name: Column.from_arrow(batch.column(name)) for name in batch.schema.names}
            except (pa.ArrowException, OSError) as error:
                raise InputError(
                    f"{file}: not a readable Arrow file ({error}); copy or make it again"
                ) from error
            if batch.num_rows != shard.rows:
                raise InputError(f"{file}: has {batch.num_rows} rows, the manifest says {shard.rows}")
            for name in self.manifest.columns:
                if name not in found:
                    raise InputError(f"{file}: column {name} is missing (found {', '.join(found)})")
            self._mapped[number] = found
        return self._mapped[number]

    def _file(self, shard: Shard) -> Path:
        return self.path / SHARDS / f"{shard.key}.arrow"

    def _check_files(self, verify: bool) -> None:
        for shard in self.manifest.shards:
            file = self._file(shard)
            if not file.is_file():
                raise InputError(f"{file}: missing, though {self.path / MANIFEST} lists it")
            if (size := file.stat().st_size) != shard.bytes:
                raise InputError(
                    f"{file}: {size} bytes, the manifest says {shard.bytes}; copy or make it again"
                )
        if verify:
            # hashlib lets other threads run while it hashes
            with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
                sums = pool.map(sha256, [self._file(shard) for shard in self.manifest.shards])
                for shard, found in zip(self.manifest.shards, sums, strict=True):
                    if found != shard.sha256:
                        raise InputError(
                            f"{self._file(shard)}: checksum {found[:12]} differs from the manifest's "
                            f"{shard.sha256[:12]}: the file is damaged; copy or make it again"
                        )


class JetStore(Store):
    """A store of jets (`genscale.data.schema`)."""

    KIND: ClassVar[Kind | None] = "jets"
    REQUIRED: ClassVar[tuple[str, ...]] = schema.REQUIRED_COLUMNS


class TokenStore(Store):
    """A store of token sequences: `tokens` (list of integers, start and stop included) and `label`."""

    KIND: ClassVar[Kind | None] = "tokens"
    REQUIRED: ClassVar[tuple[str, ...]] = schema.TOKEN_COLUMNS


def _first_difference(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    for key in sorted({*theirs, *ours}):
        there, here = theirs.get(key), ours.get(key)
        if there != here:
            if isinstance(there, dict) and isinstance(here, dict):
                return _first_difference(there, here)
            return f"{key} is {json.dumps(there)} there, {json.dumps(here)} here"
    return "no difference"


def _packages(*names: str) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
