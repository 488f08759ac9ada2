"""The registry of jet observables: name, unit, formula, source, range and function."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from eval.common.errors import InputError
from eval.jets.constituents import Constituents, invariant_mass
from eval.jets.correlators import FLOW_GRAPHS, graph_name

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Observable:
    """A quantity with one value per jet.

    Attributes
    ----------
    name : str
        Key in dictionaries, JSON and CSV.
    label : str
        LaTeX for the axis of a figure, without unit.
    unit : str
        "GeV", or "" for a pure number.
    formula : str
        Definition in words and symbols.
    source : str
        Paper that defines the observable.
    range : tuple of float
        Lowest and highest possible value; no jet can lie outside.
    compute : callable
        Function from checked constituents to the values, shape (J,).
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
        """The label with the unit in brackets."""
        return f"{self.label} [{self.unit}]" if self.unit else self.label


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Return the quotient, or 0 where the denominator is 0, which is the convention for jets of too few particles."""
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


def _correlator(n: int) -> Observable:
    return Observable(
        f"ecf{n}",
        rf"$e_{n}$",
        "",
        f"{n}-point energy correlator, beta = 1, normalised to the scalar sum of pT",
        "arXiv:1305.0007",
        (0.0, np.inf),
        lambda jets: jets.energy_correlators[:, n - 2],
    )


def _fraction(rank: int, word: str) -> Observable:
    return Observable(
        f"{word}_fraction",
        rf"$z_{rank}$",
        "",
        f"pT of particle {rank}, from the hardest, by sum_i pT_i; 0 where there is none",
        "",
        (0.0, 1.0),
        lambda jets: ratio(jets.hardest_pt[:, rank - 1], jets.scalar_pt),
    )


def _flow_polynomial(k: int) -> Observable:
    edges = ", ".join(f"{i}-{j}" for i, j in FLOW_GRAPHS[k])
    return Observable(
        graph_name(FLOW_GRAPHS[k]),
        f"EFP({edges})",
        "",
        f"energy flow polynomial with edges {edges}; z = pT_i / sum_i pT_i, theta = dR, beta = 1",
        "arXiv:1712.07124",
        (0.0, np.inf),
        lambda jets: jets.flow_polynomials[:, k],
    )


def _jet_charge(jets: Constituents) -> FloatArray:
    if jets.charge is None:
        raise InputError(f"{jets.name}: jet_charge needs the field charge, which these jets do not have")
    return ratio(jets.sum(jets.charge * np.sqrt(jets.pt)), np.sqrt(jets.scalar_pt))


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
    Observable(
        "c2",
        r"$C_2$",
        "",
        "e_3 / e_2^2, energy correlators with beta = 1; 0 for up to 2 particles",
        "arXiv:1305.0007",
        (0.0, np.inf),
        lambda jets: ratio(jets.energy_correlators[:, 1], jets.energy_correlators[:, 0] ** 2),
    ),
    Observable(
        "d2",
        r"$D_2$",
        "",
        "e_3 / e_2^3, energy correlators with beta = 1; 0 for up to 2 particles",
        "arXiv:1409.6298",
        (0.0, np.inf),
        lambda jets: ratio(jets.energy_correlators[:, 1], jets.energy_correlators[:, 0] ** 3),
    ),
    *(_correlator(n) for n in (2, 3)),
    Observable(
        "ptd",
        r"$p_\mathrm{T}^D$",
        "",
        "sqrt(sum_i pT_i^2) / sum_i pT_i: 1 for a single particle",
        "arXiv:1212.0208",
        (0.0, 1.0),
        lambda jets: ratio(np.sqrt(jets.sum(jets.pt**2)), jets.scalar_pt),
    ),
    *(_fraction(rank, word) for rank, word in ((1, "leading"), (2, "second"), (3, "third"))),
    Observable(
        "girth",
        "girth",
        "",
        "sum_i pT_i sqrt(eta_rel_i^2 + phi_rel_i^2) / sum_i pT_i, about the nominal jet axis",
        "arXiv:1106.3076",
        (0.0, np.inf),
        lambda jets: ratio(jets.sum(jets.pt * np.hypot(jets.eta, jets.phi)), jets.scalar_pt),
    ),
    Observable(
        "jet_charge",
        "jet charge",
        "e",
        "sum_i q_i pT_i^0.5 / (sum_i pT_i)^0.5; needs the field charge",
        "arXiv:1209.2421",
        (-np.inf, np.inf),
        _jet_charge,
    ),
    *(_flow_polynomial(k) for k in range(len(FLOW_GRAPHS))),
)

#: Every observable by name.
REGISTRY: Final[dict[str, Observable]] = {observable.name: observable for observable in _ALL}

#: The default observables of the sliced Wasserstein distance. Amram et al. (arXiv:2605.28940) use five physical
#: quantities but do not say which; this is the project's choice.
DEFAULT_FIVE: Final = ("jet_pt", "jet_mass", "tau21", "tau32", "multiplicity")


def compute_observables(
    jets: ak.Array | Constituents, names: Iterable[str] = DEFAULT_FIVE, sample: str = "jets"
) -> dict[str, FloatArray]:
    """Compute observables of every jet.

    Parameters
    ----------
    jets : ak.Array or Constituents
        J lists of records pt, eta_rel, phi_rel; see `eval.jets.constituents.Constituents`.
    names : iterable of str
        Keys of `REGISTRY`.
    sample : str
        Name of the sample in error messages.

    Returns
    -------
    dict of str to array of float, shape (J,)
        Values in the units of the registry; all are 0 for an empty jet.

    Raises
    ------
    InputError
        A name is unknown, or the constituents are invalid.
    """
    names = tuple(names)
    for name in names:
        if name not in REGISTRY:
            raise InputError(f"observable {name} is unknown; known: {', '.join(REGISTRY)}")
    constituents = jets if isinstance(jets, Constituents) else Constituents(jets, sample)
    return {name: REGISTRY[name].compute(constituents) for name in names}
