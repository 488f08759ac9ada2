"""Wasserstein distances against POT, scipy, closed forms and repeated experiments."""

import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from eval.common.errors import InputError
from eval.fidelity.distances import (
    random_directions,
    sliced_wasserstein,
    sliced_wasserstein_value,
    wasserstein_1d,
)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("sizes", [(4000, 4000), (3001, 1234)])
@pytest.mark.parametrize("weighted", [False, True])
def test_sliced_equals_pot(p, sizes, weighted):
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(sizes[0], 5)), rng.gamma(2.0, size=(sizes[1], 5))
    weights = [rng.random(n) for n in sizes] if weighted else [None, None]
    theta = random_directions(50, 5, seed=1)
    ours = sliced_wasserstein(
        x, y, p=p, directions=theta, standardise=False, x_weights=weights[0], y_weights=weights[1]
    )
    if not weighted:
        assert sliced_wasserstein_value(x, y, theta, p) == pytest.approx(ours.value, rel=1e-6)
    normalised = [None if w is None else w / w.sum() for w in weights]
    expected = ot.sliced_wasserstein_distance(x, y, *normalised, projections=theta.T, p=p)
    assert ours.value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("sizes", [(500, 500), (700, 333)])
def test_one_dimension_equals_scipy(sizes):
    rng = np.random.default_rng(0)
    x, y = rng.normal(500, 80, sizes[0]), rng.normal(510, 90, sizes[1])
    wx, wy = rng.random(sizes[0]), rng.random(sizes[1])
    assert wasserstein_1d(x, y).value == pytest.approx(wasserstein_distance(x, y), rel=1e-5)
    weighted = wasserstein_1d(x, y, x_weights=wx, y_weights=wy).value
    assert weighted == pytest.approx(wasserstein_distance(x, y, wx, wy), rel=1e-5)


@pytest.mark.parametrize("p", [1, 2])
def test_shifted_cloud_in_closed_form(p):
    """Along theta a cloud moved by s is |s . theta| away: |s| E|u_1| for p = 1, |s| / sqrt(d) for p = 2."""
    rng = np.random.default_rng(1)
    y = rng.normal(size=(300, 3))
    shift = np.array([0.3, -0.4, 1.2])
    result = sliced_wasserstein(y + shift, y, n_directions=20_000, p=p, standardise=False)
    # On the unit sphere in three dimensions each coordinate is uniform in (-1, 1).
    expected = 1.3 * (0.5 if p == 1 else 1 / np.sqrt(3))
    assert result.value == pytest.approx(expected, abs=4 * result.error_directions)
    assert result.error_directions < 0.01
    # A rigid shift leaves every jet's contribution the same, whatever the sample.
    assert result.value == pytest.approx(expected, rel=0.02)


def test_one_dimensional_gaussians_in_closed_form():
    rng = np.random.default_rng(2)
    x, y = rng.normal(1.0, 2.0, 200_000), rng.normal(0.0, 1.0, 200_000)
    w2 = wasserstein_1d(x, y, p=2)
    assert w2.value == pytest.approx(np.sqrt(2.0), abs=4 * w2.standard_error)  # sqrt(dmu^2 + dsigma^2)
    w1 = wasserstein_1d(x, y, p=1)
    # The quantiles differ by 1 + z, so W_1 = E|1 + z| = 2 phi(1) + erf(1 / sqrt 2).
    assert w1.value == pytest.approx(2 * 0.24197072 + 0.68268949, abs=4 * w1.standard_error)
    assert w1.standard_error < 0.02


@pytest.mark.parametrize("p", [1, 2])
def test_standard_error_is_the_spread_of_repetitions(p):
    def experiment(seed):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(0.3, 1.0, (1500, 3)), rng.normal(0.0, 1.1, (900, 3))
        return sliced_wasserstein(x, y, n_directions=60, p=p, standardise=False)

    results = [experiment(seed) for seed in range(80)]
    spread = np.std([r.value for r in results], ddof=1)
    # 80 repetitions know their spread to 8 %.
    assert np.mean([r.error_jets for r in results]) == pytest.approx(spread, rel=0.25)


def test_error_over_directions_is_the_spread_over_seeds():
    rng = np.random.default_rng(5)
    x, y = rng.normal(0.4, 1.0, (800, 5)), rng.normal(size=(800, 5))
    results = [sliced_wasserstein(x, y, n_directions=40, seed=seed) for seed in range(60)]
    spread = np.std([r.value for r in results], ddof=1)
    assert np.mean([r.error_directions for r in results]) == pytest.approx(spread, rel=0.3)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(2, 60),
    st.integers(2, 60),
    st.sampled_from([1, 2]),
    st.floats(0.01, 1000),
    st.floats(-100, 100),
)
def test_invariances(seed, n, m, p, scale, shift):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, 3)), rng.normal(size=(m, 3))
    base = sliced_wasserstein(x, y, n_directions=20, p=p)
    permuted = sliced_wasserstein(rng.permutation(x), rng.permutation(y), n_directions=20, p=p)
    rescaled = sliced_wasserstein(x * scale + shift, y * scale + shift, n_directions=20, p=p)
    doubled = sliced_wasserstein(np.repeat(x, 2, axis=0), y, n_directions=20, p=p)
    ones = sliced_wasserstein(x, y, n_directions=20, p=p, x_weights=np.full(n, 7.0))
    for other in (permuted, rescaled, doubled, ones):
        assert other.value == pytest.approx(base.value, rel=2e-4, abs=1e-4)
    assert base.value >= 0
    assert base.standard_error >= 0
    assert sliced_wasserstein(x, x, n_directions=20, p=p).value == pytest.approx(0, abs=1e-6)


def test_a_weight_is_a_number_of_copies():
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=(200, 2)), rng.normal(size=(150, 2))
    copies = rng.integers(0, 4, 200)
    weighted = sliced_wasserstein(x, y, x_weights=copies, n_directions=30)
    assert weighted.value == pytest.approx(
        sliced_wasserstein(np.repeat(x, copies, 0), y, n_directions=30).value, rel=1e-5
    )


def test_same_seed_same_number_other_seed_other_number():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 4)), rng.normal(size=(100, 4))
    assert sliced_wasserstein(x, y, seed=3) == sliced_wasserstein(x, y, seed=3)
    assert sliced_wasserstein(x, y, seed=3).value != sliced_wasserstein(x, y, seed=4).value


def test_a_constant_observable_is_shifted_only():
    y = np.full(50, 3.0)
    assert wasserstein_1d(y + 0.5, y).value == pytest.approx(0.5, rel=1e-6)


def test_bad_input_is_named():
    x = np.zeros((5, 2))
    with pytest.raises(InputError, match="x has 2 columns and y has 3"):
        sliced_wasserstein(x, np.zeros((5, 3)))
    with pytest.raises(InputError, match="y: 1 of 5 rows are not finite, first row 4"):
        sliced_wasserstein(x, np.array([[0, 0]] * 4 + [[0, np.inf]]))
    with pytest.raises(InputError, match="y has 1 jets: at least 2"):
        sliced_wasserstein(x, x[:1])
    with pytest.raises(InputError, match="directions have 3 components and x has 2 columns"):
        sliced_wasserstein(x, x, directions=np.eye(3))
    with pytest.raises(InputError, match="p is 3"):
        sliced_wasserstein(x, x, p=3)
    with pytest.raises(InputError, match="x_weights must be finite, not negative"):
        sliced_wasserstein(x, x, x_weights=-np.ones(5))
