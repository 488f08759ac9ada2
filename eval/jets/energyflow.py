"""EnergyFlow (Komiske, Metodiev and Thaler), an optional package: energy flow polynomials of any degree.

Polynomials of up to four edges are computed by `eval.jets.correlators`, which needs no package; of higher degree there
are too many to be written by hand. EnergyFlow finds for each graph the order of sums that costs least.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.common.errors import InputError
from eval.jets.clustering import kinematics
from eval.jets.constituents import Constituents

FloatArray = NDArray[np.float64]

#: Polynomials of up to this degree are those of `eval.jets.correlators`.
OWN_DEGREE = 4


def is_installed() -> bool:
    """Whether EnergyFlow can be imported."""
    try:
        import energyflow  # noqa: F401
    except ImportError:
        return False
    return True


def flow_names(selection: str) -> tuple[str, ...]:
    """Return the names of the connected polynomials of a selection that have more than `OWN_DEGREE` edges.

    Parameters
    ----------
    selection : str
        Conditions of EnergyFlow, separated by commas: ``d<=6`` for up to six edges, ``d<=6,n<=3`` for up to three
        vertices as well.

    Returns
    -------
    tuple of str
        ``efp_n_d_k`` for the k-th graph with n vertices and d edges, in EnergyFlow's order.

    Raises
    ------
    InputError
        EnergyFlow is not installed, the selection is not one of its, or nothing is selected.
    """
    return tuple(f"efp_{n}_{d}_{k}" for n, d, k in _polynomials(selection).specs[:, [0, 2, 4]])


def flow_polynomials(jets: Constituents, selection: str) -> dict[str, FloatArray]:
    """Compute the polynomials of a selection: measure "hadr", beta = 1, z = pT_i / sum pT_i.

    Parameters
    ----------
    jets : Constituents
        J jets.
    selection : str
        As for `flow_names`.

    Returns
    -------
    dict of str to array of float, shape (J,)
        By the names of `flow_names`; 0 for empty jets.

    Raises
    ------
    InputError
        As `flow_names`.
    """
    names, polynomials = flow_names(selection), _polynomials(selection)
    coordinates = np.stack(kinematics(jets.momenta), axis=1)  # pT, rapidity, phi
    filled = np.flatnonzero(jets.counts)
    parts = np.split(coordinates, np.cumsum(jets.counts)[:-1])
    values = np.zeros((len(jets), len(names)))
    if filled.size:
        values[filled] = polynomials.batch_compute([parts[jet] for jet in filled], n_jobs=1)
    return dict(zip(names, values.T, strict=True))


@cache
def _polynomials(selection: str) -> Any:
    try:
        import energyflow
    except ImportError as error:
        raise InputError(
            f"flow polynomials {selection}: needs EnergyFlow, which cannot be imported ({error}); "
            "docs/fidelity.md says how to install it"
        ) from error
    conditions = [condition.strip() for condition in selection.split(",")]
    settings = {"measure": "hadr", "beta": 1, "normed": True, "coords": "ptyphim"}
    try:
        found = energyflow.EFPSet(*conditions, "p==1", f"d>{OWN_DEGREE}", **settings)
        if found.count():
            return found
    except Exception as error:  # of many kinds, for a text that it cannot parse
        raise InputError(
            f"flow polynomials {selection!r}: not a selection of EnergyFlow ({error}); d<=6 selects those of up to "
            "six edges"
        ) from error
    raise InputError(
        f"flow polynomials {selection!r}: selects none of more than {OWN_DEGREE} edges; the others are measured "
        "anyway, and EnergyFlow has none of more than 10"
    )
