"""Approaches 1 and 2, the bias of the second, plans, and law selection."""

import json

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from eval.common.results import plain
from eval.scaling import (
    Frontier,
    InputError,
    Points,
    compare_approaches,
    compare_laws,
    envelope,
    fit,
    get_law,
    grid,
    isoflop,
    isoflop_bias,
    isoflop_grid,
    plan,
    sensitivity,
    simulate,
)
from eval.scaling.approaches.frontier import _line
from eval.scaling.selection import aicc

LAW = get_law("additive")


def truth(alpha, beta):
    return {"E": 1.69, "A": 406.4, "alpha": alpha, "B": 410.7, "beta": beta}


def optimum(values, compute):
    """Compute-optimal N by direct minimisation along the iso-compute line."""
    found = minimize_scalar(
        lambda log_n: float(LAW.predict(values, N=np.exp(log_n), D=compute / (6 * np.exp(log_n)))),
        bounds=(np.log(1e3), np.log(1e15)),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return float(np.exp(found.x)), float(found.fun)


def slices(values, *, sizes=9, decades=1.5, off=1.0, drift=0.0, noise=0.0):
    budgets = np.geomspace(1e18, 1e21, 6)
    centre = np.array([optimum(values, c)[0] for c in budgets]) * off * np.geomspace(1, np.exp(drift), 6)
    n, d = isoflop_grid(budgets, centre, sizes=sizes, decades=decades)
    return simulate(LAW, values, noise=noise, seed=1, N=n, D=d)


CURVES = grid(np.geomspace(1e6, 1e10, 13), np.geomspace(1e8, 1e12, 60))


def test_envelope_is_exact_on_a_ladder_of_constant_ratio():
    values = truth(0.34, 0.28)
    result = envelope(simulate(LAW, values, N=CURVES[0], D=CURVES[1]))
    assert result.params["a"].value == pytest.approx(0.28 / 0.62, abs=3e-3)
    assert result.params["b"].value == pytest.approx(0.34 / 0.62, abs=3e-3)


def test_parabolas_are_exact_where_the_surface_is_symmetric():
    # alpha = beta and centred slices: L(ln N) is even about the optimum, so the vertex cannot move.
    result = isoflop(slices(truth(0.31, 0.31)))
    assert result.params["a"].value == pytest.approx(0.5, abs=1e-4)
    for found in result.used:
        assert pytest.approx(optimum(truth(0.31, 0.31), found.C)[0], rel=1e-3) == found.N


def test_bias_of_approach_two_follows_its_causes():
    # arXiv:2603.22339: a constant offset biases the constant, a drifting one the exponent.
    symmetric = truth(0.31, 0.31)
    tilted = truth(0.5, 0.2)

    def bias(values, **shape):
        points = slices(values, **shape)
        return isoflop_bias(points, fit(points, bootstrap=0))

    assert abs(bias(symmetric).bias) < 1e-4
    assert bias(symmetric).factor == pytest.approx(1, abs=2e-3)
    assert abs(np.log(bias(tilted, decades=2).factor)) > 0.05
    assert abs(np.log(bias(tilted, decades=2).factor)) > abs(np.log(bias(tilted, decades=1).factor))
    assert abs(bias(tilted, drift=1.0, decades=2).bias) > 5 * abs(bias(tilted, decades=2).bias) + 1e-3
    found = bias(tilted, off=np.e)
    assert found.off_centre == pytest.approx(1.0, abs=0.05)
    assert found.asymmetry == pytest.approx(2.5, rel=1e-4)
    assert found.width == pytest.approx(1.5, rel=1e-6)


def test_all_three_side_by_side_warn_of_the_bias():
    points = slices(truth(0.5, 0.2), decades=2.5, drift=1.5, noise=1e-4)
    comparison = compare_approaches(points, fit(points, bootstrap=50), bootstrap=50)
    assert set(comparison.approaches) == {1, 2, 3}
    assert any("approach 2 is biased here" in note for note in comparison.warnings)
    found = json.loads(json.dumps(plain(comparison)))
    assert found["approach"] == "all"
    assert found["isoflop_bias"]["bias"] == pytest.approx(comparison.bias.bias)
    assert comparison.exponents()[3].value == pytest.approx(0.2 / 0.7, abs=0.01)
    assert "approach 2" in str(comparison)


def test_no_warning_where_there_is_no_bias():
    points = slices(truth(0.31, 0.31), decades=1.0, noise=1e-4)
    comparison = compare_approaches(points, fit(points, bootstrap=50), bootstrap=50)
    assert not any("biased" in note for note in comparison.warnings)


def test_edge_minima_and_concave_slices_are_listed_with_their_reason():
    good = slices(truth(0.31, 0.31))
    n = np.geomspace(1e6, 1e7, 6)  # far below the optimum of 1e22 FLOPs: no minimum inside
    edge = simulate(LAW, truth(0.31, 0.31), N=n, D=1e22 / (6 * n))
    bent = Points.from_arrays(N=n, D=1e15 / (6 * n), L=3 - np.linspace(-1, 1, 6) ** 2)
    few = Points.from_arrays(N=n[:3], D=1e14 / (6 * n[:3]), L=[3.0, 2.9, 3.0])
    # The two largest have hardly begun at this budget: the parabola through them dips below every run.
    begun = Points.from_arrays(
        N=np.geomspace(1e4, 1e7, 6),
        D=1e16 / (6 * np.geomspace(1e4, 1e7, 6)),
        L=[3.74, 3.73, 3.72, 3.75, 4.1, 5.3],
    )
    parts = [good, edge, bent, few, begun]
    result = isoflop(
        Points.from_arrays(**{c: np.concatenate([getattr(p, c) for p in parts]) for c in ("N", "D", "L")})
    )
    rejected = {f"{o.C:.0e}": o.reason for o in result.optima if o.reason}
    assert rejected == {
        "1e+22": "minimum at the edge",
        "1e+15": "not convex",
        "1e+14": "3 sizes; a parabola needs 4",
        "1e+16": "minimum below all runs: the parabola does not follow them",
    }
    assert len(result.used) == 6
    assert "not convex" in str(result)


def test_an_exponent_known_to_more_than_its_range_is_not_identified():
    """Three budgets within a factor of two, and noise that moves each minimum by more."""
    n, c = grid(np.geomspace(1e4, 1e6, 6), np.array([1.0e12, 1.4e12, 2.0e12]))
    noisy = simulate(LAW, truth(0.31, 0.31), noise=5e-3, seed=2, N=n, D=c / (6 * n))
    a = isoflop(noisy).params["a"]
    assert np.ptp(a.ci95) > 1
    assert a.identified is False
    assert "wide" in a.reason
    assert isoflop(slices(truth(0.31, 0.31))).params["a"].identified


def test_error_of_a_minimum_is_the_scatter_of_minima():
    values = truth(0.31, 0.31)
    clean = slices(values)
    found, errors = [], []
    for seed in range(60):
        noisy = np.random.default_rng(seed).normal(0, 2e-3, len(clean))
        points = Points.from_arrays(N=clean.N, D=clean.D, L=clean.L + noisy)
        first = isoflop(points, bootstrap=0).optima[2]
        found.append(np.log(first.N))
        errors.append(first.error_N)
    assert 0.7 < np.mean(errors) / np.std(found) < 1.4


def test_slices_that_scatter_share_their_weight():
    """Minima that scatter by 0.3 with errors of 0.02 to 0.3: the line must not follow the best-fitted slice."""
    rng, x = np.random.default_rng(0), np.linspace(30, 40, 8)
    slopes, covered = [], 0
    for _ in range(60):
        error = np.exp(rng.uniform(np.log(0.02), np.log(0.3), 8))
        y = 0.5 * x + 0.3 * rng.normal(size=8) + error * rng.normal(size=8)
        (_, slope), draws = _line(x, y, error, 200, rng)
        slopes.append(slope)
        low, high = np.quantile(draws[:, 1], [0.025, 0.975])
        covered += low <= 0.5 <= high
    equal = 0.33 / np.sqrt(((x - x.mean()) ** 2).sum())  # error of a line through equal weights
    assert np.std(slopes) < 1.25 * equal
    assert covered >= 51


def test_a_grid_off_centre_is_said_to_be_one():
    law, budgets = get_law("additive"), np.geomspace(1e17, 1e21, 6)
    values = truth(0.34, 0.34)
    best = np.array([optimum(values, c)[0] for c in budgets])
    for factor, warned in ((1.0, False), (3.2, True)):
        n, d = isoflop_grid(budgets, factor * best)
        found = isoflop(simulate(law, values, N=n, D=d), bootstrap=10)
        assert any("off centre" in text for text in found.warnings) is warned


def test_slices_are_cut_through_training_curves_where_runs_have_no_common_compute():
    n, d = grid(np.geomspace(1e6, 1e10, 9), np.geomspace(1.3e8, 1e12, 23))
    result = isoflop(simulate(LAW, truth(0.34, 0.28), N=n, D=d))
    assert result.interpolated
    assert result.params["a"].value == pytest.approx(0.28 / 0.62, abs=0.02)
    assert any("cut through training curves" in note for note in result.warnings)


def test_a_dense_grid_is_not_taken_for_one_slice():
    # Sorted by compute, neighbours of this grid differ by far less than 2 %.
    n, d = grid(np.geomspace(1e6, 1e10, 41), np.geomspace(1e8, 1e12, 97))
    result = isoflop(simulate(LAW, truth(0.34, 0.28), N=n, D=d * np.exp(1e-3 * np.log(n))))
    assert result.params["a"].value == pytest.approx(0.28 / 0.62, abs=0.02)


def test_approaches_say_what_they_lack():
    points = simulate(LAW, truth(0.34, 0.28), N=[1e6, 1e7, 1e8, 1e9], D=[1e9, 1e9, 2e9, 1e9])
    with pytest.raises(InputError, match="approach 1 needs training curves of three sizes, found 0"):
        envelope(points)
    with pytest.raises(InputError, match="approach 2 needs two optima"):
        isoflop(points)


@pytest.mark.parametrize("law", ["additive", "kaplan"])
def test_frontier_agrees_with_direct_minimisation(law):
    values = truth(0.34, 0.28)
    n, d = CURVES[0][::11], CURVES[1][::11]
    if law == "kaplan":
        values = {"N_c": 6.4e13, "D_c": 1.8e13, "alpha_N": 0.076, "alpha_D": 0.103}
    form = get_law(law)
    result = fit(simulate(form, values, N=n, D=d), law, bootstrap=0)
    line = Frontier.of(result)
    for compute in (1e18, 1e22):
        found = minimize_scalar(
            lambda log_n, c=compute: float(form.predict(values, N=np.exp(log_n), D=c / (6 * np.exp(log_n)))),
            bounds=(np.log(1e3), np.log(1e16)),
            method="bounded",
            options={"xatol": 1e-10},
        )
        assert line.size(compute)[0] == pytest.approx(np.exp(found.x), rel=1e-4)
        assert line.data(compute)[0] == pytest.approx(compute / (6 * np.exp(found.x)), rel=1e-4)
        assert line.loss(compute)[0] == pytest.approx(found.fun, rel=1e-9)
        assert result.derived["a"].value == pytest.approx(line.a[0])
        assert line.flops_for(found.fun)[0] == pytest.approx(compute, rel=1e-4)


def test_plan_answers_all_questions_consistently():
    points = simulate(LAW, truth(0.34, 0.28), noise=2e-3, N=CURVES[0][::11], D=CURVES[1][::11])
    result = fit(points, bootstrap=100)
    by_flops = plan(result, flops=1e22)
    assert by_flops.C.value == pytest.approx(6 * by_flops.N.value * by_flops.D.value)
    hours = plan(result, gpu_hours=1e22 / 3600 / 4e14, flops_per_second=4e14)
    assert hours.N.value == pytest.approx(by_flops.N.value)
    by_data = plan(result, data=by_flops.D.value)
    assert by_data.N.value == pytest.approx(by_flops.N.value)
    by_loss = plan(result, loss=by_flops.L.value)
    assert by_loss.C.value == pytest.approx(1e22)
    assert by_loss.reachable
    assert by_flops.N.ci68[0] < by_flops.N.value < by_flops.N.ci68[1]
    low, high = by_flops.spread["N"]
    assert low <= by_flops.N.ci68[0] <= by_flops.N.ci68[1] <= high
    exact, _ = optimum(truth(0.34, 0.28), 1e22)
    assert by_flops.N.ci95[0] < exact < by_flops.N.ci95[1]
    assert json.dumps(plain(by_flops), allow_nan=False)


def test_plan_knows_what_cannot_be_reached():
    points = simulate(LAW, truth(0.34, 0.28), noise=2e-3, N=CURVES[0][::11], D=CURVES[1][::11])
    result = fit(points, bootstrap=60)
    never = plan(result, loss=1.5)
    assert not never.reachable
    assert never.chance == 0
    assert never.N.identified is False
    assert "not reachable" in str(never)
    assert json.loads(json.dumps(plain(never), allow_nan=False))["N"]["value"] is None
    far = plan(result, flops=1e27)
    assert any("extrapolates" in note for note in far.warnings)
    assert far.more["FLOPs"] == pytest.approx(1e27 - points.compute.max())


def test_plan_refuses_unclear_questions():
    result = fit(simulate(LAW, truth(0.34, 0.28), N=CURVES[0][::11], D=CURVES[1][::11]), bootstrap=0)
    with pytest.raises(InputError, match="exactly one of flops, gpu_hours, data, loss; found 0"):
        plan(result)
    with pytest.raises(InputError, match="exactly one of flops, gpu_hours, data, loss; found 2"):
        plan(result, flops=1e20, loss=2.0)
    with pytest.raises(InputError, match="gpu_hours and flops_per_second come together"):
        plan(result, gpu_hours=3)
    with pytest.raises(InputError, match="flops must be positive, found -1"):
        plan(result, flops=-1)
    one = fit(
        simulate(get_law("power", "N"), {"E": 1, "A": 9, "alpha": 0.4}, N=[1, 2, 3, 4, 5]),
        "power",
        variable="N",
    )
    with pytest.raises(InputError, match="law power: has no N and D to trade"):
        plan(one, flops=1e20)


def test_the_law_that_made_the_points_predicts_best():
    n, d = CURVES[0][::5], CURVES[1][::5]
    additive = simulate(LAW, truth(0.34, 0.28), noise=2e-3, N=n, D=d)
    ranking = compare_laws(additive)
    assert ranking.best == "additive"
    assert ranking.best_fitting == "additive"
    assert [s.rms_beyond for s in ranking.scores] == sorted(s.rms_beyond for s in ranking.scores)
    assert json.dumps(plain(ranking), allow_nan=False)
    values = {"N_c": 6.4e13, "D_c": 1.8e13, "alpha_N": 0.076, "alpha_D": 0.103}
    assert compare_laws(simulate(get_law("kaplan"), values, noise=2e-3, N=n, D=d)).best == "kaplan"


def test_the_aicc_of_a_huber_likelihood_is_made_of_that_likelihood():
    points = simulate(LAW, truth(0.34, 0.28), noise=5e-3, N=CURVES[0][::20], D=CURVES[1][::20])
    result = fit(points, loss="huber-likelihood", bootstrap=0)
    k, n = 6, len(points)
    assert aicc(points, result) == pytest.approx(2 * result.objective + 2 * k * n / (n - k - 1))


def test_laws_of_one_variable_are_compared_and_failures_listed():
    x = np.geomspace(1e16, 1e21, 20)
    points = simulate(get_law("power", "C"), {"E": 1.2, "K": 200.0, "gamma": 0.12}, noise=5e-4, C=x)
    ranking = compare_laws(points, ["power", "power-nofloor", "logarithmic", "additive"], variable="C")
    assert ranking.best == "power"
    assert "column N is missing" in ranking.failed["additive"]
    with pytest.raises(InputError, match="leaves 20 of 20 points below"):
        compare_laws(points, ["power"], variable="C", cut=1e30)


def test_sensitivity_lists_fits_to_parts_of_the_points():
    points = simulate(LAW, truth(0.34, 0.28), noise=2e-3, N=CURVES[0][::11], D=CURVES[1][::11])
    variants = sensitivity(points, bootstrap=0)
    assert [v.name for v in variants] == [
        "all points",
        "without the smallest D",
        "without the smallest N",
        "without the smallest D and N",
        "without the largest tenth of C",
    ]
    fifth = points.D.min() * (points.D.max() / points.D.min()) ** 0.2
    assert variants[1].n_points == (fifth < points.D).sum()
    assert variants[2].n_points == (points.N.min() < points.N).sum()
    assert variants[0].fit.params["E"].value != variants[1].fit.params["E"].value
