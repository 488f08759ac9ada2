"""Writing of a store, shard by shard: resumable, from several processes if needed, published by one rename."""

from __future__ import annotations

import datetime
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow as pa

from genscale.data import schema
from genscale.data.columns import from_awkward
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
    require_key,
)
from genscale.errors import InputError
from genscale.files import replacing, sha256, write_atomic

#: Keys that the meta of every token store has, so that tokens are never decoded by another tokenizer.
TOKEN_META = ("tokenizer_fingerprint", "vocabulary_size", "source_fingerprint")

_PROGRESS = "progress"


class StoreWriter:
    """Writer of one store; an interrupted run is resumed.

    Parameters
    ----------
    path : Path or str
        Folder of the finished store; until it is complete, the store is ``<path>.partial``.
    kind : str
        "jets" (rows of `genscale.data.schema`) or "tokens" (columns `tokens` and `label`).
    meta : dict
        Seeds, settings and provenance, as JSON values. A run can be resumed only with the same values. Token stores
        need the keys `TOKEN_META`.
    classes : sequence of str
        Classes that the labels of tokens count; none for jets of unknown class. Jets name theirs by their columns.

    Raises
    ------
    InputError
        `path` exists, or `<path>.partial` belongs to a run with other settings.

    Notes
    -----
    `write_shard` may be called from several processes with distinct keys: the object can be pickled, or each process
    can make its own with the same arguments. `finish` is called once, by one of them.
    """

    def __init__(
        self,
        path: Path | str,
        kind: Kind,
        meta: Mapping[str, Any],
        classes: Sequence[str] = schema.CLASSES,
    ) -> None:
        self.path = Path(path)
        self.kind: Kind = kind
        self.classes = tuple(classes)
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
            ours: dict[str, Any] = {"format_version": FORMAT_VERSION, "kind": kind, "meta": self.meta}
            if self.classes != schema.CLASSES:
                ours["classes"] = list(self.classes)
            if not header.is_file():
                write_atomic(header, json.dumps(ours, indent=1).encode())
            theirs = json.loads(header.read_text())
            if "split" in self.meta:  # simulations that were begun before stores were marked are resumed
                theirs["meta"].setdefault("split", self.meta["split"])
        if theirs != ours:
            raise InputError(
                f"{self.partial}: begun with other settings ({_first_difference(theirs, ours)}); "
                "repeat them to resume it, choose another folder, or remove it to start again"
            )

    def has_shard(self, key: str) -> bool:
        """Whether shard `key` exists with the size and the checksum with which it was written."""
        record = self._record(key)
        if record is None:
            return False
        file = self._shard_file(key)
        return file.is_file() and file.stat().st_size == record["bytes"] and sha256(file) == record["sha256"]

    def write_shard(self, key: str, rows: ak.Array) -> None:
        """Write `rows` as shard `key`, replacing an older one; other processes see the whole shard or nothing.

        Parameters
        ----------
        key : str
            Name of the shard; the shards of a store are in the order of their keys.
        rows : ak.Array
            Records with the columns of the store's kind.

        Raises
        ------
        InputError
            `rows` do not conform to the schema, or the disk is full or not writable.
        """
        require_key(key, str(self.path))
        columns = from_awkward(rows)
        if self.kind == "jets":
            columns, labels = conform_jets(columns, where=f"shard {key}")
        else:
            columns, labels = conform_tokens(
                columns, int(self.meta["vocabulary_size"]), len(self.classes), where=f"shard {key}"
            )
        # One batch per shard, so that every column is one contiguous part of the mapped file.
        batch = pa.record_batch({name: column.to_arrow() for name, column in columns.items()})
        file = self._shard_file(key)
        with clear_errors(file):
            with replacing(file) as aside:
                with open(aside, "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
                    writer.write_batch(batch)
                written = {"bytes": aside.stat().st_size, "sha256": sha256(aside)}
            record = {
                "key": key,
                "rows": len(batch),
                "items": next((len(c.content) for c in columns.values() if c.offsets is not None), 0),
                **written,
                "columns": {field.name: str(field.type) for field in batch.schema},
                "class_counts": np.bincount(labels, minlength=len(self._classes_of(columns))).tolist(),
            }
            # The record is written last: a shard without one counts as incomplete, whatever its file holds.
            write_atomic(self._record_file(key), json.dumps(record))

    def finish(self) -> Manifest:
        """Write the manifest of all complete shards, in the order of their keys, and rename the store to `path`."""
        records = sorted(
            (json.loads(file.read_text()) for file in (self.partial / _PROGRESS).glob("*.shard.json")),
            key=lambda record: record["key"],
        )
        if not records:
            raise InputError(f"{self.partial}: no shard was written, so there is no store to finish")
        for record in records:
            require_key(record["key"], str(self.partial / _PROGRESS))
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
            # Shards without labels that were written before stores named their classes have ten counts of 0.
            class_counts=dict(zip(self._classes_of(records[0]["columns"]), counts, strict=False)),
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
                if file.name not in keep:  # left by a process that was killed
                    file.unlink(missing_ok=True)
            write_atomic(self.partial / MANIFEST, json.dumps(asdict(manifest), indent=1).encode())
            os.replace(self.partial, self.path)
            fsync_folder(self.path.parent)
            # Last, because without the records a run killed at this point would have to write every shard again.
            shutil.rmtree(self.path / _PROGRESS, ignore_errors=True)
        return manifest

    def _classes_of(self, columns: Mapping[str, Any]) -> tuple[str, ...]:
        return schema.class_names(columns) if self.kind == "jets" else self.classes

    def _shard_file(self, key: str) -> Path:
        return self.partial / SHARDS / f"{key}.arrow"

    def _record_file(self, key: str) -> Path:
        return self.partial / _PROGRESS / f"{key}.shard.json"

    def _record(self, key: str) -> dict[str, Any] | None:
        file = self._record_file(key)
        return json.loads(file.read_text()) if file.is_file() else None


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
