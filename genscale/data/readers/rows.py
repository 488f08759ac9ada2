"""Rows of the jet schema from flat arrays of particles: relative to the jet axis, or four-momenta."""

from __future__ import annotations

from collections.abc import Mapping

import awkward as ak
import numpy as np

from genscale.data import schema
from genscale.data.columns import Column, to_awkward
from genscale.data.readers.checks import check_momenta, check_radians, sums
from genscale.errors import InputError

#: Charge (e), kind and mass (GeV) of the particles that survive to a detector, by the absolute value of their PDG code.
PARTICLES = {
    11: (-1, "part_isElectron", 0.000511),
    13: (-1, "part_isMuon", 0.10566),
    22: (0, "part_isPhoton", 0.0),
    130: (0, "part_isNeutralHadron", 0.49761),
    211: (1, "part_isChargedHadron", 0.13957),
    310: (0, "part_isNeutralHadron", 0.49761),
    321: (1, "part_isChargedHadron", 0.49368),
    2112: (0, "part_isNeutralHadron", 0.93957),
    2212: (1, "part_isChargedHadron", 0.93827),
}


def relative_rows(
    pt_gev: np.ndarray,
    eta_rel: np.ndarray,
    phi_rel: np.ndarray,
    counts: np.ndarray,
    jet_eta: np.ndarray | None = None,
    where: str = "jets",
) -> ak.Array:
    """Make rows from massless particles relative to the jet axis, in order of decreasing pT.

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
        The columns of `schema.REQUIRED_COLUMNS`. The jet columns are computed from the sum of the particles, as in
        generated stores.

    Raises
    ------
    InputError
        A value is not finite, or a pT is negative.
    """
    refuse_impossible({"pT": pt_gev, "eta_rel": eta_rel, "phi_rel": phi_rel}, counts, where)
    jet = np.repeat(np.arange(len(counts)), counts)
    refuse(pt_gev < 0, counts, f"{where}: pT is negative; the columns must be pT in GeV, eta_rel, phi_rel")
    pt, eta_rel, phi = (values.astype(np.float64) for values in (pt_gev, eta_rel, phi_rel))
    check_radians(phi[pt > 0], where)
    phi = np.where(np.abs(phi) > np.pi, wrapped(phi), phi)
    eta = eta_rel if jet_eta is None else eta_rel + jet_eta[jet]
    momenta = (pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta))
    return _rows(momenta, counts, {"part_deta": eta_rel, "part_dphi": phi})


def momentum_rows(
    momenta: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    counts: np.ndarray,
    extra: Mapping[str, np.ndarray] | None = None,
    where: str = "jets",
) -> ak.Array:
    """Make rows from four-momenta, with angles relative to the axis of their sum, in order of decreasing pT.

    Particles of pT zero are padding and are dropped.

    Parameters
    ----------
    momenta : tuple of 4 arrays of float, shape (n_particles,)
        px, py, pz and energy of the particles of all jets, in GeV.
    counts : array of int, shape (n_jets,)
        Number of particles of each jet.
    extra : mapping of str to array, optional
        Further columns of the schema, of particles or of jets.
    where : str
        File and array, for error messages.

    Returns
    -------
    ak.Array
        The columns of `schema.REQUIRED_COLUMNS` and those of `extra`.

    Raises
    ------
    InputError
        A value is not finite, momenta are not in GeV, or an energy is less than its momentum.
    """
    px, py, pz, energy = (p.astype(np.float64) for p in momenta)
    refuse_impossible(
        dict(zip(("px", "py", "pz", "energy"), (px, py, pz, energy), strict=True)), counts, where
    )
    momentum = np.sqrt(px**2 + py**2 + pz**2)
    # float32 and rounded decimals leave a few permille; a wrong order of the columns leaves half of the particles.
    slow = energy < momentum * (1 - 1e-2)
    if np.mean(slow) > 1e-3 if len(slow) else False:
        refuse(slow, counts, f"{where}: energy is less than the momentum; are the columns in another order?")
    pt = np.hypot(px, py)
    check_momenta(pt, counts, where)
    jet = np.repeat(np.arange(len(counts)), counts)
    total_pt = np.hypot(sums(px, counts), sums(py, counts))
    axis_eta = np.arcsinh(
        np.divide(sums(pz, counts), total_pt, out=np.zeros(len(counts)), where=total_pt > 0)
    )
    axis_phi = np.arctan2(sums(py, counts), sums(px, counts))
    eta = np.arcsinh(np.divide(pz, pt, out=np.zeros_like(pz), where=pt > 0))
    relative = {
        "part_deta": eta - axis_eta[jet],
        "part_dphi": wrapped(np.arctan2(py, px) - axis_phi[jet]),
    }
    return _rows((px, py, pz, energy), counts, {**relative, **(extra or {})})


def identity_columns(pdg_id: np.ndarray, where: str) -> dict[str, np.ndarray]:
    """Return the columns `schema.IDENTITY` of particles with these PDG codes; raises InputError for unknown codes."""
    codes = pdg_id.astype(np.int64)
    absolute = np.abs(codes)
    unknown = set(np.unique(absolute).tolist()) - {0, *PARTICLES}
    if unknown or (codes != pdg_id).any():
        example = min(unknown) if unknown else pdg_id[codes != pdg_id][0]
        raise InputError(f"{where}: {example} is not the PDG code of a particle that reaches a detector")
    columns = {name: np.zeros(len(codes), np.int8) for name in schema.IDENTITY}
    for code, (charge, kind, _) in PARTICLES.items():
        mine = absolute == code
        columns["part_charge"][mine] = charge * np.sign(codes[mine])
        columns[kind][mine] = 1
    return columns


def masses(pdg_id: np.ndarray) -> np.ndarray:
    """Return the masses in GeV of particles with known PDG codes; 0 is padding."""
    absolute = np.abs(pdg_id.astype(np.int64))
    table = np.array([PARTICLES.get(code, (0, "", 0.0))[2] for code in range(max(PARTICLES) + 1)])
    return table[absolute]


def label_columns(labels: np.ndarray, classes: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return one label column for each class, from class indices of shape (n_jets,)."""
    return {schema.LABEL_PREFIX + name: (labels == i).astype(np.int8) for i, name in enumerate(classes)}


def wrapped(angle: np.ndarray) -> np.ndarray:
    """Return angles in radians from -pi to pi."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def refuse_impossible(columns: Mapping[str, np.ndarray], counts: np.ndarray, where: str) -> None:
    """Raise InputError for values that are not finite."""
    for name, values in columns.items():
        refuse(~np.isfinite(values), counts, f"{where}: {name} is not finite")


def refuse(bad: np.ndarray, counts: np.ndarray, complaint: str) -> None:
    """Raise InputError with the number of jets that have bad particles, and the first of them."""
    if bad.any():
        jets = np.unique(np.repeat(np.arange(len(counts)), counts)[bad])
        raise InputError(f"{complaint} in {len(jets)} jets, first in jet {jets[0]}")


def _rows(
    momenta: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    counts: np.ndarray,
    extra: Mapping[str, np.ndarray],
) -> ak.Array:
    """Sort and pack particles, sum them to jets, and add the columns of `extra`, of which angles are among."""
    n_jets = len(counts)
    jet = np.repeat(np.arange(n_jets), counts)
    pt = np.hypot(momenta[0], momenta[1])
    kept = np.flatnonzero(pt > 0)
    kept = kept[np.lexsort((-pt[kept], jet[kept]))]
    jet = jet[kept]
    particles = dict(zip(schema.KINEMATICS[:4], momenta, strict=True))
    particles |= {name: values for name, values in extra.items() if name in schema.PARTICLE_COLUMNS}
    n_real = np.bincount(jet, minlength=n_jets)
    offsets = np.concatenate([[0], np.cumsum(n_real)])
    columns = {
        name: Column(values[kept].astype(schema.DTYPES[name]), offsets) for name, values in particles.items()
    }
    px, py, pz, energy = (np.bincount(jet, p[kept], n_jets) for p in momenta)
    jet_pt = np.hypot(px, py)
    slope = np.divide(pz, jet_pt, out=np.zeros_like(jet_pt), where=jet_pt > 0)
    jets = dict(
        zip(
            schema.JET_KINEMATICS,
            (jet_pt, np.arcsinh(slope), np.arctan2(py, px), energy, n_real),
            strict=True,
        )
    )
    jets |= {name: values for name, values in extra.items() if name not in schema.PARTICLE_COLUMNS}
    columns |= {name: Column(values.astype(schema.dtype_of(name))) for name, values in jets.items()}
    return to_awkward({name: columns[name] for name in schema.in_order(columns)}, n_jets)
