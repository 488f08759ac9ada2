"""Two halves of one sample are rejected at the nominal rate, by every number of an evaluation."""

import awkward as ak
import numpy as np
import pytest

from eval.fidelity.particles import score_particles
from eval.fidelity.published import score_frechet, score_kernel
from eval.fidelity.two_sample import classifier_two_sample_test

REPEATS = 39  # splits behind a floor: p-values are multiples of 1/40


def table(values):
    return {name: values[:, k] for k, name in enumerate("abc")}


def jets_of(values):
    """Seven particles a jet around a direction that is the jet's own."""
    rng = np.random.default_rng(int(abs(values[0, 0]) * 1e6))
    n = len(values)
    angles = 0.1 * values[:, None, :2] + rng.normal(0, 0.1, (n, 7, 2))
    pt = np.exp(values[:, 2:3]) * rng.gamma(2.0, 5.0, (n, 7))
    return ak.from_regular(ak.zip({"pt": pt, "eta_rel": angles[..., 0], "phi_rel": angles[..., 1]}))


def frechet(x, y, seed):
    return score_frechet(x, y, REPEATS, seed).p_value


def kernel(x, y, seed):
    return score_kernel(x, y, REPEATS, seed).p_value


def particles(x, y, seed):
    return score_particles(jets_of(x), jets_of(y), n_repeats=REPEATS, seed=seed)["particle_eta_rel"].p_value


def trees(x, y, seed):
    return classifier_two_sample_test(table(x), table(y), n_trees=30, seed=seed).p_value


def p_values(measure, n_seeds, sizes):
    found = []
    for seed in range(n_seeds):
        values = np.random.default_rng(seed).normal(size=(sum(sizes), 3))
        values[:, 1] = np.exp(0.7 * values[:, 1])  # skewed, with a tail, as observables are
        found.append(measure(values[: sizes[0]], values[sizes[0] :], seed))
    return np.array(found)


@pytest.mark.parametrize(
    ("measure", "sizes", "n_seeds"),
    [(kernel, (1000, 1500), 12), (particles, (100, 300), 40), (trees, (400, 600), 20)],
)  # fmt: skip
def test_null_rejection_rate(measure, sizes, n_seeds):
    p = p_values(measure, n_seeds, sizes)
    # At 20 %: the central 99.9 % of the binomial.
    assert np.sum(p <= 0.2) <= {40: 17, 20: 11, 12: 8}[n_seeds]
    assert np.sum(p > 0.5) >= 1


@pytest.mark.parametrize("sizes", [(1000, 30_000), (20_000, 1000)])
def test_kernel_distance_of_very_unequal_samples_keeps_to_its_floor(sizes):
    """Its floor splits twenty groups of jets, which cannot be in the ratio of the samples."""
    rng = np.random.default_rng(0)
    scores = [
        score_kernel(rng.normal(size=(sizes[0], 3)), rng.normal(size=(sizes[1], 3)), seed=seed)
        for seed in range(20)
    ]
    assert 0.5 < np.std([s.value for s in scores]) / np.mean([s.floor.spread for s in scores]) < 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("measure", "sizes"),
    [
        (frechet, (1000, 1000)), (kernel, (1000, 1000)), (kernel, (1000, 3000)), (particles, (200, 200)),
        (trees, (400, 400)),
    ],
)  # fmt: skip
def test_null_rejection_rate_over_200_seeds(measure, sizes):
    p = p_values(measure, 200, sizes)
    print(measure.__name__, sizes, [float(np.mean(p <= level)) for level in (0.05, 0.1, 0.2, 0.5)])
    # 200 trials at 5 %: three standard deviations.
    assert 0.01 <= np.mean(p <= 0.05) <= 0.10
    assert np.mean(p <= 0.5) <= 0.62
