"""Loss against fidelity on ladders whose truth is known."""

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from eval.errors import InputError
from eval.fidelity.loss import loss_vs_fidelity

LOSSES = np.array([4.2, 3.9, 3.7, 3.55, 3.45, 3.4])


def ladder(slope=0.3, floor=0.02, seed=0, error=0.002):
    rng = np.random.default_rng(seed)
    true = np.hypot(slope * (LOSSES - 3.4), floor)
    return true + error * rng.standard_normal(LOSSES.size), np.full(LOSSES.size, error)


def test_rising_ladder_supports_the_claim():
    distances, errors = ladder()
    result = loss_vs_fidelity(LOSSES, distances, errors, 0.02, 0.003, n_bootstrap=500)
    assert result.kendall.value == pytest.approx(kendalltau(LOSSES, distances)[0])
    assert result.spearman.value == pytest.approx(spearmanr(LOSSES, distances)[0])
    assert result.kendall.interval[0] > 0.5
    assert result.p_no_relation == pytest.approx(1 / 720)  # only one order of six is perfect
    assert result.p_monotone > 0.05
    assert result.verdict.startswith("supports")


def test_reversed_ladder_contradicts_it():
    distances, errors = ladder()
    result = loss_vs_fidelity(LOSSES, distances[::-1], errors, 0.02, 0.003, n_bootstrap=500)
    assert result.kendall.value < 0
    assert result.p_monotone < 0.01
    assert result.verdict.startswith("contradicts")


def test_flat_ladder_cannot_tell():
    distances, errors = ladder(slope=0.0, seed=4)
    result = loss_vs_fidelity(LOSSES, distances, errors, 0.02, 0.003, n_bootstrap=500)
    assert result.verdict.startswith("cannot tell")
    assert result.share_reaching == 1.0


def test_loss_at_the_floor_is_found_with_an_interval():
    distances, errors = ladder(error=0.0005)
    result = loss_vs_fidelity(LOSSES, distances, errors, 0.02, 0.003, n_bootstrap=500)
    # hypot(0.3 (L - 3.4), 0.02) = 0.029 at L = 3.47; linear between 3.45 and 3.55 gives a little less.
    assert result.loss_at_floor.value == pytest.approx(3.47, abs=0.02)
    low, high = result.loss_at_floor.interval
    assert low < result.loss_at_floor.value < high
    assert high - low < 0.03


def test_a_ladder_above_the_floor_does_not_reach_it():
    distances, errors = ladder(floor=0.1)
    result = loss_vs_fidelity(LOSSES, distances, errors, 0.02, 0.003, n_bootstrap=300)
    assert result.loss_at_floor is None
    assert result.share_reaching == 0


def test_p_monotone_is_not_small_by_chance():
    small = 0
    for seed in range(30):
        distances, errors = ladder(slope=0.0, seed=seed, error=0.01)
        small += loss_vs_fidelity(LOSSES, distances, errors, 0.02, 0.003, n_bootstrap=60).p_monotone < 0.05
    assert small <= 5


def test_errors_on_the_loss_widen_the_meeting_point():
    distances, errors = ladder(error=0.0005)

    def width(loss_errors):
        r = loss_vs_fidelity(LOSSES, distances, errors, 0.02, 0.003, loss_errors, n_bootstrap=300)
        return np.diff(r.loss_at_floor.interval)[0]

    assert width(np.full(6, 0.02)) > 2 * width(None)


def test_seeds_of_one_model_are_no_rungs_of_their_own():
    """Three sizes of three seeds cannot say more than three sizes, whatever their nine points look like."""
    losses, distances = np.repeat([3.0, 2.5, 2.0], 3), np.repeat([0.3, 0.2, 0.1], 3)
    names = np.repeat(["a", "b", "c"], 3)
    apart = loss_vs_fidelity(losses, distances, [0.01] * 9, 0.02, 0.003, n_bootstrap=50)
    assert apart.verdict.startswith("supports")
    together = loss_vs_fidelity(losses, distances, [0.01] * 9, 0.02, 0.003, models=names, n_bootstrap=50)
    assert together.n_models == 3
    assert together.p_no_relation == pytest.approx(1 / 6)
    assert together.verdict.startswith("cannot tell")


def test_what_seeds_scatter_does_not_contradict_a_relation():
    rng = np.random.default_rng(0)
    losses = np.repeat(LOSSES, 3) + rng.normal(0, 1e-3, 18)
    distances = np.repeat(0.3 * (LOSSES - 3.0), 3) + rng.normal(0, 0.03, 18)
    names = np.repeat(list("abcdef"), 3)
    apart = loss_vs_fidelity(losses, distances, [0.003] * 18, 0.02, 0.003, n_bootstrap=200)
    assert apart.verdict.startswith("contradicts")
    together = loss_vs_fidelity(losses, distances, [0.003] * 18, 0.02, 0.003, models=names, n_bootstrap=200)
    assert together.verdict.startswith("supports")
    with pytest.raises(InputError, match="models: 2 names for 18 runs"):
        loss_vs_fidelity(losses, distances, [0.003] * 18, 0.02, 0.003, models=["a", "b"])


def test_three_models_have_no_interval():
    result = loss_vs_fidelity([3, 2, 1], [0.3, 0.2, 0.1], [0.01] * 3, 0.02, 0.003, n_bootstrap=50)
    assert result.kendall.interval is None
    assert result.p_no_relation == pytest.approx(1 / 6)


def test_bad_input_is_named():
    with pytest.raises(InputError, match="2 models: at least 3"):
        loss_vs_fidelity([1, 2], [1, 2], [1, 1], 0, 1)
    with pytest.raises(InputError, match="differ in length: 3, 2"):
        loss_vs_fidelity([1, 2, 3], [1, 2], [1, 1, 1], 0, 1)
    with pytest.raises(InputError, match="must be above 0"):
        loss_vs_fidelity([1, 2, 3], [1, 2, 3], [0, 1, 1], 0, 1)
