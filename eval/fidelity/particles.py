"""Distances of single-particle spectra, with the jets, not the particles, as the independent units.

The particles of one jet are correlated: errors and floors that treated them as independent would be too small by
about the square root of the multiplicity. Here errors are those of whole jets, and whole jets are split.
"""

from __future__ import annotations

from typing import Final

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from eval.fidelity.distances import Distance, Order, cost_of_sorted, location_scale, transport_potentials
from eval.fidelity.floors import reference_floor
from eval.fidelity.result import Score
from eval.jets.constituents import Constituents

FloatArray = NDArray[np.float64]

#: Name, unit and attribute of each spectrum.
SPECTRA: Final = (
    ("particle_pt", "GeV", "pt"),
    ("particle_eta_rel", "", "eta"),
    ("particle_phi_rel", "", "phi"),
)

#: Least number of jets of either kind: with fewer the asymptotic error is meaningless.
FEWEST_JETS = 40


def score_particles(
    generated: ak.Array | Constituents,
    reference: ak.Array | Constituents,
    p: Order = 1,
    n_repeats: int = 20,
    seed: int = 0,
) -> dict[str, Score]:
    """Wasserstein distance of the spectra of particle pT, eta_rel and phi_rel, all particles of all jets together.

    Parameters
    ----------
    generated : ak.Array or Constituents
        At least FEWEST_JETS jets, see `eval.jets.constituents.Constituents`.
    reference : ak.Array or Constituents
        The same for the reference.
    p : 1 or 2
        Order of the distance.
    n_repeats : int
        Random splits of the reference jets that measure the floor.
    seed : int
        Seed of the splits.

    Returns
    -------
    dict of str to Score
        particle_pt (GeV), particle_eta_rel, particle_phi_rel.

    Raises
    ------
    InputError
        Bad constituents, or too few jets.

    Notes
    -----
    The error is that of `eval.fidelity.distances.sliced_wasserstein`, with the potentials summed over each jet.
    """
    x = generated if isinstance(generated, Constituents) else Constituents(generated, "generated")
    y = reference if isinstance(reference, Constituents) else Constituents(reference, "reference")
    x.require(FEWEST_JETS)
    y.require(FEWEST_JETS)
    scores = {}
    for name, unit, attribute in SPECTRA:
        values_y = getattr(y, attribute)
        centre, scale = location_scale(values_y[:, None])
        flat_x, flat_y = (getattr(x, attribute) - centre) / scale, (values_y - centre) / scale
        factor = float(scale[0])
        cost, phi, psi = transport_potentials(flat_x, flat_y, p)
        value = cost ** (1 / p)
        # d W / d W^p, the step from errors of the cost to errors of the distance.
        to_distance = 1.0 if p == 1 else 0.5 / value if value > 0 else 0.0
        generated, reference_ = (
            factor * to_distance * _error_of_mean(values, jets) for values, jets in ((phi, x), (psi, y))
        )
        error = float(np.hypot(generated, reference_))
        order = np.argsort(flat_y)
        sorted_y, jet_of = flat_y[order].astype(np.float32), y.jet_index[order]

        def of_jets(
            a: NDArray[np.int64],
            _: NDArray[np.int64],
            flat: FloatArray = sorted_y,
            jet_of: NDArray[np.int64] = jet_of,
            factor: float = factor,
        ) -> float:
            chosen = np.zeros(len(y), dtype=bool)
            chosen[a] = True
            in_a = chosen[jet_of]
            return factor * cost_of_sorted(flat[in_a], flat[~in_a], p) ** (1 / p)

        floor = reference_floor(np.arange(len(y)), len(x), of_jets, n_repeats, seed)
        distance = Distance(factor * value, error, error, 0.0, generated, p, 1, len(x), len(y))
        scores[name] = Score(name, unit, distance, floor)
    return scores


def _error_of_mean(values: FloatArray, jets: Constituents) -> float:
    """Standard error of a mean over particles whose independent units are jets."""
    return float(np.sqrt(np.sum(jets.sum(values - values.mean()) ** 2)) / values.size)
