"""Jet stores and token stores: folders of Arrow IPC shards and a JSON manifest.

    jets/
        manifest.json           counts, classes, columns, settings, shards with sizes and checksums
        shards/QCD-00000.arrow  one record batch, uncompressed, list columns; memory-mapped when read

A store is written into ``jets.partial/`` and renamed when it is complete, so that a folder with the final name is
always a complete store. An interrupted run leaves verified shards in ``jets.partial/``, which the next run keeps.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, Self

import awkward as ak
import numpy as np

from genscale.data import schema
from genscale.data.columns import Column, gather, joined, to_awkward
from genscale.data.manifest import MANIFEST, SHARDS, Kind, Manifest, Shard
from genscale.data.mapping import PAGE_BYTES, MappedShards
from genscale.data.writing import TOKEN_META, StoreWriter
from genscale.errors import InputError
from genscale.files import sha256
from genscale.processes import available_cores

__all__ = ["TOKEN_META", "JetStore", "Manifest", "Shard", "Store", "StoreWriter", "TokenStore"]


class Store:
    """A finished, memory-mapped store: opening it reads no rows, and reading rows touches only their pages."""

    KIND: ClassVar[Kind | None] = None
    REQUIRED: ClassVar[tuple[str, ...]] = ()

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._starts = np.concatenate([[0], np.cumsum([shard.rows for shard in manifest.shards])])
        self._shards = MappedShards([self._file(shard) for shard in manifest.shards], manifest)

    @classmethod
    def open(cls, path: Path | str, verify: bool = True) -> Self:
        """Open the store at `path`.

        Parameters
        ----------
        path : Path or str
            Folder of the store.
        verify : bool
            Also compare the checksum of every shard (each file is read once, in constant memory).

        Returns
        -------
        Store

        Raises
        ------
        InputError
            The manifest, a column or a shard is missing, the store is of another kind or of a newer format, or the
            size or the checksum of a shard is wrong; the message names the file.
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
        """Names of the classes that have at least one jet, in the order of their labels."""
        return tuple(name for name, count in self.manifest.class_counts.items() if count)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of all classes, in the order of their labels; none if the classes of the jets are not known."""
        if self.manifest.kind == JetStore.KIND:
            return schema.class_names(self.columns)
        return tuple(self.manifest.class_counts)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Short hash of the shards' checksums: stores of equal content have equal fingerprints."""
        sums = "".join(shard.sha256 for shard in self.manifest.shards)
        return hashlib.sha256(sums.encode()).hexdigest()[:16]

    def read(
        self, indices: slice | np.ndarray | Sequence[int] | None = None, columns: Sequence[str] | None = None
    ) -> ak.Array:
        """Read rows into a ragged array, in the order of `indices`.

        Parameters
        ----------
        indices : slice or array of int, optional
            Rows of the store; all of them if None. A slice with step 1 within one shard is returned without
            copying.
        columns : sequence of str, optional
            Names of the columns wanted; all of them if None.

        Returns
        -------
        ak.Array
            Records, one per row, with the columns as fields.

        Raises
        ------
        InputError
            The store has no such column.
        IndexError
            The store has no such row.
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

    def labels(self, indices: slice | np.ndarray | Sequence[int] | None = None) -> np.ndarray:
        """Read the class index of rows.

        Parameters
        ----------
        indices : slice or array of int, optional
            As for `read`.

        Returns
        -------
        array of int64, shape (n_rows,)
            Positions in `class_names`; -1 for tokens of jets of unknown class.

        Raises
        ------
        InputError
            The jets have no labels.
        """
        if "label" in self.manifest.columns:
            return ak.to_numpy(self.read(indices, columns=["label"])["label"]).astype(np.int64)
        columns = [schema.LABEL_PREFIX + name for name in self.class_names]
        if not columns:
            raise InputError(
                f"{self.path}: these jets have no labels (no column {schema.LABEL_PREFIX}...); convert --class NAME "
                "labels the jets of files of one class"
            )
        flags = self.read(indices, columns=columns)
        return np.argmax([ak.to_numpy(flags[name]) for name in columns], axis=0)

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
                columns = self._shards[number]
                parts.append({name: columns[name].rows(int(low), int(high)) for name in names})
                shard = self.manifest.shards[number]
                self._shards.touched(shard.bytes * int(high - low) // shard.rows)
        if not parts:
            columns = self._shards[0]
            return {name: columns[name].rows(0, 0) for name in names}
        return (
            parts[0] if len(parts) == 1 else {name: joined([part[name] for part in parts]) for name in names}
        )

    def _scattered(self, rows: np.ndarray, names: Sequence[str]) -> dict[str, Column]:
        if not len(rows):
            return self._contiguous(0, 0, names)
        owner = np.searchsorted(self._starts, rows, side="right") - 1
        order = np.argsort(owner, kind="stable")
        numbers, first = np.unique(owner[order], return_index=True)
        parts = []
        for number, places in zip(numbers, np.split(order, first[1:]), strict=False):
            parts.append((self._shards[number], places, rows[places] - self._starts[number]))

        def count(part: int) -> None:
            most = self.manifest.shards[numbers[part]].bytes
            self._shards.touched(min(most, len(parts[part][1]) * len(names) * PAGE_BYTES))

        return gather(parts, names, len(rows), after_part=count)

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
            # Threads are enough, because hashlib releases the interpreter lock.
            with ThreadPoolExecutor(min(4, available_cores())) as pool:
                sums = pool.map(sha256, [self._file(shard) for shard in self.manifest.shards])
                for shard, found in zip(self.manifest.shards, sums, strict=True):
                    if found != shard.sha256:
                        raise InputError(
                            f"{self._file(shard)}: checksum {found[:12]} differs from the manifest's "
                            f"{shard.sha256[:12]}: the file is damaged; copy or make it again"
                        )


def require_classes(store: Store, classes: Sequence[str], whose: str) -> None:
    """Raise InputError unless the labels of the store stand for these classes, which are those of `whose`."""
    if not store.class_names:
        raise InputError(
            f"{store.path}: has no labels, and {whose} needs them; convert --class NAME labels files of one class"
        )
    if store.class_names != tuple(classes):
        raise InputError(
            f"{store.path}: its classes are {', '.join(store.class_names)}, those of {whose} "
            f"{', '.join(classes) or 'none'}; labels would change their meaning"
        )


def require_same_classes(train: Store, validation: Store) -> tuple[str, ...]:
    """Return the classes of both stores; raises InputError if they have none, or differ."""
    require_classes(train, train.class_names, "the training")
    require_classes(validation, train.class_names, str(train.path))
    return train.class_names


class JetStore(Store):
    """A store of jets, with the columns of `genscale.data.schema`."""

    KIND: ClassVar[Kind | None] = "jets"
    REQUIRED: ClassVar[tuple[str, ...]] = schema.REQUIRED_COLUMNS


class TokenStore(Store):
    """A store of token sequences: `tokens` (lists of integers, including start and stop tokens) and `label`."""

    KIND: ClassVar[Kind | None] = "tokens"
    REQUIRED: ClassVar[tuple[str, ...]] = schema.TOKEN_COLUMNS
