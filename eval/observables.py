"""The one registry of jet observables: name, unit, formula, source, range and how to compute it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from eval.constituents import Constituents, invariant_mass
from eval.errors import InputError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Observable:
    """One number per jet.

    Attributes
    ----------
    name : key in dictionaries, JSON and CSV.
    label : LaTeX for the axis of a figure, without unit.
    unit : "GeV", or "" for a pure number.
    formula : definition in words and symbols.
    source : paper that defines it.
    range : lowest and highest possible value; a generated jet outside is impossible, not merely rare.
    compute : from checked constituents to (J,) values.
    """

    name: str
    label: str
    unit: str
    formula: str
    source: str
    range: tuple[float, float]
    compute: Callable[[Constituents], FloatArray]

    @property
    def axis_label(self) -> str:
        """Label with the unit in brackets."""
        return f"{self.label} [{self.unit}]" if self.unit else self.label


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Quotient, 0 where the denominator is 0: the defined value for jets with too few particles."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def _tau(n: int) -> Observable:
    return Observable(
        f"tau{n}",
        rf"$\tau_{n}$",
        "",
        f"sum_i pT_i min(dR_i to {n} winner-take-all kT axes) / (0.8 sum_i pT_i); 0 for up to {n} particles",
        "arXiv:1011.2268, axes arXiv:1310.7584",
        (0.0, np.inf),
        lambda jets: jets.n_subjettiness[:, n - 1],
    )


def _tau_ratio(n: int) -> Observable:
    return Observable(
        f"tau{n}{n - 1}",
        rf"$\tau_{{{n}{n - 1}}}$",
        "",
        f"tau{n} / tau{n - 1}; 0 where tau{n - 1} is 0, that is for up to {n - 1} particles",
        "arXiv:1011.2268",
        (0.0, np.inf),
        lambda jets: ratio(jets.n_subjettiness[:, n - 1], jets.n_subjettiness[:, n - 2]),
    )


_ALL: Final = (
    Observable(
        "jet_pt",
        r"jet $p_\mathrm{T}$",
        "GeV",
        "transverse momentum of the sum of the constituents' four-momenta",
        "",
        (0.0, np.inf),
        lambda jets: np.hypot(jets.jet_momenta[:, 0], jets.jet_momenta[:, 1]),
    ),
    Observable(
        "jet_mass",
        "jet mass",
        "GeV",
        "invariant mass of the sum of the constituents' four-momenta",
        "",
        (0.0, np.inf),
        lambda jets: invariant_mass(jets.jet_momenta),
    ),
    Observable(
        "softdrop_mass",
        "soft-drop mass",
        "GeV",
        "invariant mass after soft drop with z_cut = 0.1, beta = 0 on the Cambridge/Aachen tree",
        "arXiv:1402.2657",
        (0.0, np.inf),
        lambda jets: invariant_mass(jets.soft_drop_momenta),
    ),
    Observable(
        "multiplicity",
        "constituents",
        "",
        "number of constituents",
        "",
        (0.0, np.inf),
        lambda jets: jets.counts.astype(np.float64),
    ),
    *(_tau(n) for n in (1, 2, 3, 4)),
    *(_tau_ratio(n) for n in (2, 3, 4)),
)

#: Every observable by name.
REGISTRY: Final[dict[str, Observable]] = {observable.name: observable for observable in _ALL}

#: The five that the sliced Wasserstein distance uses unless told otherwise: our choice, since Amram et al.
#: (arXiv:2605.28940) name five physical quantities but not which.
DEFAULT_FIVE: Final = ("jet_pt", "jet_mass", "tau21", "tau32", "multiplicity")


def compute_observables(
    jets: ak.Array | Constituents, names: Iterable[str] = DEFAULT_FIVE, sample: str = "jets"
) -> dict[str, FloatArray]:
    """Observables of every jet.

    Parameters
    ----------
    jets : J * var * {pt, eta_rel, phi_rel}, see :class:`eval.constituents.Constituents`.
    names : keys of :data:`REGISTRY`.
    sample : what messages call the jets.

    Returns
    -------
    dict
        Each name with its (J,) values, in the units of the registry. An empty jet has 0 everywhere.

    Raises
    ------
    InputError
        For an unknown name or bad constituents.
    """
    names = tuple(names)
    for name in names:
        if name not in REGISTRY:
            raise InputError(f"observable {name} is unknown; known: {', '.join(REGISTRY)}")
    constituents = jets if isinstance(jets, Constituents) else Constituents(jets, sample)
    return {name: REGISTRY[name].compute(constituents) for name in names}
