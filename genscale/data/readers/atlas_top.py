"""ATLAS's open data for top tagging (ATL-PHYS-PUB-2022-039; CERN Open Data records 15013 and 80030).

``fjet_clus_pt``, ``fjet_clus_eta``, ``fjet_clus_phi`` and ``fjet_clus_E`` are [jets, particles], padded with zeros,
momenta in MeV; ``labels`` is 1 for top and 0 for QCD jets. The weights, which make the spectra of both classes equal,
are not kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from genscale.data import schema
from genscale.data.readers.base import Options
from genscale.data.readers.checks import HIGHEST_PT_GEV, check_radians
from genscale.data.readers.rows import label_columns, momentum_rows, refuse_impossible
from genscale.errors import InputError

CLASSES = ("QCD", "top")

_PARTICLES = ("fjet_clus_pt", "fjet_clus_eta", "fjet_clus_phi", "fjet_clus_E")

_MEV_PER_GEV = 1000.0

_LOOKED_AT = 1000


class AtlasTopJets:
    """The jets of one file: a `Layout`."""

    def __init__(self, path: Path, arrays: Mapping[str, Any], options: Options) -> None:
        self.path, self._arrays = path, [arrays[name] for name in _PARTICLES]
        shape = tuple(self._arrays[0].shape)
        for name, array in zip(_PARTICLES, self._arrays, strict=True):
            if array.ndim != 2 or tuple(array.shape) != shape:
                raise InputError(
                    f"{path}: array {name} has shape {list(array.shape)}; it must be [jets, particles]"
                )
        self.rows = int(shape[0])
        self._labels = np.asarray(arrays["labels"]) if "labels" in arrays else None
        if self._labels is not None and (
            self._labels.shape != (self.rows,) or not np.isin(self._labels, (0, 1)).all()
        ):
            raise InputError(
                f"{path}: array labels must have a 1 (top) or a 0 (QCD) for each of {self.rows} jets"
            )
        labels = () if self._labels is None else tuple(schema.LABEL_PREFIX + name for name in CLASSES)
        self.columns: tuple[str, ...] = schema.in_order((*schema.REQUIRED_COLUMNS, *labels))
        # Copies in GeV exist; no jet is ambiguous, because none of 20 TeV is in MeV one of 20 GeV in this data set.
        total = np.asarray(self._arrays[0][:_LOOKED_AT], dtype=np.float64).sum(axis=1)
        self._unit = _MEV_PER_GEV if self.rows and np.median(total) > HIGHEST_PT_GEV else 1.0

    @staticmethod
    def recognises(arrays: Mapping[str, Any]) -> bool:
        """Whether the arrays have ATLAS's names."""
        return set(_PARTICLES) <= arrays.keys()

    def read(self, start: int, stop: int) -> ak.Array:
        """Read jets start..stop as rows of the schema."""
        where = f"{self.path}, from jet {start}"
        columns = [np.asarray(array[start:stop], dtype=np.float64) for array in self._arrays]
        keep = ~(columns[0] == 0)
        counts = keep.sum(axis=1)
        pt, eta, phi, energy = (column[keep] for column in columns)
        refuse_impossible(dict(zip(_PARTICLES, (pt, eta, phi, energy), strict=True)), counts, where)
        check_radians(phi, where)
        pt, energy = pt / self._unit, energy / self._unit
        momenta = (pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), energy)
        labels = {}
        if self._labels is not None:
            labels = label_columns(self._labels[start:stop].astype(np.int64), CLASSES)
        return momentum_rows(momenta, counts, labels, where)
