"""Rows of the jet schema from massless particles, given by pT and position relative to the jet axis.

Generators of jets write no more than these, in the file formats of `padded` and `parquet`.
"""

from __future__ import annotations

import awkward as ak
import numpy as np

from genscale.data import schema
from genscale.data.columns import Column, to_awkward
from genscale.errors import InputError


def relative_rows(
    pt_gev: np.ndarray,
    eta_rel: np.ndarray,
    phi_rel: np.ndarray,
    counts: np.ndarray,
    jet_eta: np.ndarray | None = None,
    where: str = "jets",
) -> ak.Array:
    """Make rows with the columns of `schema.REQUIRED_COLUMNS`, particles in order of decreasing pT.

    Particles of pT zero are padding and are dropped.

    Parameters
    ----------
    pt_gev : array of float, shape (n_particles,)
        Transverse momenta of the particles of all jets, in GeV.
    eta_rel : array of float, shape (n_particles,)
        Pseudorapidities relative to the jet axis.
    phi_rel : array of float, shape (n_particles,)
        Azimuths relative to the jet axis, in radians.
    counts : array of int, shape (n_jets,)
        Number of particles of each jet.
    jet_eta : array of float, shape (n_jets,), optional
        Pseudorapidities of the jet axes, 0 by default. Their azimuths are set to 0.
    where : str
        File and array, for error messages.

    Returns
    -------
    ak.Array
        The jet columns are computed from the sum of the particles, as in generated stores.

    Raises
    ------
    InputError
        A value is not finite, or a pT is negative.
    """
    jet = np.repeat(np.arange(len(counts)), counts)
    for name, values in (("pT", pt_gev), ("eta_rel", eta_rel), ("phi_rel", phi_rel)):
        _refuse(~np.isfinite(values), jet, f"{where}: {name} is not finite")
    _refuse(pt_gev < 0, jet, f"{where}: pT is negative; the columns must be pT in GeV, eta_rel, phi_rel")
    kept = np.flatnonzero(pt_gev > 0)
    kept = kept[np.lexsort((-pt_gev[kept], jet[kept]))]
    jet = jet[kept]
    pt, eta_rel, phi = (values[kept].astype(np.float64) for values in (pt_gev, eta_rel, phi_rel))
    eta = eta_rel if jet_eta is None else eta_rel + jet_eta[jet]
    px, py, pz, energy = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)
    sum_px, sum_py, sum_pz, sum_energy = (np.bincount(jet, p, len(counts)) for p in (px, py, pz, energy))
    jet_pt = np.hypot(sum_px, sum_py)
    n_real = np.bincount(jet, minlength=len(counts))
    slope = np.divide(sum_pz, jet_pt, out=np.zeros_like(jet_pt), where=jet_pt > 0)
    flat = {
        "part_px": px, "part_py": py, "part_pz": pz, "part_energy": energy, "part_deta": eta_rel, "part_dphi": phi,
    }  # fmt: skip
    offsets = np.concatenate([[0], np.cumsum(n_real)])
    columns = {name: Column(values.astype(np.float32), offsets) for name, values in flat.items()}
    jets = (jet_pt, np.arcsinh(slope), np.arctan2(sum_py, sum_px), sum_energy, n_real)
    columns |= {
        name: Column(values.astype(schema.DTYPES[name]))
        for name, values in zip(schema.JET_KINEMATICS, jets, strict=True)
    }
    return to_awkward(columns, len(counts))


def _refuse(bad: np.ndarray, jet: np.ndarray, complaint: str) -> None:
    if bad.any():
        jets = np.unique(jet[bad])
        raise InputError(f"{complaint} in {len(jets)} jets, first in jet {jets[0]}")
