"""The top-tagging reference data set (Kasieczka et al., arXiv:1902.09914; Zenodo record 2603256).

Each file is a pandas table called ``table`` with the columns E_0, PX_0, PY_0, PZ_0, ... of 200 particles in GeV, then
the four-momentum of the generated top quark, ttv (train, test or validation) and is_signal_new. pandas keeps numbers of
one type together, so that the file can be read without it. The top quark's momentum is zero for QCD jets, which would
tell the label: the columns are not read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from genscale.data import schema
from genscale.data.readers.base import Options
from genscale.data.readers.rows import label_columns, momentum_rows
from genscale.errors import InputError

CLASSES = ("QCD", "top")

_TABLE, _MOMENTA, _FLAGS, _SIGNAL = "table/table", "values_block_0", "values_block_1", "is_signal_new"

#: pandas writes the names of the columns as a pickled list. Unpickling runs code; the names can be read without it.
_PICKLED_NAME = re.compile(r"^a?(?:V|S')(\w+)'?$", re.MULTILINE)


class TopLandscapeJets:
    """The jets of one file: a `Layout`."""

    def __init__(self, path: Path, arrays: Mapping[str, Any], options: Options) -> None:
        self.path, self._table = path, arrays[_TABLE]
        self.rows = int(self._table.shape[0])
        momenta, flags = self._names(_MOMENTA), self._names(_FLAGS)
        particles = sum(name.startswith("E_") for name in momenta)
        wanted = [f"{component}_{i}" for i in range(particles) for component in ("E", "PX", "PY", "PZ")]
        missing = [n for n in wanted if n not in momenta] + [n for n in (_SIGNAL,) if n not in flags]
        if not wanted or missing:
            raise InputError(
                f"{path}: {_TABLE} has no column {missing[0] if missing else 'E_0'}; the top-tagging reference has "
                f"E_0, PX_0, PY_0, PZ_0, ... and {_SIGNAL}"
            )
        self._columns = np.array([momenta.index(name) for name in wanted])
        self._signal = flags.index(_SIGNAL)
        labels = (schema.LABEL_PREFIX + name for name in CLASSES)
        self.columns: tuple[str, ...] = schema.in_order((*schema.REQUIRED_COLUMNS, *labels))

    @staticmethod
    def recognises(arrays: Mapping[str, Any]) -> bool:
        """Whether the file has a pandas table of floats and integers."""
        names = arrays[_TABLE].dtype.names if _TABLE in arrays else None
        return names is not None and {_MOMENTA, _FLAGS} <= set(names)

    def read(self, start: int, stop: int) -> ak.Array:
        """Read jets start..stop as rows of the schema."""
        table = self._table[start:stop]
        where = f"{self.path}, from jet {start}"
        particles = table[_MOMENTA][:, self._columns].reshape(len(table), -1, 4).astype(np.float64)
        keep = ~(particles[:, :, 0] == 0)
        energy, px, py, pz = particles[keep].T
        signal = table[_FLAGS][:, self._signal]
        if not np.isin(signal, (0, 1)).all():
            raise InputError(f"{where}: {_SIGNAL} must be 0 or 1")
        labels = label_columns(signal.astype(np.int64), CLASSES)
        return momentum_rows((px, py, pz, energy), keep.sum(axis=1), labels, where)

    def _names(self, block: str) -> list[str]:
        pickled = self._table.attrs.get(f"{block}_kind", b"")
        text = pickled.decode("latin-1") if isinstance(pickled, bytes) else str(pickled)
        return _PICKLED_NAME.findall(text)
