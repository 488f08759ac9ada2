"""Floors against independent samples, and the null test."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from eval.common.errors import InputError
from eval.fidelity.distances import (
    random_directions,
    sliced_wasserstein_value,
    wasserstein_1d,
)
from eval.fidelity.floors import Floor, reference_floor

DIRECTIONS = random_directions(40, 5, seed=0)


def distance(x, y):
    return sliced_wasserstein_value(x, y, DIRECTIONS)


@pytest.mark.parametrize("sizes", [(600, 600), (300, 3000)])
def test_floor_is_that_of_independent_samples(sizes):
    n, m = sizes
    rng = np.random.default_rng(0)
    independent = [distance(rng.normal(size=(n, 5)), rng.normal(size=(m, 5))) for _ in range(60)]
    floors = [reference_floor(rng.normal(size=(m, 5)), n, distance, n_repeats=20, seed=s) for s in range(6)]
    assert np.mean([f.mean for f in floors]) == pytest.approx(np.mean(independent), rel=0.06)
    assert np.mean([f.spread for f in floors]) == pytest.approx(np.std(independent), rel=0.35)


def test_floor_of_gaussians_in_closed_form():
    """The difference of two empirical distributions is Gaussian with variance F (1 - F) (1/n + 1/m)."""
    rng = np.random.default_rng(4)
    floor = reference_floor(rng.normal(size=(6000, 5)), 3000, distance, n_repeats=40)
    width = quad(lambda x: np.sqrt(norm.cdf(x) * norm.sf(x)), -9, 9)[0]
    expected = np.sqrt(2 / np.pi) * np.sqrt(1 / 3000 + 1 / 6000) * width  # about 1.83 / sqrt(n) for n = m
    assert floor.mean == pytest.approx(expected, abs=4 * floor.spread / np.sqrt(40))


def test_correction_recovers_the_true_shift():
    """For order 2 the noise adds in quadrature: sliced W2 of a shift s in d dimensions is |s| / sqrt(d)."""

    directions = random_directions(50, 2, seed=0)

    def second_order(x, y):
        return sliced_wasserstein_value(x, y, directions, p=2)

    values = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(size=(1000, 2)), rng.normal(size=(4000, 2))
        floor = reference_floor(y, 1000, second_order, n_repeats=10, seed=seed)
        values.append(floor.corrected(second_order(x + np.array([0.15, 0.0]), y)))
    assert np.mean(values) == pytest.approx(0.15 / np.sqrt(2), rel=0.1)


def test_jets_needed_resolves_just_that_distance():
    floor = Floor(np.random.default_rng(0).normal(0.05, 0.005, 50), 1000, 1000, 0.7)
    needed = floor.jets_needed(0.02)
    shrink = np.sqrt(1000 / needed)
    value = np.hypot(0.02, floor.mean * shrink)
    assert (value - floor.mean * shrink) / (floor.spread * shrink) == pytest.approx(3.0)
    with pytest.raises(InputError, match="distance is 0"):
        floor.jets_needed(0.0)


def test_jets_needed_are_those_of_two_equal_samples():
    """A floor at 1,000 against 9,000 jets is that of 1,800 against 1,800."""
    values = np.random.default_rng(0).normal(0.05, 0.005, 50)
    uneven, even = Floor(values, 1000, 9000, 0.9), Floor(values, 1800, 1800, 0.7)
    assert uneven.jets_needed(0.02) == pytest.approx(even.jets_needed(0.02))


def test_a_floor_without_spread_hides_nothing():
    floor = Floor(np.zeros(5), 100, 100, 0.7)
    assert floor.significance(0.1) == np.inf
    assert floor.significance(0.0) == 0.0


@pytest.mark.parametrize("n", [15, 20_000])
def test_floor_of_very_unequal_sizes_is_scaled_by_the_parts_it_has(n):
    """Of 400 jets neither 15 / 415 nor 20,000 / 20,400 leaves parts in that ratio: the law of sizes does the rest."""
    rng = np.random.default_rng(1)
    independent = [distance(rng.normal(size=(n, 5)), rng.normal(size=(400, 5))) for _ in range(20)]
    floors = [reference_floor(rng.normal(size=(400, 5)), n, distance, 20, seed) for seed in range(6)]
    assert np.mean([f.mean for f in floors]) == pytest.approx(np.mean(independent), rel=0.3)


def test_two_halves_of_one_sample_are_rarely_told_apart():
    rejected, resolved = [], []
    for seed in range(60):
        rng = np.random.default_rng(1000 + seed)
        x, y = rng.gamma(3.0, size=400), rng.gamma(3.0, size=800)
        floor = reference_floor(
            y[:, None], 400, lambda a, b: wasserstein_1d(a[:, 0], b[:, 0]).value, 39, seed
        )
        value = wasserstein_1d(x, y).value
        rejected.append(floor.p_value(value) <= 0.1)
        resolved.append(floor.significance(value) >= 3)
    # 60 trials at 10 %: 0 to 14 rejections hold all but 2e-3 of the binomial.
    assert 1 <= np.sum(rejected) <= 14
    assert np.sum(resolved) <= 3


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(1000, 1000), (500, 4000)])
def test_null_rejection_rate_over_200_seeds(sizes):
    n, m = sizes
    p_values, resolved = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        sample = rng.normal(size=(n + m, 5)) ** 3  # skewed and heavy, like jet observables
        x, y = sample[:n], sample[n:]
        floor = reference_floor(y, n, distance, n_repeats=59, seed=seed)
        value = distance(x, y)
        p_values.append(floor.p_value(value))
        resolved.append(floor.significance(value) >= 3)
    rate = np.mean(np.array(p_values) <= 0.05)
    assert 0.01 <= rate <= 0.10  # 200 trials at 5 %: three standard deviations
    assert np.mean(resolved) <= 0.03


def test_bad_input_is_named():
    with pytest.raises(InputError, match="n_repeats is 1"):
        reference_floor(np.zeros((10, 1)), 10, distance, n_repeats=1)
    with pytest.raises(InputError, match="a reference of 3 jets cannot be split"):
        reference_floor(np.zeros((3, 1)), 1, distance)
