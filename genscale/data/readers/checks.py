"""Typical mistakes of files of jets, each recognised by what no jet of a collider can have."""

from __future__ import annotations

import awkward as ak
import numpy as np

from genscale.errors import InputError

#: No collider that is built or planned makes jets of this pT; those of a few GeV, written in MeV, have about this much.
HIGHEST_PT_GEV = 20_000.0

#: Sums of fractions of the jet's pT are at most one; no jet in GeV is as soft as this.
LOWEST_PT_GEV = 1.01

#: The particles of a jet balance about its axis: their mean angle, weighted with pT, is a small part of the radius.
_FAR_FROM_AXIS = 0.4


def check_units(jets: ak.Array, where: str) -> None:
    """Refuse jets whose momenta or angles are in other units than those of the schema.

    Every way in passes here: conversion, and evaluation of files.

    Parameters
    ----------
    jets : ak.Array
        Rows of the schema.
    where : str
        Name of the rows in error messages.

    Raises
    ------
    InputError
        The median jet has a pT that only another unit than GeV can explain, angles are in degrees, or angles are not
        relative to the jet axis.
    """
    counts = ak.to_numpy(ak.num(jets["part_px"]))
    flat = {
        name: ak.to_numpy(ak.flatten(jets[f"part_{name}"])).astype(np.float64)
        for name in ("px", "py", "deta", "dphi")
    }
    pt = np.hypot(flat["px"], flat["py"])
    check_momenta(pt, counts, where)
    check_radians(flat["dphi"], where)
    far = far_from_axis(pt, flat["deta"], flat["dphi"], counts)
    if far > 0.5:
        raise InputError(
            f"{where}: angles look absolute (the particles of {100 * far:.0f} % of the jets lie around another point "
            "than the axis); they must be relative to the jet axis"
        )


def check_momenta(pt: np.ndarray, counts: np.ndarray, where: str) -> None:
    """Refuse pT, shape (n_particles,), that is not in GeV; `counts` are the numbers of particles of the jets."""
    total = sums(pt, counts)[counts > 0]
    if not len(total) or not np.isfinite(total).all():
        return
    median = float(np.median(total))
    if median > HIGHEST_PT_GEV:
        raise InputError(f"{where}: pT looks like MeV (the median jet has {median:.3g}); it must be in GeV")
    if total.max() <= LOWEST_PT_GEV:
        raise InputError(
            f"{where}: pT looks like a fraction of the jet's (no jet sums to more than {total.max():.3g}); it must be "
            "in GeV, or give --jet-pt"
        )


def check_radians(phi: np.ndarray, where: str) -> None:
    """Refuse azimuths, shape (n_particles,), in degrees."""
    if len(phi) and np.mean(np.abs(phi) > 2 * np.pi + 1e-3) > 0.01:
        raise InputError(
            f"{where}: azimuths up to {np.abs(phi).max():.3g} look like degrees; they must be in radians"
        )


def far_from_axis(pt: np.ndarray, eta: np.ndarray, phi: np.ndarray, counts: np.ndarray) -> float:
    """Return the share of the jets whose particles do not lie around (0, 0), so whose angles are absolute.

    Parameters
    ----------
    pt : array of float, shape (n_particles,)
        In any unit.
    eta : array of float, shape (n_particles,)
    phi : array of float, shape (n_particles,)
        In radians.
    counts : array of int, shape (n_jets,)
        Number of particles of each jet.

    Returns
    -------
    float
        0 if no jet has particles.
    """
    total = sums(pt, counts)
    some = total > 0
    if not some.any():
        return 0.0
    # phi by its components, so that a jet at phi = pi does not look like one at 0
    mean_eta = sums(pt * eta, counts)[some] / total[some]
    mean_phi = np.arctan2(sums(pt * np.sin(phi), counts)[some], sums(pt * np.cos(phi), counts)[some])
    return float(np.mean(np.hypot(mean_eta, mean_phi) > _FAR_FROM_AXIS))


def sums(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the sum of values, shape (n_particles,), over each jet, shape (n_jets,)."""
    return np.bincount(np.repeat(np.arange(len(counts)), counts), values, len(counts))
