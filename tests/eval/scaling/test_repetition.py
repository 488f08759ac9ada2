"""Repeated data and input configurations: known truths come back, within intervals that cover them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from eval.common.results import plain
from eval.scaling import (
    InputError,
    Points,
    fit,
    get_law,
    grid,
    overfitting_threshold,
    repetition_gain,
    simulate,
)
from eval.scaling.plan import Frontier
from eval.scaling.repetition.figures import early_stopped_losses, input_laws, phase_diagram, repetition_cost
from eval.scaling.repetition.fit import repeated_data
from eval.scaling.repetition.inputs import compare_inputs
from eval.scaling.repetition.threshold import TOLERANCE, Curve

SINGLE = {"E": 0.32, "A": 11.27, "alpha": 0.44, "B": 7.22, "beta": 0.22}
REPEATED = {"E": 0.32, "B": 5.79, "beta": 0.22}
SIZES = np.geomspace(1e3, 1e6, 8)
CONFIGURATIONS = {
    "3 features, 40 particles": {"E": 0.74, "B": 5.62, "beta": 0.21},
    "21 features, 10 particles": {"E": 0.59, "B": 6.5, "beta": 0.22},
    "21 features, 128 particles": {"E": 0.32, "B": 5.79, "beta": 0.22},
}


def single_epoch(noise, seed):
    n, d = grid(SIZES, np.geomspace(1e3, 3e5, 9))
    return fit(
        simulate(get_law("additive"), SINGLE, noise=noise, seed=seed, N=n, D=d, C=240 * n * d), seed=seed
    )


def repeated_runs(noise, seed, by_size=0.0):
    """Early-stopped losses; ``by_size`` is what a decade of N above the threshold still gains, in nats."""
    n, u = grid(SIZES, np.geomspace(1e3, 1e5, 6))
    above = n > 20 * u**0.47
    loss = np.where(above, 0.0, 11.27 / n**0.44) + get_law("power", "U").predict(REPEATED, U=u)
    loss = (loss - by_size * np.log10(n / 1e4)) * np.exp(
        np.random.default_rng(seed).normal(0, noise, len(n)) if noise else 0
    )
    return Points.from_arrays(N=n, U=u, L=loss, C=240 * n * u * 12), above


@pytest.fixture(scope="module")
def result():
    points, above = repeated_runs(3e-3, 1)
    return repeated_data(points, above, single_epoch(3e-3, 2))


def test_constants_of_the_paper_come_back(result):
    for name, value in REPEATED.items():
        low, high = result.fit.params[name].ci95
        assert low <= value <= high, name
    assert result.fit.n_points == result.above.sum() < len(result.points)
    assert result.beta_difference.ci95[0] <= 0 <= result.beta_difference.ci95[1]
    json.dumps(plain(result), allow_nan=False)


def test_gain_is_the_data_of_equal_loss(result):
    for u, estimate in result.gain.items():
        truth = repetition_gain(u, B_no=7.22, beta_no=0.22, B_rep=5.79, beta_rep=0.22)
        assert truth == pytest.approx((7.22 / 5.79) ** (1 / 0.22))
        assert estimate.ci95[0] <= truth <= estimate.ci95[1]
        assert estimate.identified
        # Equal floors are an assumption that costs precision: floor and exponent move together in each fit.
        equal = result.gain_equal_floors[u]
        assert np.ptp(equal.ci68) > np.ptp(estimate.ci68)
        assert equal.ci95[0] <= truth <= equal.ci95[1]


def test_without_noise_both_definitions_of_the_gain_agree_with_the_closed_form():
    points, above = repeated_runs(0, 0)
    exact = repeated_data(points, above, single_epoch(0, 0), bootstrap=20)
    for u in exact.gain:
        truth = (7.22 / 5.79) ** (1 / 0.22)
        assert exact.gain[u].value == pytest.approx(truth, rel=1e-4)
        assert exact.gain_equal_floors[u].value == pytest.approx(truth, rel=1e-4)


def test_cost_is_compute_over_the_least_compute_of_that_loss():
    points, above = repeated_runs(0, 0)
    single = single_epoch(0, 0)
    exact = repeated_data(points, above, single, bootstrap=20)
    n, u = points.N, points.U
    for amount, cost in exact.cost.items():
        size = n[above & (u == amount)].min()
        loss = float(get_law("power", "U").predict(REPEATED, U=amount))
        best = float(Frontier.of(single).flops_for(loss)[0])
        assert cost.value == pytest.approx(240 * size * amount * 12 / best, rel=1e-6)
    values = [cost.value for cost in exact.cost.values()]
    assert exact.mean_cost.value == pytest.approx(np.exp(np.mean(np.log(values))))


def test_a_loss_that_no_compute_would_reach_and_one_that_any_would_have_finite_ratios():
    """Resamples with a floor above the loss give a ratio of zero; those of exponent zero, one over a single FLOP."""
    points, above = repeated_runs(0.0, 0)
    single = single_epoch(0.0, 0)
    samples = np.tile(single.values, (40, 1))
    samples[:20, 0] = 2.0  # E
    samples[20:, 1:] = 1e-3  # A, alpha, B, beta
    found = repeated_data(points, above, replace(single, samples=samples))
    for cost in (*found.cost.values(), found.mean_cost):
        assert np.isfinite([cost.value, *cost.ci95]).all()
        assert cost.ci95[0] == 0
        assert "may not reach this loss" in cost.reason


def test_loss_that_still_falls_with_size_is_told_from_one_that_does_not(result):
    assert result.size_slope.ci95[0] <= 0 <= result.size_slope.ci95[1]
    points, above = repeated_runs(3e-3, 1, by_size=0.05)
    falling = repeated_data(points, above).size_slope
    assert falling.ci95[0] > 0
    middle = np.exp(np.log(points.U[above]).mean())
    expected = 0.05 / (np.log(10) * 0.22 * 5.79 * middle**-0.22)
    assert falling.value == pytest.approx(expected, rel=0.2)


def test_a_loss_below_the_single_epoch_floor_is_not_given_a_number():
    points, above = repeated_runs(0, 0)
    low = Points.from_arrays(N=points.N, U=points.U, L=points.L - 0.3, C=points.C)
    found = repeated_data(low, above, single_epoch(5e-3, 3))
    last = max(found.gain)
    far = found.gain[last]
    assert far.identified is False or far.value > 10
    tiny = Points.from_arrays(N=points.N, U=points.U, L=points.L * 0.1, C=points.C)
    gone = repeated_data(tiny, above, single_epoch(5e-3, 3))
    assert gone.gain[last].identified is False
    assert "may not reach this loss" in gone.gain[last].reason
    assert "may not reach this loss" in gone.mean_cost.reason
    json.dumps(plain(gone), allow_nan=False)


def test_bad_runs_are_named():
    points, above = repeated_runs(0, 0)
    with pytest.raises(InputError, match=r"shape \(3,\), there are 48 runs"):
        repeated_data(points, above[:3])
    with pytest.raises(InputError, match="at 0 amounts of unique data"):
        repeated_data(points, np.zeros(48, dtype=bool))
    with pytest.raises(InputError, match="single: an additive law"):
        repeated_data(points, above, repeated_data(points, above).fit)
    with pytest.raises(InputError, match="column N is missing"):
        repeated_data(Points.from_arrays(U=points.U, L=points.L), above)


def curves(n, u, seed, k=20.0):
    step, rng = np.linspace(0, 1, 24), np.random.default_rng(seed)
    return [
        0.5
        + 0.5 * np.exp(-8 * step)
        + rng.normal(0, 5e-4, 24)
        + (a > k * b**0.47) * 0.3 * np.maximum(step - 0.5, 0)
        for a, b in zip(n, u, strict=True)
    ]


def test_runs_above_the_threshold_are_those_above_a_bracket():
    n, u = grid(SIZES, np.geomspace(1e3, 1e5, 6))
    found = overfitting_threshold(n, u, curves(n, u, 0))
    np.testing.assert_array_equal(found.above(n, u), n > 20 * u**0.47)
    assert not found.above([1e9], [77.0]).any()  # nothing is known about data that were not trained on
    middle, low, high = found.size(np.geomspace(1e3, 1e5, 5))
    assert (low < middle).all()
    assert (middle < high).all()


def test_two_brackets_identify_no_power_law():
    n, u = grid(SIZES, [1e4, 1e5])
    found = overfitting_threshold(n, u, curves(n, u, 0))
    assert found.exponent.identified is False
    assert "2 bracketed amounts" in found.exponent.reason


def test_a_coarse_ladder_is_said_to_be_one():
    n, u = grid([1e2, 1e6], [1e3, 2e3, 4e3])
    found = overfitting_threshold(n, u, curves(n, u, 0))
    assert found.exponent.identified is False
    assert "wide" in found.exponent.reason


LADDER = 1e3 * 2.0 ** np.arange(8)
SEVEN = 500 * 2.0 ** np.arange(7)


def test_a_ladder_of_ratio_two_at_seven_amounts_of_data_gives_lambda_to_five_hundredths():
    found = []
    for seed in range(6):
        shift = np.random.default_rng(seed).uniform(-0.35, 0.35, 2)
        n, u = grid(LADDER * np.exp(shift[0]), SEVEN)
        found.append(overfitting_threshold(n, u, curves(n, u, seed, k=200 * np.exp(shift[1]))).exponent)
    assert all(e.identified for e in found)
    assert np.std([e.value for e in found]) < 0.08
    assert np.mean([0.5 * np.ptp(e.ci68) for e in found]) < 0.09
    assert sum(e.ci95[0] <= 0.47 <= e.ci95[1] for e in found) >= 5


def test_one_border_for_all_data_outvotes_runs_that_contradict_it():
    n, u = grid(LADDER, SEVEN)
    losses = curves(n, u, 0, k=200.0)
    wrong = int(
        np.flatnonzero((u == SEVEN[0]) & (n == LADDER[4]))[0]
    )  # overfits, but its loss is made not to rise
    losses[wrong] = np.minimum.accumulate(losses[wrong])
    found = overfitting_threshold(n, u, losses)
    assert not found.overfit[wrong]
    assert found.above(n, u)[wrong]
    assert found.exponent.ci95[0] < 0.47 < found.exponent.ci95[1]


def test_a_run_cut_off_while_its_loss_falls_says_nothing_of_the_border():
    n, u = grid(LADDER, SEVEN)
    losses = curves(n, u, 0, k=200.0)
    steps = [np.linspace(1, 100, 24)] * len(losses)
    large = int(np.flatnonzero((u == SEVEN[0]) & (n == LADDER[-1]))[0])
    losses[large], steps[large] = losses[large][:7], steps[large][:7]
    found = overfitting_threshold(n, u, losses, steps=steps)
    assert found.undecided[large]
    assert not found.overfit[large]
    assert found.undecided.sum() == 1
    with pytest.raises(InputError, match="steps: one for each loss"):
        overfitting_threshold(n, u, losses, steps=[[1.0]] * len(n))


def test_early_stopping_returns_the_minimum():
    curve = Curve.of([3.0, 1.0, 2.0])
    assert (curve.minimum, curve.place) == (1.0, 1)
    smooth = Curve.of((np.linspace(-1, 1, 41)) ** 2 + 0.4)
    assert smooth.place == 20
    assert smooth.minimum == pytest.approx(0.4, abs=0.01)
    noise = np.random.default_rng(0).normal(1.0, 0.05, 400)
    assert abs(Curve.of(noise).minimum - 1) < 0.5 * abs(noise.min() - 1)
    with pytest.raises(InputError, match="finite losses"):
        Curve.of([1.0, np.nan])


def test_overfitting_threshold_is_recovered_from_curves():
    step = np.linspace(0, 1, 40)
    n, u = grid(np.geomspace(1e3, 1e7, 17), np.geomspace(1e5, 1e8, 7))
    rng = np.random.default_rng(0)
    curves = [
        0.5
        + 0.3 * np.exp(-5 * step)
        + rng.normal(0, 1e-3, 40)
        + (a > 3 * b**0.47) * 0.1 * np.maximum(step - 0.5, 0)
        for a, b in zip(n, u, strict=True)
    ]
    result = overfitting_threshold(n, u, curves)
    np.testing.assert_array_equal(result.overfit, n > 3 * u**0.47)
    assert result.exponent.ci95[0] < 0.47 < result.exponent.ci95[1]
    data = np.unique(u)
    np.testing.assert_allclose(
        np.log(result.size(data)[0]), np.log(3 * data**0.47), atol=np.log(10) / 4
    )  # one size
    assert [b.U for b in result.brackets] == data.tolist()
    assert all(b.N_low < result.size(b.U)[0][0] < b.N_high for b in result.brackets)
    assert json.dumps(plain(result), allow_nan=False)


def overfits(losses):
    curve = Curve.of(losses)
    return curve.overfitting(TOLERANCE, curve.noise) > 0.5


def test_noise_alone_is_not_overfitting():
    rng = np.random.default_rng(1)
    flat = [0.5 + rng.normal(0, 0.02, 50) for _ in range(100)]
    assert sum(overfits(curve) for curve in flat) <= 5
    assert overfits([0.9, 0.5, 0.7])
    assert not overfits([0.9, 0.7, 0.5])


@pytest.mark.parametrize("n", [6, 8, 12, 20])
def test_short_curves_are_told_by_their_noise(n):
    """Runs that end when the loss stops falling have few evaluations: noise is no rise, and the fall is no noise."""
    rng, step = np.random.default_rng(2), np.linspace(0.1, 1.5, n)
    fall = 1 + 0.5 * np.exp(-6 * step)
    flat = [overfits(fall + rng.normal(0, 3e-3, n)) for _ in range(100)]
    risen = [overfits(fall + 0.1 * np.maximum(step - 0.6, 0) + rng.normal(0, 3e-3, n)) for _ in range(100)]
    assert np.mean(flat) < 0.15
    assert np.mean(risen) > 0.9


def test_threshold_needs_two_brackets():
    with pytest.raises(InputError, match="1 amounts of unique data have both"):
        overfitting_threshold([1, 2, 1, 2], [1, 1, 5, 5], [[3, 2, 2], [3, 1, 2], [3, 2, 2], [3, 2, 2]])


def tables(configurations, noise=4e-3, seed=0, last=1e6):
    u = np.repeat(np.geomspace(1e4, last, 7), 3)
    return {
        name: simulate(get_law("power", "U"), values, noise=noise, seed=seed + i, U=u)
        for i, (name, values) in enumerate(configurations.items())
    }


def test_inputs_that_move_the_floor_and_not_the_slope():
    same_slope = {name: values | {"beta": 0.22} for name, values in CONFIGURATIONS.items()}
    found = compare_inputs(tables(same_slope))
    assert found.slopes.p_value > 0.01
    assert found.shared_floors.p_value < 1e-6
    assert found.slopes.mean.ci95[0] <= 0.22 <= found.slopes.mean.ci95[1]
    names = list(same_slope)
    for (a, b), difference in found.floor_differences.items():
        truth = same_slope[a]["E"] - same_slope[b]["E"]
        assert difference.value == pytest.approx(truth, abs=0.06)
        assert difference.ci95[0] <= truth <= difference.ci95[1]
    for name in names:
        held, free = found.floors_at_common_slope[name], found.fits[name].params["E"]
        assert np.ptp(held.ci68) < np.ptp(free.ci68)
    json.dumps(plain(found), allow_nan=False)


def test_inputs_that_move_the_slope_are_found_out():
    moved = {"few": {"E": 0.4, "B": 6, "beta": 0.15}, "many": {"E": 0.4, "B": 6, "beta": 0.3}}
    found = compare_inputs(tables(moved))
    assert found.slopes.p_value < 1e-3
    assert found.slope_differences["few", "many"].ci95[1] < 0


def test_little_data_identify_no_slope():
    """Half a decade of data and noise of 2 %: floor and exponent trade places."""
    found = compare_inputs(tables(CONFIGURATIONS, noise=0.02, last=3e4))
    assert found.slopes.mean.identified is False
    assert any(e.identified is False for e in found.slope_differences.values())


def test_bad_comparisons_are_named():
    good = tables(CONFIGURATIONS)
    with pytest.raises(InputError, match="1 input configurations"):
        compare_inputs({"one": next(iter(good.values()))})
    with pytest.raises(InputError, match="variable: must be D or U, found N"):
        compare_inputs(good, variable="N")
    short = {**good, "short": Points.from_arrays(U=[1e3, 1e4], L=[1.0, 0.9])}
    with pytest.raises(InputError, match="short: points: 2 points cannot determine"):
        compare_inputs(short)
    with pytest.raises(InputError, match="needs intervals"):
        compare_inputs(good, bootstrap=0)


def test_figures_show_every_run(result):
    n, u = grid(SIZES, np.geomspace(1e3, 1e5, 6))
    found = overfitting_threshold(n, u, curves(n, u, 0))
    ax = phase_diagram(found, n, u).axes[0]
    marks = sum(len(line.get_xdata()) for line in ax.lines if line.get_marker() in "ox")
    assert marks == len(n)
    left, right = early_stopped_losses(result).axes
    marks = sum(len(line.get_xdata()) for line in left.lines if line.get_marker() in ("o", "s"))
    assert marks == len(result.points)
    assert len(right.containers) == 2 * len(result.gain)
    assert len(repetition_cost(result).axes[0].containers) == len(result.cost)
    assert len(input_laws(compare_inputs(tables(CONFIGURATIONS))).axes) == 3


@pytest.mark.slow
def test_intervals_of_repeated_data_cover_the_truth():
    trials, gain = 60, (7.22 / 5.79) ** (1 / 0.22)
    hits = dict.fromkeys([*REPEATED, "gain", "difference", "size"], 0)
    for i in range(trials):
        points, above = repeated_runs(4e-3, 100 + i)
        found = repeated_data(points, above, single_epoch(4e-3, 1000 + i), seed=i)
        for name, value in REPEATED.items():
            low, high = found.fit.params[name].ci95
            hits[name] += low <= value <= high
        middle = sorted(found.gain)[2]
        for name, estimate, value in (
            ("gain", found.gain[middle], gain),
            ("difference", found.beta_difference, 0.0),
            ("size", found.size_slope, 0.0),
        ):
            hits[name] += estimate.ci95[0] <= value <= estimate.ci95[1]
    for name, count in hits.items():
        assert count >= binom.ppf(1e-3, trials, 0.92), (name, hits)


@pytest.mark.slow
def test_interval_of_lambda_covers_the_truth_wherever_the_ladder_lies():
    rng, hits, trials = np.random.default_rng(0), 0, 80
    for i in range(trials):
        n, u = grid(SIZES * 10 ** rng.uniform(-0.2, 0.2), np.geomspace(1e3, 1e5, 6))
        found = overfitting_threshold(n, u, curves(n, u, i, k=20 * 10 ** rng.uniform(-0.2, 0.2)))
        hits += found.exponent.ci95[0] <= 0.47 <= found.exponent.ci95[1]
    assert hits >= binom.ppf(1e-3, trials, 0.95)
