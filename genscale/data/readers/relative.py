"""Rows of the jet schema from massless particles by pT and position relative to the jet axis.

That is all that generators of jets write, whatever the container: see `padded` and `parquet`.
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
    """Rows with the columns of `schema.REQUIRED_COLUMNS`, particles by falling pT.

    Parameters
    ----------
    pt_gev, eta_rel, phi_rel
        Flat, [n_particles].
    counts
        Particles of each jet, [n_jets].
    jet_eta
        Pseudorapidity of the jet axes, [n_jets]; 0 if None. Their azimuth is taken as 0.
    where
        File and array, for messages.

    Returns
    -------
    ak.Array
        Jet columns are those of the particles' sum, as in generated stores.

    Raises
    ------
    InputError
        For values that are not finite or a pT below zero; particles of pT zero are padding and dropped.
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
