"""Parquet files with one row per jet and list columns, read with pyarrow.

There are two layouts: the columns of `genscale.data.schema` (missing jet columns are computed from the sum of the
particles), or ``part_pt`` (GeV), ``part_etarel`` and ``part_phirel``, the names of OmniJet-alpha's code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from genscale.data import schema
from genscale.data.conform import by_falling_pt
from genscale.data.readers.base import damaged
from genscale.data.readers.relative import relative_rows
from genscale.errors import InputError

_MAGIC = b"PAR1"

_RELATIVE = ("part_pt", "part_etarel", "part_phirel")


class ParquetReader:
    """Reader of Parquet files."""

    name = "parquet"
    suffixes: tuple[str, ...] = (".parquet", ".pq")

    def can_read(self, path: Path) -> bool:
        """Whether the file begins as Parquet files do."""
        with open(path, "rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC

    def open(self, path: Path) -> ParquetJets:
        """Open one file; raises InputError if it is damaged or a column is missing."""
        return ParquetJets(path)


class ParquetJets:
    """One open Parquet file."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet

        self.path = path
        try:
            self._file: Any = pyarrow.parquet.ParquetFile(path)
        except Exception as error:
            raise damaged(path, "Parquet", error) from error
        self.rows = int(self._file.metadata.num_rows)
        names = list(self._file.schema_arrow.names)
        self._relative = not set(schema.KINEMATICS) <= set(names)
        if self._relative and not set(_RELATIVE) <= set(names):
            self.close()
            raise InputError(
                f"{path}: needs list columns {', '.join(schema.KINEMATICS)}, or {', '.join(_RELATIVE)} "
                f"(found {', '.join(names[:12]) or 'nothing'}{' ...' if len(names) > 12 else ''})"
            )
        found = [name for name in schema.COLUMNS if name in names]
        self._wanted: tuple[str, ...] = _RELATIVE if self._relative else tuple(found)
        wanted = set(schema.REQUIRED_COLUMNS if self._relative else (*found, *schema.REQUIRED_COLUMNS))
        self.columns: tuple[str, ...] = tuple(name for name in schema.COLUMNS if name in wanted)
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
            jets = ak.from_arrow(table.slice(start - before, stop - start))
        except Exception as error:
            raise damaged(self.path, "Parquet", error) from error
        jets = ak.zip({name: self._column(jets, name) for name in self._wanted}, depth_limit=1)
        return self._from_relative(jets, start) if self._relative else self._complete(jets, start)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _column(self, jets: ak.Array, name: str) -> ak.Array:
        column = ak.drop_none(jets[name]) if name in schema.PARTICLE_COLUMNS + _RELATIVE else jets[name]
        if ak.any(ak.is_none(jets[name], axis=0)) or len(column) != len(jets):
            raise InputError(
                f"{self.path}: column {name} has missing values; a jet without particles is an empty list"
            )
        lists = name.startswith("part_")
        if column.ndim != 1 + lists:
            raise InputError(
                f"{self.path}: column {name} has type {column.type.content}; "
                f"one {'list of numbers' if lists else 'number'} per jet is needed"
            )
        return ak.from_regular(column, axis=None)

    def _from_relative(self, jets: ak.Array, start: int) -> ak.Array:
        counts = ak.to_numpy(ak.num(jets["part_pt"]))
        for name in _RELATIVE[1:]:
            if not np.array_equal(ak.to_numpy(ak.num(jets[name])), counts):
                raise InputError(f"{self.path}: column {name} has other list lengths than part_pt")
        flat = [ak.to_numpy(ak.flatten(jets[name])) for name in _RELATIVE]
        where = f"{self.path}, part_pt, part_etarel, part_phirel, from jet {start}"
        return relative_rows(flat[0], flat[1], flat[2], counts, where=where)

    def _complete(self, jets: ak.Array, start: int) -> ak.Array:
        for name in schema.KINEMATICS:
            bad = ak.any(~np.isfinite(jets[name]), axis=1)
            if ak.any(bad):
                first = start + int(np.flatnonzero(ak.to_numpy(bad))[0])
                raise InputError(
                    f"{self.path}: column {name} is not finite in {int(ak.sum(bad))} jets, first in jet {first}"
                )
        if not set(schema.JET_KINEMATICS) <= set(jets.fields):
            px, py, pz, energy = (ak.to_numpy(ak.sum(jets[name], axis=1)) for name in schema.KINEMATICS[:4])
            pt = np.hypot(px, py)
            slope = np.divide(pz, pt, out=np.zeros_like(pz), where=pt > 0)
            sums = (pt, np.arcsinh(slope), np.arctan2(py, px), energy, ak.num(jets["part_px"]))
            for name, values in zip(schema.JET_KINEMATICS, sums, strict=True):
                if name not in jets.fields:
                    jets = ak.with_field(jets, values, name)
        return by_falling_pt(jets[list(self.columns)])
