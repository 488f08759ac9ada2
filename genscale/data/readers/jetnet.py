"""JetNet's files (Kansal et al., arXiv:2106.11535; Zenodo records 6975117 and 6975118), and files in their layout.

``particle_features`` is [jets, particles, (etarel, phirel, ptrel, mask)]; the mask may be missing. ``jet_features`` is
[jets, (pT in GeV, eta, mass, ...)]; pT is ptrel times that of the jet. The published files have one class each, and are
called after it: g.hdf5, q150.hdf5, ...
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
from genscale.data.readers.rows import label_columns, relative_rows
from genscale.errors import InputError

CLASSES = ("g", "q", "t", "w", "z")

_PARTICLES, _JETS = "particle_features", "jet_features"
_FILE_NAME = re.compile(r"([gqtwz])(30|150)?")


class JetNetJets:
    """The jets of one file: a `Layout`."""

    def __init__(self, path: Path, arrays: Mapping[str, Any], options: Options) -> None:
        self.path, self._jet_pt = path, options.jet_pt
        self._particles: Any = arrays[_PARTICLES]
        self._jets: Any = arrays.get(_JETS)
        self.rows = int(self._particles.shape[0])
        named = _FILE_NAME.fullmatch(path.stem)
        self._label = CLASSES.index(named[1]) if named and options.class_name is None else None
        labels = () if self._label is None else tuple(schema.LABEL_PREFIX + name for name in CLASSES)
        self.columns: tuple[str, ...] = schema.in_order((*schema.REQUIRED_COLUMNS, *labels))
        if self._jet_pt is None and (
            self._jets is None
            or self._jets.ndim != 2
            or self._jets.shape[0] != self.rows
            or self._jets.shape[1] < 2
        ):
            found = "none" if self._jets is None else f"shape {list(self._jets.shape)}"
            raise InputError(
                f"{path}: {_PARTICLES} is relative to the jet, so {_JETS} [{self.rows}, (pt, eta, ...)] or --jet-pt is "
                f"needed (found {found})"
            )

    @staticmethod
    def recognises(arrays: Mapping[str, Any]) -> bool:
        """Whether the arrays have JetNet's names."""
        return _PARTICLES in arrays and arrays[_PARTICLES].ndim == 3 and arrays[_PARTICLES].shape[2] in (3, 4)

    def read(self, start: int, stop: int) -> ak.Array:
        """Read jets start..stop as rows of the schema."""
        block = np.asarray(self._particles[start:stop], dtype=np.float64)
        where = f"{self.path}, array {_PARTICLES}, from jet {start}"
        eta, phi, fraction = np.moveaxis(block[:, :, :3], 2, 0)
        keep = block[:, :, 3] > 0.5 if block.shape[2] == 4 else ~(fraction == 0)
        total = np.where(keep, fraction, 0).sum(axis=1)
        mask = block[:, :, 3] if block.shape[2] == 4 else keep
        if len(total) and (np.median(total) > 2 or not np.isin(mask, (0, 1)).all()):
            raise InputError(
                f"{where}: the columns must be etarel, phirel, ptrel (a fraction of the jet's pT) and, if there is "
                f"one, the mask; the third sums to {np.median(total):.3g} in the median jet, and the fourth goes from "
                f"{mask.min():.3g} to {mask.max():.3g}"
            )
        jet_eta = None
        if self._jet_pt is not None:
            pt = fraction * self._jet_pt
        else:
            jets = np.asarray(self._jets[start:stop], dtype=np.float64)
            if not np.isfinite(jets[:, :2]).all():
                raise InputError(f"{self.path}, array {_JETS}: pt or eta is not finite")
            pt, jet_eta = fraction * jets[:, :1], jets[:, 1]
        rows = relative_rows(pt[keep], eta[keep], phi[keep], keep.sum(axis=1), jet_eta, where)
        if self._label is not None:
            for name, values in label_columns(np.full(len(rows), self._label), CLASSES).items():
                rows = ak.with_field(rows, values, name)
        return rows[list(self.columns)]
