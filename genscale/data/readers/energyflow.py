"""EnergyFlow's quark and gluon jets (Komiske, Metodiev and Thaler, arXiv:1810.05165; Zenodo records 3164691, 3066475).

``X`` is [jets, particles, (pT in GeV, rapidity, phi, PDG code)], padded with zeros and in no order, with absolute
angles; ``y`` is 1 for quarks and 0 for gluons.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from genscale.data import schema
from genscale.data.readers.base import Options
from genscale.data.readers.checks import check_radians
from genscale.data.readers.rows import (
    identity_columns,
    label_columns,
    masses,
    momentum_rows,
    refuse_impossible,
)
from genscale.errors import InputError

CLASSES = ("gluon", "quark")


class EnergyFlowJets:
    """The jets of one file: a `Layout`."""

    def __init__(self, path: Path, arrays: Mapping[str, Any], options: Options) -> None:
        self.path, self._x, self._y = path, arrays["X"], np.asarray(arrays["y"])
        self.rows = int(self._x.shape[0])
        if self._y.shape != (self.rows,) or not np.isin(self._y, (0, 1)).all():
            raise InputError(
                f"{path}: array y must have a 1 (quark) or a 0 (gluon) for each of {self.rows} jets"
            )
        labels = (schema.LABEL_PREFIX + name for name in CLASSES)
        self.columns: tuple[str, ...] = schema.in_order((*schema.REQUIRED_COLUMNS, *schema.IDENTITY, *labels))

    @staticmethod
    def recognises(arrays: Mapping[str, Any]) -> bool:
        """Whether the arrays have EnergyFlow's names."""
        return {"X", "y"} <= arrays.keys() and arrays["X"].ndim == 3 and arrays["X"].shape[2] == 4

    def read(self, start: int, stop: int) -> ak.Array:
        """Read jets start..stop as rows of the schema."""
        block = np.asarray(self._x[start:stop], dtype=np.float64)
        where = (
            f"{self.path}, array X, from jet {start} (read as EnergyFlow's pT, rapidity, phi, PDG code; --array X "
            "reads any other padded array)"
        )
        keep = ~(block[:, :, 0] == 0)
        counts = keep.sum(axis=1)
        pt, rapidity, phi, code = block[keep].T
        refuse_impossible({"pT": pt, "rapidity": rapidity, "phi": phi, "PDG code": code}, counts, where)
        identity = identity_columns(code, where)
        check_radians(phi, where)
        transverse = np.hypot(pt, masses(code))
        momenta = (
            pt * np.cos(phi), pt * np.sin(phi), transverse * np.sinh(rapidity), transverse * np.cosh(rapidity),
        )  # fmt: skip
        labels = label_columns(self._y[start:stop].astype(np.int64), CLASSES)
        return momentum_rows(momenta, counts, {**identity, **labels}, where)
