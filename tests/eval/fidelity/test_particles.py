"""Spectra of single particles: values against scipy, errors against repetitions with correlated jets."""

import awkward as ak
import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from eval.common.errors import InputError
from eval.fidelity.particles import score_particles


def correlated_jets(n_jets, seed, shift=0.0):
    """Twenty particles around a common eta of each jet: hardly more information than one particle."""
    rng = np.random.default_rng(seed)
    eta = shift + rng.normal(0, 0.3, (n_jets, 1)) + rng.normal(0, 0.03, (n_jets, 20))
    pt = np.sort(rng.gamma(2.0, 5.0, (n_jets, 20)))[:, ::-1]
    return ak.from_regular(ak.zip({"pt": pt, "eta_rel": eta, "phi_rel": rng.normal(0, 0.3, (n_jets, 20))}))


def test_value_equals_scipy_in_the_unit_of_the_spectrum():
    x, y = correlated_jets(100, 1), correlated_jets(150, 2, shift=0.1)
    scores = score_particles(x, y, n_repeats=5)
    for name, field in (
        ("particle_pt", "pt"),
        ("particle_eta_rel", "eta_rel"),
        ("particle_phi_rel", "phi_rel"),
    ):
        expected = wasserstein_distance(ak.to_numpy(ak.flatten(x[field])), ak.to_numpy(ak.flatten(y[field])))
        assert scores[name].value == pytest.approx(expected, rel=1e-4)
    assert scores["particle_pt"].unit == "GeV"


def test_error_and_floor_know_that_particles_of_a_jet_are_correlated():
    results = [score_particles(correlated_jets(100, 2 * s, shift=0.2), correlated_jets(200, 2 * s + 1), n_repeats=8)
               for s in range(30)]  # fmt: skip
    eta = [r["particle_eta_rel"] for r in results]
    spread = np.std([entry.value for entry in eta])
    assert np.mean([entry.distance.standard_error for entry in eta]) == pytest.approx(spread, rel=0.3)
    null = [score_particles(correlated_jets(100, 900 + s), correlated_jets(200, 700 + s), n_repeats=8)
            for s in range(20)]  # fmt: skip
    z = [r["particle_eta_rel"].value / r["particle_eta_rel"].floor.mean for r in null]
    assert np.mean(z) == pytest.approx(1.0, abs=0.3)


def test_too_few_jets_are_named():
    with pytest.raises(InputError, match=r"generated has 10 jets.*at least 40 jets"):
        score_particles(correlated_jets(10, 1), correlated_jets(50, 2))
