"""Parquet files with one row per jet and list columns, read with pyarrow.

There are two layouts: the columns of `genscale.data.schema` (missing jet columns are computed from the sum of the
particles), or ``part_pt`` (GeV), ``part_etarel`` and ``part_phirel``, the names of OmniJet-alpha's code. Either may
have label columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow as pa

from genscale.data import schema
from genscale.data.columns import Column, to_awkward
from genscale.data.conform import by_falling_pt
from genscale.data.readers.base import Options, Reader
from genscale.data.readers.rows import refuse, relative_rows
from genscale.errors import InputError

_MAGIC = b"PAR1"

_RELATIVE = ("part_pt", "part_etarel", "part_phirel")


class ParquetReader(Reader):
    """Reader of Parquet files."""

    name = "parquet"
    suffixes = (".parquet", ".pq")

    def can_read(self, path: Path) -> bool:
        """Whether the file begins as Parquet files do."""
        with open(path, "rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC

    def _open(self, path: Path, options: Options) -> ParquetJets:
        return ParquetJets(path)


class ParquetJets:
    """One open Parquet file."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet

        self.path = path
        try:
            self._file: Any = pyarrow.parquet.ParquetFile(path)
        except Exception as error:
            raise _damaged(path, error) from error
        self.rows = int(self._file.metadata.num_rows)
        names = list(self._file.schema_arrow.names)
        self._relative = not set(schema.KINEMATICS) <= set(names)
        if self._relative and not set(_RELATIVE) <= set(names):
            self.close()
            raise InputError(
                f"{path}: needs list columns {', '.join(schema.KINEMATICS)}, or {', '.join(_RELATIVE)} "
                f"(found {', '.join(names[:12]) or 'nothing'}{' ...' if len(names) > 12 else ''})"
            )
        found = schema.known(names)
        if self._relative:
            self._labels = tuple(name for name in found if name.startswith(schema.LABEL_PREFIX))
            self._wanted: tuple[str, ...] = (*_RELATIVE, *self._labels)
            self.columns: tuple[str, ...] = schema.in_order((*schema.REQUIRED_COLUMNS, *self._labels))
        else:
            self._wanted = found
            self.columns = schema.in_order({*found, *schema.REQUIRED_COLUMNS})
        ends = np.cumsum(
            [self._file.metadata.row_group(k).num_rows for k in range(self._file.num_row_groups)]
        )
        self._ends = ends.astype(np.int64)

    def read(self, start: int, stop: int) -> ak.Array:
        """Read jets start..stop; only the row groups that hold them are read."""
        stop = min(stop, self.rows)
        first, last = np.searchsorted(self._ends, [start, max(start, stop - 1)], side="right")
        groups = list(range(int(first), min(int(last) + 1, len(self._ends))))
        before = int(self._ends[groups[0] - 1]) if groups and groups[0] else 0
        try:
            table = self._file.read_row_groups(groups, columns=list(self._wanted))
            table = table.slice(start - before, stop - start)
        except Exception as error:
            raise _damaged(self.path, error) from error
        columns = {name: self._column(table, name) for name in self._wanted}
        first_list = self._wanted[0]
        counts = columns[first_list].counts()
        for name, column in columns.items():
            if column.offsets is not None and not np.array_equal(column.counts(), counts):
                raise InputError(f"{self.path}: column {name} has other list lengths than {first_list}")
        if self._relative:
            return self._from_relative(columns, counts, start)
        return self._complete(columns, counts, start)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _column(self, table: pa.Table, name: str) -> Column:
        """A column without missing values, of any of Arrow's types of lists and numbers."""
        array = table[name].combine_chunks()
        if isinstance(array, pa.ChunkedArray):  # a table without rows, in some versions
            array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
        lists = name.startswith("part_")
        kind = array.type
        is_list = any(
            test(kind) for test in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
        )
        values = array.flatten() if is_list else array
        number = pa.types.is_integer(values.type) or pa.types.is_floating(values.type)
        if is_list != lists or not (number or pa.types.is_boolean(values.type)):
            raise InputError(
                f"{self.path}: column {name} has type {kind}; {'a list of numbers' if lists else 'a number'} a jet is "
                "needed"
            )
        if array.null_count or values.null_count:
            raise InputError(
                f"{self.path}: column {name} has missing values; a jet without particles is an empty list"
            )
        content = values.to_numpy(zero_copy_only=False)
        if not lists:
            return Column(content)
        if pa.types.is_fixed_size_list(kind):
            return Column(content, np.arange(len(array) + 1) * kind.list_size)
        offsets = array.offsets.to_numpy().astype(np.int64)
        return Column(content, offsets - offsets[0])

    def _from_relative(self, columns: Mapping[str, Column], counts: np.ndarray, start: int) -> ak.Array:
        pt, eta, phi = (columns[name].content for name in _RELATIVE)
        where = f"{self.path}, part_pt, part_etarel, part_phirel, from jet {start}"
        rows = relative_rows(pt, eta, phi, counts, where=where)
        for name in self._labels:
            rows = ak.with_field(rows, columns[name].content, name)
        return rows[list(self.columns)]

    def _complete(self, columns: dict[str, Column], counts: np.ndarray, start: int) -> ak.Array:
        for name in schema.KINEMATICS:
            where = f"{self.path}, from jet {start}: column {name} is not finite"
            refuse(~np.isfinite(columns[name].content), counts, where)
        if not set(schema.JET_KINEMATICS) <= set(columns):
            jet = np.repeat(np.arange(len(counts)), counts)
            px, py, pz, energy = (
                np.bincount(jet, columns[name].content, len(counts)) for name in schema.KINEMATICS[:4]
            )
            pt = np.hypot(px, py)
            slope = np.divide(pz, pt, out=np.zeros_like(pz), where=pt > 0)
            sums = (pt, np.arcsinh(slope), np.arctan2(py, px), energy, counts)
            for name, values in zip(schema.JET_KINEMATICS, sums, strict=True):
                columns.setdefault(name, Column(values))
        return by_falling_pt(to_awkward({name: columns[name] for name in self.columns}, len(counts)))


def _damaged(path: Path, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:120]
    return InputError(f"{path}: not a whole Parquet file ({reason}); download or copy it again")
