"""Aspen Open Jets (Amram et al., arXiv:2412.10504): jets of the CMS open data of 2016, without labels.

``PFCands`` is [jets, particles, (px, py, pz, E, d0, d0Err, dz, dzErr, charge, PDG code, PUPPI weight)], padded with
zeros; ``jet_kinematics`` is [jets, (pT, eta, phi, soft-drop mass)], and ``jet_tagging`` begins with the number of
particles and tau_1 to tau_4. CMS has displacements in cm. The momenta of the jets are those of particles scaled with
their PUPPI weights; whether the momenta in the file are scaled already is told by which of the two sums is nearer to
the jet's pT.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from genscale.data import schema
from genscale.data.readers.base import Options
from genscale.data.readers.rows import identity_columns, momentum_rows, refuse_impossible
from genscale.errors import InputError

_PARTICLES, _JETS, _TAGGING = "PFCands", "jet_kinematics", "jet_tagging"

_MM_PER_CM = 10.0

#: Jets that decide whether PUPPI weights are applied, and by how much the pT of the median jet may be off.
_LOOKED_AT, _TOLERANCE = 1000, 0.15

#: CMS calls hadrons and photons in the forward calorimeters 1 and 2.
_FORWARD = {1: 130, 2: 22}


class AspenJets:
    """The jets of one file: a `Layout`."""

    def __init__(self, path: Path, arrays: Mapping[str, Any], options: Options) -> None:
        self.path = path
        self._particles, self._jets, self._tagging = arrays[_PARTICLES], arrays[_JETS], arrays.get(_TAGGING)
        self.rows = int(self._particles.shape[0])
        if tuple(self._jets.shape) != (self.rows, 4):
            raise InputError(
                f"{path}: {_JETS} has shape {list(self._jets.shape)}; it must be [{self.rows}, (pT, eta, phi, "
                "soft-drop mass)]"
            )
        substructure = schema.JET_SUBSTRUCTURE[: 5 if self._tagging is not None else 1]
        self.columns: tuple[str, ...] = schema.in_order(
            (*schema.REQUIRED_COLUMNS, *schema.DISPLACEMENTS, *schema.IDENTITY, *substructure)
        )
        self._weighted = self._choose_weights() if self.rows else False

    @staticmethod
    def recognises(arrays: Mapping[str, Any]) -> bool:
        """Whether the arrays have the names of Aspen Open Jets."""
        return (
            {_PARTICLES, _JETS} <= arrays.keys()
            and arrays[_PARTICLES].ndim == 3
            and arrays[_PARTICLES].shape[2] == 11
        )

    def read(self, start: int, stop: int) -> ak.Array:
        """Read jets start..stop as rows of the schema."""
        where = f"{self.path}, array {_PARTICLES}, from jet {start}"
        block = np.asarray(self._particles[start:stop], dtype=np.float64)
        keep = ~(block[:, :, 3] == 0)
        if self._weighted:
            keep &= ~(block[:, :, 10] == 0)
        flat, counts = block[keep], keep.sum(axis=1)
        refuse_impossible({"a column": flat.sum(axis=1)}, counts, where)
        factor = flat[:, 10] if self._weighted else np.ones(len(flat))
        code = flat[:, 9].copy()
        for forward, usual in _FORWARD.items():
            code[np.abs(code) == forward] = usual
        charged = flat[:, 8] != 0
        extra = {
            name: np.where(charged, flat[:, 4 + i] * _MM_PER_CM, 0.0)
            for i, name in enumerate(schema.DISPLACEMENTS)
        }
        extra |= identity_columns(code, where) | {"part_charge": flat[:, 8]}
        extra["jet_sdmass"] = np.asarray(self._jets[start:stop, 3])
        if self._tagging is not None:
            taus = np.asarray(self._tagging[start:stop])[:, 1:5].T
            extra |= dict(zip(schema.JET_SUBSTRUCTURE[1:], taus, strict=True))
        px, py, pz, energy = (flat[:, i] * factor for i in range(4))
        return momentum_rows((px, py, pz, energy), counts, extra, where)

    def _choose_weights(self) -> bool:
        block = np.asarray(self._particles[:_LOOKED_AT], dtype=np.float64)
        wanted = np.asarray(self._jets[:_LOOKED_AT, 0], dtype=np.float64)
        off = []
        for factor in (np.ones_like(block[:, :, 10]), block[:, :, 10]):
            pt = np.hypot((block[:, :, 0] * factor).sum(axis=1), (block[:, :, 1] * factor).sum(axis=1))
            off.append(float(np.median(np.abs(pt / wanted - 1))))
        if not min(off) < _TOLERANCE:
            raise InputError(
                f"{self.path}: the particles of the median jet sum to a pT that differs from that in {_JETS} by "
                f"{100 * off[0]:.0f} % ({100 * off[1]:.0f} % with PUPPI weights); are the columns px, py, pz, E, ...?"
            )
        return off[1] < off[0]
