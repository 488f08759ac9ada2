"""Arrays of jets padded to one length, as most generators write them.

The array has the shape [jets, particles, 3 or more]. Its columns are pT, eta, phi, or eta, phi, pT, told apart by
their signs; or a four-momentum (E, px, py, pz) or (px, py, pz, E), told by E being the length of the others. Rows of
zeros are padding. Angles are relative to the jet axis or absolute, which is told by where the particles lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from genscale.data import schema
from genscale.data.readers.base import Options
from genscale.data.readers.checks import check_momenta, check_radians, far_from_axis
from genscale.data.readers.rows import label_columns, momentum_rows, refuse_impossible, relative_rows
from genscale.errors import InputError

#: The array that is read from a file with several, and the names under which labels are found.
PARTICLES, LABELS, NAMES = "particles", ("labels", "label", "y"), "class_names"

#: Jets that decide on the meaning of the columns.
_LOOKED_AT = 1000


class PaddedJets:
    """The jets of one padded array: a `Layout`."""

    def __init__(self, path: Path, arrays: Mapping[str, Any], options: Options) -> None:
        self.path, self._jet_pt = path, options.jet_pt
        self.name = _find(path, arrays, options.array)
        self._array = arrays[self.name]
        self.rows = int(self._array.shape[0])
        self._labels, self._classes = _labels(path, arrays, self.rows)
        labels = tuple(schema.LABEL_PREFIX + name for name in self._classes)
        self.columns: tuple[str, ...] = schema.in_order((*schema.REQUIRED_COLUMNS, *labels))
        self._energy: int | None = None
        self._order, self._absolute = (0, 1, 2), False
        if self.rows:
            self._look()

    def read(self, start: int, stop: int) -> ak.Array:
        """Read jets start..stop as rows of the schema."""
        block, counts = self._particles(start, stop)
        where = f"{self.path}, array {self.name}, from jet {start}"
        labels = {}
        if self._labels is not None:
            labels = label_columns(self._labels[start:stop], self._classes)
        if self._energy is not None:
            px, py, pz = np.delete(block, self._energy, axis=1).T
            return momentum_rows((px, py, pz, block[:, self._energy]), counts, labels, where)
        pt, eta, phi = (block[:, column] for column in self._order)
        if self._jet_pt is not None:
            pt = pt * self._jet_pt
        if not self._absolute:
            return _with_columns(relative_rows(pt, eta, phi, counts, where=where), labels)
        refuse_impossible({"pT": pt, "eta": eta, "phi": phi}, counts, where)
        momenta = (pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta))
        return momentum_rows(momenta, counts, labels, where)

    def _particles(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows that are not padding, shape (n_particles, 3 or 4), as float64, and their number in each jet."""
        block = np.asarray(self._array[start:stop])[:, :, :4].astype(np.float64)
        # Padding is a pT of zero; NaN is none, and is reported. Of four-momenta the energy stands for pT.
        keep = ~(block[:, :, self._energy if self._energy is not None else self._order[0]] == 0)
        return block[keep], keep.sum(axis=1)

    def _look(self) -> None:
        """Decide on the meaning of the columns, by the first jets that have particles."""
        block = np.asarray(self._array[:_LOOKED_AT])[:, :, :4].astype(np.float64)
        some = block[(block[:, :, :3] != 0).any(axis=2) & np.isfinite(block).all(axis=2)]
        if not len(some):
            return
        self._energy = _energy_column(some)
        if self._energy is not None:
            return
        negative = (some[:, :3] < 0).any(axis=0)
        if not negative[2] and negative[0] and negative[1]:
            self._order = (2, 0, 1)
            if self._jet_pt is None and not (some[:, 2].max() > 1):
                raise InputError(
                    f"{self.path}: array {self.name} looks like JetNet's (eta_rel, phi_rel, pT as a fraction of the "
                    "jet's); give --jet-pt, the pT of the jets in GeV"
                )
        where = f"{self.path}: array {self.name}"
        finite, counts = self._particles(0, _LOOKED_AT)
        pt, eta, phi = (finite[:, column] for column in self._order)
        if not np.isfinite(finite).all() or (pt < 0).any():
            return  # reported with the jet when it is read
        check_radians(phi, where)
        check_momenta(pt * (self._jet_pt or 1), counts, where)
        far = far_from_axis(pt, eta, phi, counts)
        self._absolute = far > 0.5
        if 0.1 < far <= 0.5 and np.count_nonzero(counts) >= 20:
            raise InputError(
                f"{where}: are its angles relative to the jet axis? The particles of {100 * far:.0f} % of the jets do "
                "not lie around it; subtract the direction of each jet, or write absolute angles for all of them"
            )


def _find(path: Path, arrays: Mapping[str, Any], wanted: str | None) -> str:
    shapes = {name: tuple(array.shape) for name, array in arrays.items()}
    listed = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items()) or "nothing"
    if wanted is not None and wanted not in shapes:
        raise InputError(f"{path}: no array {wanted} (found {listed})")
    cubes = [name for name, shape in shapes.items() if len(shape) == 3]
    name = wanted or (PARTICLES if PARTICLES in cubes else cubes[0] if len(cubes) == 1 else None)
    if name is None:
        raise InputError(
            f"{path}: no array [jets, particles, (pT in GeV, eta_rel, phi_rel)] called {PARTICLES}; name one of "
            f"several with --array (found {listed})"
        )
    shape = shapes[name]
    if len(shape) != 3 or shape[2] < 3:
        raise InputError(
            f"{path}: array {name} has shape {list(shape)}; it must be [jets, particles, 3 or more], and the last axis "
            "must be pT in GeV, eta_rel, phi_rel"
        )
    if shape[1] <= 4 < shape[2] and shape[2] > 8:
        raise InputError(
            f"{path}: array {name} has shape {list(shape)}, so that its last axis looks like the particles; it must be "
            "[jets, particles, (pT in GeV, eta_rel, phi_rel)]"
        )
    return name


def _labels(path: Path, arrays: Mapping[str, Any], rows: int) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Return class indices, whole numbers under one of `LABELS`, and names of the classes, strings under `NAMES`."""
    for name in LABELS:
        if name in arrays and tuple(arrays[name].shape) == (rows,) and rows:
            values = np.asarray(arrays[name])
            break
    else:
        return None, ()
    labels = values.astype(np.int64)
    if (labels != values).any() or labels.min() < 0:
        raise InputError(f"{path}: array {name} must hold whole numbers from 0, the classes of the jets")
    classes = tuple(str(number) for number in range(int(labels.max()) + 1))
    if NAMES in arrays:
        given = [n.decode() if isinstance(n, bytes) else str(n) for n in np.asarray(arrays[NAMES]).tolist()]
        if len(given) < len(classes):
            raise InputError(
                f"{path}: array {NAMES} has {len(given)} names, but {name} goes to {labels.max()}"
            )
        classes = tuple(given)
    return labels, classes


def _energy_column(particles: np.ndarray) -> int | None:
    """Return the column of the energy if the four columns are a four-momentum, else None."""
    if particles.shape[1] < 4:
        return None
    for column in (0, 3):
        momentum = np.linalg.norm(np.delete(particles, column, axis=1), axis=1)
        ratio = np.divide(particles[:, column], momentum, out=np.zeros(len(momentum)), where=momentum > 0)
        if (
            np.mean((ratio > 0.99) & (ratio < 2)) > 0.9
            and np.abs(np.delete(particles, column, axis=1)).max() > 7
        ):
            return column
    return None


def _with_columns(rows: ak.Array, columns: Mapping[str, np.ndarray]) -> ak.Array:
    for name, values in columns.items():
        rows = ak.with_field(rows, values, name)
    return rows[list(schema.in_order(rows.fields))]
