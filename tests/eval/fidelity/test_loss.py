"""Loss against fidelity on ladders whose truth is known."""

import numpy as np
import pytest
from scipy.stats import kendalltau, norm, spearmanr

from eval.common.errors import InputError
from eval.common.results import Unavailable
from eval.fidelity.loss import loss_vs_fidelity, resolved_chain

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
    assert result.kendall.ci68[0] > 0.5
    assert result.p_no_relation == pytest.approx(1 / 720)  # only one order of six is perfect
    assert result.p_monotone > 0.05
    assert result.p_rising > 0.8
    assert result.chain[0] == "model 1"
    assert result.chain[-1] == "model 6"
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
    low, high = result.loss_at_floor.ci68
    assert low < result.loss_at_floor.value < high
    assert high - low < 0.03


def test_a_ladder_above_the_floor_does_not_reach_it():
    distances, errors = ladder(floor=0.1)
    result = loss_vs_fidelity(LOSSES, distances, errors, 0.02, 0.003, n_bootstrap=300)
    assert isinstance(result.loss_at_floor, Unavailable)
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
        return np.diff(r.loss_at_floor.ci68)[0]

    assert width(np.full(6, 0.02)) > 2 * width(None)


def test_seeds_of_one_model_are_no_models_of_their_own():
    """Three sizes of three seeds cannot say more than three sizes, whatever their nine points look like."""
    losses, distances = np.repeat([3.0, 2.5, 2.0], 3), np.repeat([0.3, 0.2, 0.1], 3)
    names = np.repeat(["a", "b", "c"], 3)
    together = loss_vs_fidelity(losses, distances, [0.01] * 9, 0.02, 0.003, models=names, n_bootstrap=50)
    assert together.n_models == 3
    assert together.chain == ("a", "b", "c")
    assert together.p_no_relation == pytest.approx(1 / 6)
    assert together.verdict.startswith("cannot tell: rising with the loss, resolved over c, b, a;")


def test_what_seeds_scatter_does_not_contradict_a_relation():
    rng = np.random.default_rng(0)
    losses = np.repeat(LOSSES, 3) + rng.normal(0, 1e-3, 18)
    distances = np.repeat(0.3 * (LOSSES - 3.0), 3) + rng.normal(0, 0.01, 18)
    names = np.repeat(list("abcdef"), 3)
    apart = loss_vs_fidelity(losses, distances, [0.001] * 18, 0.02, 0.003, n_bootstrap=200)
    assert apart.verdict.startswith("contradicts")
    together = loss_vs_fidelity(losses, distances, [0.001] * 18, 0.02, 0.003, models=names, n_bootstrap=200)
    assert together.verdict.startswith("supports")
    with pytest.raises(InputError, match="models: 2 names for 18 runs"):
        loss_vs_fidelity(losses, distances, [0.003] * 18, 0.02, 0.003, models=["a", "b"])


def test_seeds_that_share_their_random_numbers_are_no_better_than_one():
    """Three seeds drawn with one stream agree to a tenth of their error: the mean has the error of one sample."""
    names = np.repeat(list("abcd"), 3)
    losses = np.repeat([4.0, 3.0, 2.5, 2.0], 3)
    true = np.repeat([0.30, 0.20, 0.15, 0.12], 3)
    noise = np.random.default_rng(1).normal(0, 1.0, 12)

    def step(scatter):
        return loss_vs_fidelity(
            losses, true + scatter * noise, [0.01] * 12, 0.02, 0.003, models=names
        ).p_rising

    # The last step is 0.03: 2.1 errors of two single samples, 3.7 of the means of three.
    assert step(0.001) == pytest.approx(
        norm.cdf(0.03 / (0.01 * 2**0.5)) * norm.cdf(0.05 / (0.01 * 2**0.5)), abs=0.02
    )
    assert step(0.01) > 0.97


def test_probability_that_every_step_rises_in_closed_form():
    found = loss_vs_fidelity([3, 2, 1], [0.3, 0.11, 0.1], [0.01] * 3, 0.02, 0.003)
    assert found.p_rising == pytest.approx(norm.cdf(0.01 / (0.01 * 2**0.5)), abs=0.03)
    level = loss_vs_fidelity([3, 2, 1], [0.3, 0.1, 0.1], [0.01] * 3, 0.02, 0.003)
    assert level.p_rising == pytest.approx(0.5, abs=0.04)
    assert level.verdict.startswith("cannot tell: rising with the loss, resolved over model 3, model 1")


def test_chain_skips_what_is_not_resolved_and_reaches_the_lowest_loss():
    loss = np.array([1.0, 5.0, 4.0, 3.0, 2.0])
    distance = np.array([0.10, 0.50, 0.49, 0.30, 0.31])
    # The highest loss first; of two equal distances only one can be in the chain.
    assert resolved_chain(loss, distance, np.full(5, 0.01)) == [1, 3, 0]
    assert resolved_chain(loss, distance, np.full(5, 0.5)) == [1]
    close = np.array([1.0, 0.99, 0.8, 0.79, 0.6, 0.5])
    chain = resolved_chain(-np.arange(6.0), close, np.full(6, 0.01))
    assert (chain[0], chain[-1], len(chain)) == (0, 5, 4)


def test_a_wider_error_never_makes_a_relation_supported():
    distances, errors = ladder()
    supported = [
        loss_vs_fidelity(LOSSES, distances, errors * f, 0.02, 0.003, n_bootstrap=50).verdict.startswith(
            "supports"
        )
        for f in (1, 5, 25, 125)
    ]
    assert supported == sorted(supported, reverse=True)
    assert supported[0]
    assert not supported[-1]


def test_three_models_have_no_interval():
    result = loss_vs_fidelity([3, 2, 1], [0.3, 0.2, 0.1], [0.01] * 3, 0.02, 0.003, n_bootstrap=50)
    assert result.kendall.ci68 is None
    assert result.p_no_relation == pytest.approx(1 / 6)


def test_bad_input_is_named():
    with pytest.raises(InputError, match="2 models: at least 3"):
        loss_vs_fidelity([1, 2], [1, 2], [1, 1], 0, 1)
    with pytest.raises(InputError, match="differ in length: 3, 2"):
        loss_vs_fidelity([1, 2, 3], [1, 2], [1, 1, 1], 0, 1)
    with pytest.raises(InputError, match="must be above 0"):
        loss_vs_fidelity([1, 2, 3], [1, 2, 3], [0, 1, 1], 0, 1)
