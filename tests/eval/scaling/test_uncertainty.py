"""Intervals cover the truth at their nominal rate; resampling and profiles do what they say."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import binom

from eval.common.results import Estimate, interval
from eval.scaling import InputError, Points, fit, get_law, grid, profile, simulate
from eval.scaling.fitting.objective import Objective
from eval.scaling.fitting.problem import Problem
from eval.scaling.fitting.solve import distinct, search
from eval.scaling.fitting.uncertainty import POINTS_OF_FEW_GROUPS, Bootstrap, resample

TRUTH = {"E": 1.69, "A": 406.4, "alpha": 0.34, "B": 410.7, "beta": 0.28}
N, D = grid(np.geomspace(3e6, 3e9, 6), np.geomspace(1e8, 2e11, 10))


def coverage(trials, seed, loss="huber-log"):
    """How often the intervals of all constants hold the truth, over fresh noise."""
    law, hits = get_law("additive"), {level: dict.fromkeys(TRUTH, 0) for level in ("ci68", "ci95")}
    for i in range(trials):
        points = simulate(law, TRUTH, noise=5e-3, seed=seed + i, N=N, D=D)
        result = fit(points, bootstrap=200, starts=8, seed=i, loss=loss)
        for level, counts in hits.items():
            for name, value in TRUTH.items():
                low, high = getattr(result.params[name], level)
                counts[name] += low <= value <= high
    return hits


def assert_nominal(hits, trials, slack):
    # Two-sided binomial limits at one in a thousand, widened by what a percentile bootstrap may be off by.
    for level, rate in {"ci68": 0.6827, "ci95": 0.95}.items():
        low = binom.ppf(5e-4, trials, rate - slack)
        high = binom.ppf(1 - 5e-4, trials, min(rate + slack, 1.0))
        for name, count in hits[level].items():
            assert low <= count <= high, (level, name, count, low, high)


def test_intervals_cover_the_truth_at_their_nominal_rate():
    assert_nominal(coverage(30, seed=0), 30, slack=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["huber-log", "mse-log"])
def test_intervals_cover_the_truth_at_their_nominal_rate_in_many_trials(loss):
    assert_nominal(coverage(300, seed=1000, loss=loss), 300, slack=0.03)


def test_profile_of_the_mean_square_agrees_with_the_linear_theory():
    # The logarithmic law is linear: its profile interval must be the textbook standard error.
    x = np.geomspace(1e6, 1e9, 40)
    y = 9 - 0.2 * np.log(x) + np.random.default_rng(0).normal(0, 0.01, 40)
    points = Points.from_arrays(N=x, L=y)
    result = fit(points, "logarithmic", variable="N", loss="mse", bootstrap=0)
    design = np.column_stack([np.ones(40), -np.log(x)])
    best, squares, *_ = np.linalg.lstsq(design, y, rcond=None)
    error = np.sqrt(np.linalg.inv(design.T @ design)[1, 1] * squares[0] / 38)
    found = profile(points, result, "b")
    assert found.closed95
    np.testing.assert_allclose(found.ci68, [best[1] - error, best[1] + error], rtol=1e-3)
    half = np.sqrt(3.8415) * error
    np.testing.assert_allclose(found.ci95, [best[1] - half, best[1] + half], rtol=1e-3)


@pytest.mark.parametrize("name", list(TRUTH))
def test_profile_and_bootstrap_agree_on_a_well_measured_surface(name):
    points = simulate(get_law("additive"), TRUTH, noise=5e-3, seed=3, N=N, D=D)
    result = fit(points, bootstrap=200, loss="mse-log")
    found = profile(points, result, name)
    width, expected = np.diff(found.ci95)[0], np.diff(result.params[name].ci95)[0]
    assert found.ci95[0] < result.params[name].value < found.ci95[1]
    assert 0.6 < width / expected < 1.6
    assert found.deviance.min() == 0


def test_profile_never_undercuts_the_best_fit():
    points = simulate(get_law("additive"), TRUTH, noise=5e-3, seed=9, N=N, D=D)
    result = fit(points, bootstrap=0)
    found = profile(points, result, "E")
    at_best = found.deviance[np.argmin(np.abs(found.values - result.params["E"].value))]
    assert at_best == pytest.approx(0, abs=1e-6)
    with pytest.raises(InputError, match="name: Q is not one of E, A"):
        profile(points, result, "Q")


def test_groups_are_drawn_whole():
    groups = np.repeat(["a", "b", "c", "d"], [1, 2, 3, 4])
    counts = Bootstrap(50, "groups", groups).counts(10, np.random.default_rng(0))
    for label in "abcd":
        inside = counts[:, groups == label]
        assert (inside == inside[:, :1]).all()
    assert set(counts.sum(axis=1)) != {10.0}
    free = Bootstrap(50).counts(10, np.random.default_rng(0))
    assert (free.sum(axis=1) == 10).all()


def test_shared_noise_within_runs_needs_the_group_bootstrap():
    # Every run shifts its whole loss curve: resampling points would take 8 shifts for 64 independent ones.
    rng = np.random.default_rng(5)
    n, d = grid(np.geomspace(3e6, 3e9, 12), np.geomspace(1e8, 2e11, 8))
    shift = np.repeat(rng.normal(0, 0.01, 12), 8)
    loss = get_law("additive").predict(TRUTH, N=n, D=d) * np.exp(shift)
    points = Points.from_arrays(N=n, D=d, L=loss, group=np.repeat(np.arange(12), 8))
    by_group, by_point = (fit(points, unit=unit, bootstrap=150).params["A"] for unit in ("groups", "points"))
    assert fit(points, bootstrap=2).bootstrap_unit == "groups"
    assert np.diff(by_group.ci68)[0] > 1.5 * np.diff(by_point.ci68)[0]


def test_groups_of_one_point_each_are_points():
    single = Points.from_arrays(N=N[:5], D=D[:5], L=np.arange(5, 10), group=np.arange(5))
    assert Bootstrap.of(single, 2, "auto").unit == "points"


def test_few_groups_fall_back_to_points_and_say_so():
    points = simulate(get_law("additive"), TRUTH, noise=5e-3, N=N, D=D)
    grouped = Points.from_arrays(N=N, D=D, L=points.L, group=N)
    result = fit(grouped, bootstrap=10)
    assert result.bootstrap_unit == POINTS_OF_FEW_GROUPS
    assert any("only 6 groups" in note for note in result.warnings)


def test_warm_resamples_find_what_a_fresh_global_search_finds():
    points = simulate(get_law("additive"), TRUTH, noise=1e-2, seed=2, N=N, D=D)
    problem = Problem.build(
        get_law("additive"), np.stack([N, D]), points.L, np.ones(len(N)), Objective("huber-log", 1e-3)
    )
    starts = distinct(problem, search(problem, 32, np.random.default_rng(0)))
    counts = Bootstrap(25).counts(len(N), np.random.default_rng(1))
    _, value = resample(problem, starts, counts)
    for weight, found in zip(counts, value, strict=True):
        fresh = dataclasses.replace(problem, weight=weight)
        best = search(fresh, 16, np.random.default_rng(2)).value.min()
        assert found <= best * (1 + 1e-4)


def test_percentiles_keep_infinite_samples_in_order():
    samples = np.append(np.arange(99.0), np.inf)
    low, high = interval(samples, 0.6827)
    assert np.isfinite([low, high]).all()
    assert interval(np.append(np.arange(90.0), np.full(10, np.inf)), 0.95)[1] == np.inf
    np.testing.assert_allclose(interval(np.arange(101.0), 0.95), [2.5, 97.5])


def test_an_estimate_says_why_it_is_not_identified():
    estimate = Estimate.from_samples(1.0, np.linspace(0, 2, 50), "the interval runs into its lower bound")
    assert estimate.identified is False
    assert "not identified: the interval runs" in str(estimate)
    assert Estimate.from_dict(estimate.to_dict()) == estimate


def test_hardly_more_points_than_constants_identify_nothing():
    """Four points and three constants: every resample is fitted exactly, and its interval is far too narrow."""
    n = np.array([1e4, 1e5, 1e6, 1e7])
    noise = np.random.default_rng(0).normal(0, 0.01, 4)
    few = fit(Points.from_arrays(N=n, L=2 + 30 / n**0.4 + noise), "power", variable="N", bootstrap=50)
    assert all(e.identified is False for e in few.params.values())
    assert "4 points for 3 constants" in few.params["E"].reason
    held = fit(
        Points.from_arrays(N=n, L=2 + 30 / n**0.4),
        "power",
        variable="N",
        bootstrap=50,
        fixed={"E": 2.0, "A": 30.0},
    )
    assert held.params["alpha"].identified
