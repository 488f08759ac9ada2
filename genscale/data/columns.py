"""Ragged columns as two flat arrays, and their conversion from and to Arrow and awkward arrays.

A column consists of its content and, for a list column, the offsets of its rows. All particle columns of a store share
one set of offsets, so that reading any rows of many shards takes a few flat gathers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np
import pyarrow as pa

from genscale.errors import InputError


@dataclass(frozen=True)
class Column:
    """Values of one column: `content`, shape (n_items,), and, if rows are lists, `offsets`, shape (n_rows + 1,)."""

    content: np.ndarray
    offsets: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.content) if self.offsets is None else len(self.offsets) - 1

    @property
    def bounds(self) -> np.ndarray:
        """The offsets of a list column; raises TypeError for a column of numbers."""
        if self.offsets is None:
            raise TypeError("a column of numbers has no offsets")
        return self.offsets

    def counts(self) -> np.ndarray:
        """Length of the list of each row, shape (n_rows,)."""
        return np.diff(self.bounds)

    def rows(self, start: int, stop: int) -> Column:
        """Return rows start..stop as views of this column's memory."""
        if self.offsets is None:
            return Column(self.content[start:stop])
        return Column(self.content, self.offsets[start : stop + 1])

    def compact(self) -> Column:
        """Return the same rows with offsets that begin at zero and content that holds only these rows."""
        if self.offsets is None:
            return self
        first, last = int(self.offsets[0]), int(self.offsets[-1])
        return Column(self.content[first:last], self.offsets - first)

    def to_arrow(self) -> pa.Array:
        """Return an Arrow array; lists have 32-bit offsets, which every Arrow reader understands."""
        if self.offsets is None:
            return pa.array(self.content)
        column = self.compact()
        if len(column.content) > np.iinfo(np.int32).max:
            raise InputError(f"{len(column.content)} items are too many for one shard: write smaller shards")
        offsets = pa.array(column.bounds.astype(np.int32))
        return pa.ListArray.from_arrays(offsets, pa.array(column.content))

    @staticmethod
    def from_arrow(array: pa.Array) -> Column:
        """Return views of an Arrow array's buffers; raises InputError for types that no store has."""
        if pa.types.is_list(array.type):
            offsets = np.frombuffer(array.buffers()[1], dtype=np.int32)
            offsets = offsets[array.offset : array.offset + len(array) + 1]
            return Column(array.values.to_numpy(zero_copy_only=True), offsets)
        if not pa.types.is_primitive(array.type) or pa.types.is_boolean(array.type):
            raise InputError(f"Arrow type {array.type} is not one of a store (numbers and lists of numbers)")
        return Column(array.to_numpy(zero_copy_only=True))


def from_awkward(rows: ak.Array) -> dict[str, Column]:
    """Return the columns of a record array; raises InputError for fields other than numbers and lists of numbers."""
    columns = {}
    for name in rows.fields:
        layout = ak.to_packed(rows[name], highlevel=False)
        if isinstance(layout, ak.contents.RegularArray):
            layout = layout.to_ListOffsetArray64(True)
        offsets = None
        text = layout.parameter("__array__") is not None  # strings are lists of bytes
        if isinstance(layout, ak.contents.ListOffsetArray) and not text:
            offsets, layout = np.asarray(layout.offsets), layout.content
        if isinstance(layout, ak.contents.EmptyArray):
            layout = layout.to_NumpyArray(np.float32)
        if not isinstance(layout, ak.contents.NumpyArray) or layout.data.ndim != 1:
            raise InputError(
                f"column {name}: type {rows[name].type}; a store takes numbers and lists of numbers"
            )
        columns[name] = Column(np.asarray(layout.data), offsets)
    return columns


def to_awkward(columns: Mapping[str, Column], length: int) -> ak.Array:
    """Return a record array that uses the columns' own memory."""
    indices: dict[int, Any] = {}
    contents: list[ak.contents.Content] = []
    for column in columns.values():
        content: ak.contents.Content = ak.contents.NumpyArray(column.content)
        if column.offsets is not None:
            kind = ak.index.Index32 if column.offsets.dtype == np.int32 else ak.index.Index64
            index = indices.setdefault(id(column.offsets), kind(column.offsets))
            content = ak.contents.ListOffsetArray(index, content)
        contents.append(content)
    return ak.Array(ak.contents.RecordArray(contents, list(columns), length=length))


def joined(parts: Sequence[Column]) -> Column:
    """Return the rows of all parts one after another, as a copy."""
    if parts[0].offsets is None:
        return Column(np.concatenate([part.content for part in parts]))
    counts = np.concatenate([part.counts() for part in parts])
    return Column(np.concatenate([part.compact().content for part in parts]), _offsets(counts))


def gather(
    parts: Sequence[tuple[Mapping[str, Column], np.ndarray, np.ndarray]],
    names: Sequence[str],
    length: int,
    after_part: Callable[[int], None] = lambda part: None,
) -> dict[str, Column]:
    """Collect rows of several tables in one table.

    Parameters
    ----------
    parts : sequence of tuples
        For each table: its columns, the positions of its rows in the result, shape (k,), and the rows, shape (k,).
        The positions of all parts together are 0 .. length - 1.
    names : sequence of str
        Columns wanted. List columns whose names share the prefix before the first underscore have lists of the same
        lengths (the schema's rule for ``part_*``).
    length : int
        Number of rows of the result.
    after_part : callable
        Called with the number of each part as soon as the part is no longer needed.

    Returns
    -------
    dict of str to Column
    """
    plans: dict[str, tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]] = {}
    families: dict[str, str] = {}
    result: dict[str, Column] = {}
    for name in names:
        sample = parts[0][0][name]
        if sample.offsets is None:
            result[name] = Column(np.empty(length, sample.content.dtype))
            continue
        family = families[name] = name.split("_", 1)[0]
        if family not in plans:
            plans[family] = _plan(
                [(table[name].bounds, places, rows) for table, places, rows in parts], length
            )
        offsets = plans[family][0]
        result[name] = Column(np.empty(offsets[-1], sample.content.dtype), offsets)
    # Part by part, not column by column, so that the memory mapped for one part can be released before the next.
    for number, (table, places, rows) in enumerate(parts):
        for name in names:
            source, target = plans[families[name]][1][number] if name in families else (rows, places)
            result[name].content[target] = table[name].content[source]
        after_part(number)
    return result


def _plan(
    parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], length: int
) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Return the offsets of the result and, for each part, the positions of its items in the result."""
    counts = np.empty(length, dtype=np.int64)
    for offsets, places, rows in parts:
        counts[places] = offsets[rows + 1] - offsets[rows]
    result = _offsets(counts)
    moves = []
    for offsets, places, rows in parts:
        sizes = counts[places]
        moves.append((_ranges(offsets[rows], sizes), _ranges(result[places], sizes)))
    return result, moves


def _offsets(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def _ranges(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return start, start + 1, ... of all ranges, one after another."""
    ends = np.cumsum(sizes, dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(starts.astype(np.int64) - (ends - sizes), sizes) + np.arange(total)
