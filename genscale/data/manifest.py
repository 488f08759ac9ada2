"""The manifest of a store, and the file operations that keep a store complete."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from genscale.errors import InputError

#: Version of the folder layout; readers refuse newer versions.
FORMAT_VERSION = 1

#: Names inside a store's folder.
MANIFEST, SHARDS = "manifest.json", "shards"

_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

Kind = Literal["jets", "tokens"]


@dataclass(frozen=True)
class Shard:
    """Entry of one Arrow file in the manifest."""

    key: str
    rows: int
    items: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Contents of `manifest.json`.

    `rows` counts jets, `items` counts particles or tokens, `columns` maps names to Arrow types, and `meta` has the
    seeds, the settings and the provenance that the writer was given.
    """

    format_version: int
    kind: Kind
    rows: int
    items: int
    class_counts: dict[str, int]
    columns: dict[str, str]
    meta: dict[str, Any]
    shards: tuple[Shard, ...]
    packages: dict[str, str]
    created: str

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Read the manifest of the store at `path`; raises InputError if it is missing or invalid."""
        file = path / MANIFEST
        if not file.is_file():
            partial = partial_path(path)
            hint = (
                f"; {partial} is unfinished: run the command that was writing it again"
                if partial.is_dir()
                else ""
            )
            raise InputError(f"{path}: no {MANIFEST} here, so this is not a store{hint}")
        try:
            text = json.loads(file.read_text())
            found = text["format_version"]
            if type(found) is not int or not 1 <= found <= FORMAT_VERSION:
                raise InputError(
                    f"{file}: store format {found!r}, but this genscale reads 1 to {FORMAT_VERSION}"
                )
            for shard in text["shards"]:
                require_key(shard["key"], str(file))
            return cls(**{**text, "shards": tuple(Shard(**shard) for shard in text["shards"])})
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{file}: not a store manifest ({error})") from error


def require_key(key: Any, where: str) -> None:
    """Raise InputError unless a shard may have this key, which names a file: no path leads out of its folder."""
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise InputError(f"{where}: shard key {key!r}: use letters, digits, dot, dash and underscore only")


def partial_path(path: Path) -> Path:
    """Return the folder in which the store `path` is written until it is complete."""
    return path.with_name(path.name + ".partial")


@contextmanager
def clear_errors(path: Path) -> Iterator[None]:
    """Turn file-system errors under `path` into an InputError that says what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"{path}: cannot be written ({reason}); free space or choose a folder that "
            "you may write to, then run the command again: complete shards are kept"
        ) from error


def fsync_folder(folder: Path) -> None:
    """Flush the directory entries of `folder` to disk, so that they survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
