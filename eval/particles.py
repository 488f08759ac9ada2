"""Distances of single-particle spectra, with the jets, not the particles, as the independent units.

The particles of one jet are correlated: errors and floors that treated them as independent would be too small by
about the square root of the multiplicity. Here whole jets are left out and whole jets are split.
"""

from __future__ import annotations

from typing import Final

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from eval.constituents import Constituents
from eval.distances import Distance, Order, location_scale, sliced_wasserstein_value
from eval.fidelity import Score
from eval.floors import reference_floor

FloatArray = NDArray[np.float64]

#: Name, unit and attribute of each spectrum.
SPECTRA: Final = (
    ("particle_pt", "GeV", "pt"),
    ("particle_eta_rel", "", "eta"),
    ("particle_phi_rel", "", "phi"),
)

#: Groups of jets that are left out in turn for the standard error.
_GROUPS = 20


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
    generated, reference : jets, see :class:`eval.constituents.Constituents`; at least 40 each.
    p : order of the distance.
    n_repeats : random splits of the reference jets that measure the floor.
    seed : of the splits and of the groups of the jackknife.

    Returns
    -------
    dict
        particle_pt (GeV), particle_eta_rel, particle_phi_rel: scores as in :func:`eval.fidelity.score`, whose result
        takes them by ``dataclasses.replace(result, observables=result.observables | particles)``.

    Raises
    ------
    InputError
        For bad constituents or too few jets.
    """
    x = generated if isinstance(generated, Constituents) else Constituents(generated, "generated")
    y = reference if isinstance(reference, Constituents) else Constituents(reference, "reference")
    x.require(2 * _GROUPS)
    y.require(2 * _GROUPS)
    rng = np.random.default_rng(seed)
    group_x, group_y = (rng.permutation(len(jets)) % _GROUPS for jets in (x, y))
    scores = {}
    for name, unit, attribute in SPECTRA:
        values_y = getattr(y, attribute)
        centre, scale = location_scale(values_y[:, None])
        flat_x, flat_y = (getattr(x, attribute) - centre) / scale, (values_y - centre) / scale
        factor = float(scale[0])

        def distance(a: FloatArray, b: FloatArray, factor: float = factor) -> float:
            return factor * sliced_wasserstein_value(a[:, None], b[:, None], np.ones((1, 1)), p)

        left_out = [
            [distance(flat_x[group_x[x.jet_index] != g], flat_y) for g in range(_GROUPS)],
            [distance(flat_x, flat_y[group_y[y.jet_index] != g]) for g in range(_GROUPS)],
        ]
        error = float(np.sqrt((_GROUPS - 1) * sum(np.var(values) for values in left_out)))

        def of_jets(a: FloatArray, b: FloatArray, flat: FloatArray = flat_y) -> float:
            in_a, in_b = (np.isin(np.arange(len(y)), part)[y.jet_index] for part in (a, b))
            return distance(flat[in_a], flat[in_b])

        floor = reference_floor(np.arange(len(y)), len(x), of_jets, n_repeats, seed)
        value = distance(flat_x, flat_y)
        scores[name] = Score(name, unit, Distance(value, error, error, 0.0, p, 1, len(x), len(y)), floor)
    return scores
