"""Arrays of jets padded to one length, as in the files of JetNet and of most generators.

There are two layouts, recognised by the names of the arrays:

- JetNet (Kansal et al., Zenodo record 6975118): ``particle_features`` [jets, particles, (etarel, phirel, ptrel, mask)]
  and ``jet_features`` [jets, (pt, eta, mass, ...)]; pT is ptrel times that of the jet.
- any other file with one three-dimensional array [jets, particles, (pT in GeV, eta_rel, phi_rel)], in which rows of
  pT zero are padding; if there are several such arrays, the one called ``particles`` is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from genscale.data import schema
from genscale.data.readers.relative import relative_rows
from genscale.errors import InputError

PARTICLES, JETNET_PARTICLES, JETNET_JETS = "particles", "particle_features", "jet_features"

#: Number of jets whose pT decides whether it is in GeV or in fractions of the jet's pT.
_LOOKED_AT = 1000


class PaddedFile:
    """One open file of padded arrays (HDF5 datasets or NumPy arrays): a `Source`."""

    columns: tuple[str, ...] = schema.REQUIRED_COLUMNS

    def __init__(self, path: Path, arrays: Mapping[str, Any], close: Callable[[], None]) -> None:
        self.path, self._arrays, self._close = path, arrays, close
        try:
            self.name = self._find()
            self.rows = int(arrays[self.name].shape[0])
            self._is_jetnet = self.name == JETNET_PARTICLES and arrays[self.name].shape[2] == 4
            if self._is_jetnet:
                self._check_jets()
            elif self.rows:
                self._check_unit()
        except Exception:
            close()
            raise

    def read(self, start: int, stop: int) -> ak.Array:
        """Read jets start..stop as rows of the schema."""
        stop = min(stop, self.rows)
        block = np.asarray(self._arrays[self.name][start:stop])
        where = f"{self.path}, array {self.name}, from jet {start}"
        jet_eta = None
        if self._is_jetnet:
            jets = np.asarray(self._arrays[JETNET_JETS][start:stop], dtype=np.float64)
            eta, phi, fraction, mask = np.moveaxis(block, 2, 0)
            keep = mask > 0.5
            pt, jet_eta = fraction * jets[:, :1], jets[:, 1]
            if not np.isfinite(jets[:, :2]).all():
                raise InputError(f"{self.path}, array {JETNET_JETS}: pt or eta is not finite")
        else:
            pt, eta, phi = np.moveaxis(block[:, :, :3], 2, 0)
            keep = ~(pt == 0)  # not `pt != 0`: NaN is not padding and must be reported
        counts = keep.sum(axis=1)
        return relative_rows(pt[keep], eta[keep], phi[keep], counts, jet_eta, where)

    def close(self) -> None:
        """Close the file."""
        self._close()

    def _find(self) -> str:
        shapes = {name: tuple(array.shape) for name, array in self._arrays.items()}
        listed = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items()) or "nothing"
        cubes = [name for name, shape in shapes.items() if len(shape) == 3]
        for name in (PARTICLES, JETNET_PARTICLES, *(cubes if len(cubes) == 1 else [])):
            if name in cubes:
                if shapes[name][2] < 3:
                    raise InputError(
                        f"{self.path}: array {name} has shape {list(shapes[name])}; the last axis must be "
                        "pT in GeV, eta_rel, phi_rel"
                    )
                return name
        raise InputError(
            f"{self.path}: no array [jets, particles, (pT in GeV, eta_rel, phi_rel)] called {PARTICLES}, nor "
            f"JetNet's {JETNET_PARTICLES} (found {listed})"
        )

    def _check_jets(self) -> None:
        jets = self._arrays.get(JETNET_JETS)
        if jets is None or jets.ndim != 2 or jets.shape[0] != self.rows or jets.shape[1] < 2:
            found = "none" if jets is None else f"shape {list(jets.shape)}"
            raise InputError(
                f"{self.path}: {JETNET_PARTICLES} is relative to the jet, so {JETNET_JETS} "
                f"[{self.rows}, (pt, eta, ...)] is needed (found {found})"
            )

    def _check_unit(self) -> None:
        pt = np.asarray(self._arrays[self.name][:_LOOKED_AT, :, 0], dtype=np.float64)
        total = np.where(pt > 0, pt, 0).sum(axis=1)
        if np.isfinite(total).all() and 0 < total.max() <= 1.01:
            raise InputError(
                f"{self.path}: pT in array {self.name} looks like a fraction of the jet's (no jet sums to more "
                f"than {total.max():.3g}); it must be in GeV"
            )
