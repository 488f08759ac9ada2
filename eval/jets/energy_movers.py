"""The energy mover's distance between two jets: the least work that turns one into the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import ot
from numpy.typing import NDArray

from eval.jets.clustering import squared_distance
from eval.jets.energyflow import is_installed

FloatArray = NDArray[np.float64]


def energy_movers_distance(a: FloatArray, b: FloatArray, radius: float = 1.0) -> float:
    """Return the energy mover's distance of two jets in GeV (Komiske, Metodiev and Thaler, arXiv:1902.02346, eq. 1).

    Parameters
    ----------
    a : array of float, shape (n_particles, 3)
        pT in GeV, eta_rel and phi_rel of the particles of one jet.
    b : array of float, shape (n_particles, 3)
        The same of the other jet.
    radius : float
        Distance at which moving pT costs as much as creating it, R in the paper; 1 as in EnergyFlow and JetNet.

    Returns
    -------
    float
        In GeV.
    """
    cost = np.sqrt(squared_distance(a[:, None, 1], a[:, None, 2], b[None, :, 1], b[None, :, 2])) / radius
    supply, demand = a[:, 0], b[:, 0]
    missing = float(supply.sum() - demand.sum())
    # The difference in pT goes to a particle that is one unit of cost away from all others.
    if missing > 0:
        cost, demand = np.pad(cost, ((0, 0), (0, 1)), constant_values=1.0), np.append(demand, missing)
    elif missing < 0:
        cost, supply = np.pad(cost, ((0, 1), (0, 0)), constant_values=1.0), np.append(supply, -missing)
    # The margins agree by construction; checking them takes a third of the time.
    return float(
        ot.emd2(
            np.ascontiguousarray(supply),
            np.ascontiguousarray(demand),
            cost,
            center_dual=False,
            check_marginals=False,
        )
    )


def energy_movers_distances(
    a: Sequence[FloatArray], b: Sequence[FloatArray], radius: float = 1.0
) -> FloatArray:
    """Return the energy mover's distances of all pairs of jets, by EnergyFlow where it is installed, else by POT.

    Both agree to rounding; EnergyFlow takes about six tenths of the time.

    Parameters
    ----------
    a : sequence of array of float, shape (n_particles, 3)
        Jets, as for `energy_movers_distance`.
    b : sequence of array of float, shape (n_particles, 3)
        Jets.
    radius : float
        As for `energy_movers_distance`.

    Returns
    -------
    array of float, shape (len(a), len(b))
        In GeV.
    """
    if is_installed():
        from energyflow.emd import emd

        return np.array([[emd(one, other, R=radius, norm=False) for other in b] for one in a], dtype=float)
    return np.array([[energy_movers_distance(one, other, radius) for other in b] for one in a])
