"""Conversion of foreign files to a jet store: resumable, parallel, with memory that does not grow with the files."""

from __future__ import annotations

import difflib
import glob
import multiprocessing
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from genscale.data.manifest import Manifest
from genscale.data.readers import READERS, Options, Reader
from genscale.data.store import StoreWriter
from genscale.errors import InputError
from genscale.files import sha256
from genscale.processes import exit_with_parent

#: Jets per shard: about 60 MB of JetClass jets, so that a worker needs a few hundred MB whatever the file size.
ROWS_PER_SHARD = 20_000

#: Jets that are read from every file before any is converted.
_LOOKED_AT = 1000

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class _Part:
    """A range of one file's jets that becomes one shard."""

    file: Path
    format: str
    key: str
    start: int
    stop: int


def convert(
    sources: Sequence[str | Path],
    out: Path | str,
    format: str = "auto",
    workers: int = 1,
    progress: bool = True,
    split: str | None = None,
    rows_per_shard: int = ROWS_PER_SHARD,
    options: Options | None = None,
) -> Manifest:
    """Convert foreign jet files to a jet store.

    Parameters
    ----------
    sources : sequence of str or Path
        Files, folders (searched for files of the format) and globs; shards are ordered by file name.
    out : Path or str
        Folder of the new store. If a conversion of the same files was interrupted, it is resumed.
    format : str
        A key of `genscale.data.readers.READERS`, or "auto" to recognise the format of the first file.
    workers : int
        Number of processes; the result does not depend on it.
    progress : bool
        Show a progress bar.
    split : str, optional
        "train", "val" or "test". It is recorded in the store's meta, so that training can refuse a test split.
    rows_per_shard : int
        Number of jets in a shard (the last shard of each file may have fewer).
    options : Options, optional
        What the files do not say: the array to read, the jets' pT, the class of all jets.

    Returns
    -------
    Manifest
        Manifest of the finished store; `meta["files"]` has the name, size and checksum of every source file.

    Raises
    ------
    InputError
        There are no files, a file is given twice or is damaged or of another format, the format is unknown, or
        `out` exists.
    """
    if split is not None and split not in SPLITS:
        raise InputError(f"split {split!r}: one of {', '.join(SPLITS)}")
    if workers < 1 or rows_per_shard < 1:
        raise InputError(f"workers={workers}, rows_per_shard={rows_per_shard}: both must be at least 1")
    files = find_files(sources, format)
    reader = reader_of(files[0], format)
    options = options or Options()
    parts = list(_parts(files, reader, rows_per_shard, options))
    if not parts:
        raise InputError(f"{files[0]}{' and the others' * (len(files) > 1)}: no jets inside")
    meta = {
        "source": "conversion",
        "format": reader.name,
        "split": split,
        "rows_per_shard": rows_per_shard,
        "files": _provenance(files, progress),
        # Only what was given, so that a conversion that was begun before there were these options is resumed.
        **{key: value for key, value in asdict(options).items() if value is not None},
    }
    writer = StoreWriter(Path(out), "jets", meta)
    todo = [part for part in parts if not writer.has_shard(part.key)]
    with tqdm(
        total=sum(p.stop - p.start for p in parts), unit="jet", disable=not progress, desc="convert"
    ) as bar:
        bar.update(bar.total - sum(part.stop - part.start for part in todo))
        for part in _written(writer, todo, workers, options):
            bar.update(part.stop - part.start)
    return writer.finish()


def find_files(sources: Sequence[str | Path], format: str = "auto") -> list[Path]:
    """Expand files, folders and globs to a sorted list of files; raises InputError if a file is given twice."""
    if format != "auto" and format not in READERS:
        near = difflib.get_close_matches(format, READERS, n=1)
        raise InputError(
            f"format {format!r}: one of auto, {', '.join(READERS)}"
            + (f"; nearest is {near[0]}" if near else "")
        )
    readers = READERS.values() if format == "auto" else [READERS[format]]
    suffixes = {suffix for reader in readers for suffix in reader.suffixes}
    found: dict[Path, str | Path] = {}
    for source in sources:
        path = Path(source)
        if path.is_dir():
            matches = [file for file in path.rglob("*") if file.suffix in suffixes and file.is_file()]
            hint = f"no {' or '.join(sorted(suffixes))} file in this folder"
        elif path.is_file():
            matches, hint = [path], ""
        else:
            matches = [
                Path(match) for match in glob.glob(str(source), recursive=True) if Path(match).is_file()
            ]
            hint = "no such file, folder or glob match"
        if not matches:
            raise InputError(f"{source}: {hint}")
        for file in matches:
            if (real := file.resolve()) in found:
                raise InputError(f"{file}: given twice, by {found[real]} and by {source}")
            found[real] = source
    if not found:
        raise InputError("nothing to convert: give files, folders or globs")
    return sorted(found)


def reader_of(file: Path, format: str = "auto") -> Reader:
    """Return the reader of this name; for "auto" the first reader that recognises the file."""
    if format != "auto":
        return READERS[format]
    for reader in READERS.values():
        if reader.can_read(file):
            return reader
    raise InputError(f"{file}: none of the known formats ({', '.join(READERS)})")


def _parts(files: Sequence[Path], reader: Reader, rows_per_shard: int, options: Options) -> Iterator[_Part]:
    """Look into every file first, so that damaged or unsuitable files are reported before hours of work, not after."""
    columns: tuple[str, ...] | None = None
    for number, file in enumerate(files):
        if not reader.can_read(file):
            raise InputError(f"{file}: not a {reader.name} file")
        source = reader.open(file, options)
        try:
            rows, found = source.rows, source.columns
            if some := min(rows, _LOOKED_AT):
                source.read(0, some)
        finally:
            source.close()
        if columns is not None and found != columns:
            different = sorted(set(columns) ^ set(found))
            raise InputError(f"{file}: columns differ from those of {files[0]}: {', '.join(different)}")
        columns = found
        for chunk, start in enumerate(range(0, rows, rows_per_shard)):
            stop = min(start + rows_per_shard, rows)
            yield _Part(file, reader.name, f"{number:05d}-{chunk:05d}", start, stop)


def _provenance(files: Sequence[Path], progress: bool) -> list[dict[str, str | int]]:
    folder = Path(os.path.commonpath([file.parent for file in files]))
    found: dict[str, Path] = {}
    records: list[dict[str, str | int]] = []
    for file in tqdm(files, unit="file", disable=not progress, desc="checksums"):
        checksum = sha256(file)
        if checksum in found:
            raise InputError(f"{file}: has the same content as {found[checksum]}; give each file once")
        found[checksum] = file
        name = file.relative_to(folder).as_posix()
        records.append({"name": name, "bytes": file.stat().st_size, "sha256": checksum})
    return records


def _written(writer: StoreWriter, parts: Sequence[_Part], workers: int, options: Options) -> Iterable[_Part]:
    """Write all parts, yielding each as soon as it is on disk."""
    if workers == 1 or len(parts) < 2:
        yield from (_write(writer, part, options) for part in parts)
        return
    # Workers are spawned: a forked child would inherit the threads of Arrow and uproot in an unknown state.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(parts)), context, initializer=exit_with_parent) as pool:
        futures = [pool.submit(_write, writer, part, options) for part in parts]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _write(writer: StoreWriter, part: _Part, options: Options) -> _Part:
    source = READERS[part.format].open(part.file, options)
    try:
        rows = source.read(part.start, part.stop)
    finally:
        source.close()
    try:
        writer.write_shard(part.key, rows)
    except InputError as error:
        raise InputError(f"{part.file}, jets {part.start} to {part.stop}: {error}") from error
    return part
