"""Recovery, published objectives, other optimisers, determinism, and honest answers on weak data."""

import copy
import pickle

import numpy as np
import pytest
from scipy.optimize import minimize

from eval.scaling import FitResult, InputError, Points, Status, fit, get_law, grid, simulate
from eval.scaling.fitting.objective import (
    Objective,
    best_scale,
    huber,
    log_likelihood,
    negative_log_likelihood,
    normalisation,
)

CHINCHILLA = {"E": 1.69, "A": 406.4, "alpha": 0.34, "B": 410.7, "beta": 0.28}
N, D = grid(np.geomspace(3e6, 3e9, 6), np.geomspace(1e8, 2e11, 8))


def chinchilla(noise=0.0, seed=0):
    return simulate(get_law("additive"), CHINCHILLA, noise=noise, seed=seed, N=N, D=D)


@pytest.mark.parametrize("loss", ["huber-log", "mse", "mse-log", "huber-likelihood"])
@pytest.mark.parametrize(("alpha", "beta"), [(0.31, 0.31), (0.34, 0.28), (0.50, 0.20)])
def test_noise_free_surfaces_are_recovered(alpha, beta, loss):
    truth = {**CHINCHILLA, "alpha": alpha, "beta": beta}
    points = simulate(get_law("additive"), truth, N=N, D=D)
    result = fit(points, loss=loss, bootstrap=0)
    assert result.status is Status.CONVERGED
    for name, value in truth.items():
        assert result.params[name].value == pytest.approx(value, rel=1e-6)
    np.testing.assert_allclose(result.predict(N, D), points.L, rtol=1e-9)


@pytest.mark.parametrize(
    ("law", "variable", "truth"),
    [
        ("additive-tied", None, {"E": 1.69, "A": 406.4, "alpha": 0.31, "B": 410.7}),
        ("power", "N", {"E": 1.69, "A": 406.4, "alpha": 0.34}),
        ("power-nofloor", "D", {"B": 30.0, "beta": 0.1}),
        ("logarithmic", "C", {"a": 9.0, "b": 0.12}),
        ("kaplan", None, {"N_c": 6.4e13, "D_c": 1.8e13, "alpha_N": 0.076, "alpha_D": 0.103}),
        ("broken", "D", {"E": 1.2, "b": 60.0, "c0": 0.25, "c1": 0.4, "d": 3e9, "f": 0.6}),
        ("m4", "D", {"E": 1.7, "E0": 6.0, "alpha": 0.6, "B": 2e3, "beta": 0.4}),
    ],
)
def test_every_law_recovers_its_own_constants(law, variable, truth):
    x = {"N": np.geomspace(1e6, 1e10, 48), "D": np.geomspace(1e7, 1e12, 48)}
    if variable is None:
        x = {"N": N, "D": D}
    points = simulate(get_law(law, variable), truth, **x, C=6 * x["N"] * x["D"])
    result = fit(points, law, variable=variable, bootstrap=0)
    for name, value in truth.items():
        assert result.params[name].value == pytest.approx(value, rel=1e-5), name


def test_effective_data_recovers_its_constants():
    truth = {"E": 1.87, "A": 520.8, "alpha": 0.35, "B": 1488.0, "beta": 0.36, "R_D": 15.4, "R_N": 5.3}
    rng = np.random.default_rng(3)
    n, u = (
        np.exp(rng.uniform(np.log(1e7), np.log(5e9), 120)),
        np.exp(rng.uniform(np.log(1e8), np.log(3e10), 120)),
    )
    d = u * np.exp(rng.uniform(-0.5, 4.5, 120))
    result = fit(
        simulate(get_law("effective-data"), truth, N=n, D=d, U=u),
        "effective-data",
        bootstrap=0,
        loss="mse-log",
    )
    for name, value in truth.items():
        assert result.params[name].value == pytest.approx(value, rel=1e-5), name


@pytest.mark.parametrize("loss", ["huber-log", "mse", "mse-log"])
def test_no_other_optimiser_finds_a_lower_objective(loss):
    points = chinchilla(noise=0.01, seed=4)
    result = fit(points, loss=loss, bootstrap=0)
    law, objective = get_law("additive"), result.loss

    def value(q):
        f = law.evaluate(q[None], np.log([N / 1e8, D / 1e10]))[0][0]
        residual = np.log(f / points.L) if loss != "mse" else f - points.L
        return objective.report(residual, np.ones(len(N)))

    rng = np.random.default_rng(0)
    lowest = np.inf
    for _ in range(12):
        start = np.array([rng.uniform(1, 2), *rng.normal(0, 1, 1), 0.4, *rng.normal(0, 1, 1), 0.4])
        found = minimize(
            value, start, method="Nelder-Mead", options={"maxiter": 6000, "fatol": 1e-15, "xatol": 1e-9}
        )
        lowest = min(lowest, found.fun)
    assert result.objective <= lowest * (1 + 1e-9)
    assert result.objective >= lowest * (1 - 1e-3)


def test_starts_agree_on_an_easy_surface_and_the_count_is_reported():
    result = fit(chinchilla(noise=0.003), bootstrap=0, starts=32)
    assert result.starts == 32
    assert result.starts_at_optimum >= 28


def test_the_threshold_follows_the_noise_and_can_be_given():
    alone = chinchilla(noise=0.01)
    twice = simulate(get_law("additive"), CHINCHILLA, noise=0.01, seed=1, N=np.tile(N, 2), D=np.tile(D, 2))
    for points, source in ((alone, "residuals"), (twice, "repeated runs")):
        result = fit(points, bootstrap=0)
        assert result.loss.delta == pytest.approx(1.345 * 0.01, rel=0.25)
        assert f"1.345 x scatter of {source}" in result.objective_kind
    given = fit(alone, delta=1e-3, bootstrap=0)
    assert given.objective_kind == "sum huber(0.001) of log residuals"
    assert given.loss == Objective("huber-log", 1e-3)


def test_a_threshold_that_follows_the_noise_loses_little_against_least_squares():
    """With a threshold far below the noise E scatters by half as much again as with mean squares."""
    options = {"given": {"delta": 1e-3}, "following": {}, "squares": {"loss": "mse-log"}}
    floors = {name: [] for name in options}
    for seed in range(25):
        points = chinchilla(noise=0.03, seed=seed)
        for name, chosen in options.items():
            floors[name].append(fit(points, bootstrap=0, starts=8, **chosen).params["E"].value)
    errors = {name: np.std(values) for name, values in floors.items()}
    assert errors["following"] < 1.15 * errors["squares"]
    assert errors["given"] > 1.15 * errors["following"]


def test_huber_minimum_ignores_outliers_that_wreck_the_mean_square():
    points = chinchilla(noise=0.001)
    loss = points.L.copy()
    loss[[3, 20, 41]] *= 1.3
    spoiled = Points.from_arrays(N=N, D=D, L=loss)
    robust, square = (
        fit(spoiled, loss=kind, bootstrap=0).params["E"].value for kind in ("huber-log", "mse-log")
    )
    assert abs(robust - 1.69) < 0.01
    assert abs(square - 1.69) > 5 * abs(robust - 1.69)


def test_same_seed_same_numbers_and_another_seed_another_bootstrap():
    points = chinchilla(noise=0.003)
    first, second, third = (fit(points, bootstrap=30, seed=s) for s in (7, 7, 8))
    assert first.to_json() == second.to_json()
    assert not np.array_equal(first.samples, third.samples)


def test_weights_act_as_repeated_points():
    points = chinchilla(noise=0.01, seed=2)
    weight = np.random.default_rng(0).integers(0, 4, len(N)).astype(float)
    weighted = Points.from_arrays(N=N, D=D, L=points.L, weight=weight)
    repeated = points.select(np.repeat(np.arange(len(N)), weight.astype(int)))
    a, b = (fit(table, delta=1e-3, bootstrap=0) for table in (weighted, repeated))
    assert a.objective == pytest.approx(b.objective, rel=1e-9)
    np.testing.assert_allclose(a.values, b.values, rtol=1e-5)


def test_units_of_the_data_do_not_matter():
    points = chinchilla(noise=0.004)
    scaled = Points.from_arrays(N=N * 1e3, D=D / 128, L=points.L)
    a, b = fit(points, bootstrap=0), fit(scaled, bootstrap=0)
    for name in ("E", "alpha", "beta"):
        assert a.params[name].value == pytest.approx(b.params[name].value, rel=1e-6)
    assert b.params["A"].value == pytest.approx(
        a.params["A"].value * 1e3 ** a.params["alpha"].value, rel=1e-5
    )


def test_fixed_constants_stay_and_the_rest_follows():
    result = fit(chinchilla(), fixed={"A": 406.4, "E": 1.69}, bootstrap=10)
    assert result.params["A"].value == pytest.approx(406.4, rel=1e-12)
    assert result.params["A"].ci95 is None
    assert result.params["beta"].value == pytest.approx(0.28, rel=1e-8)


def test_derived_exponents_follow_from_the_fit():
    result = fit(chinchilla(noise=0.002), bootstrap=50)
    alpha, beta = result.params["alpha"].value, result.params["beta"].value
    assert result.derived["a"].value == pytest.approx(beta / (alpha + beta))
    assert result.derived["b"].value == pytest.approx(alpha / (alpha + beta))
    assert result.derived["gamma"].value == pytest.approx(alpha * beta / (alpha + beta))
    assert result.derived["a"].ci68[0] < 0.28 / 0.62 < result.derived["a"].ci95[1]


def test_four_sizes_with_little_data_say_what_they_cannot_know():
    # All runs are limited by the model: nothing in them depends on D.
    truth = {"E": 1.0, "A": 300.0, "alpha": 0.4, "B": 1e-3, "beta": 0.3}
    n, d = grid(np.geomspace(1e4, 3e5, 4), np.geomspace(1e6, 1e8, 8))
    points = simulate(get_law("additive"), truth, noise=0.01, seed=5, N=n, D=d)
    result = fit(points, bootstrap=100)
    assert result.params["alpha"].identified is True
    assert result.params["beta"].identified is False
    assert result.params["B"].identified is False
    assert result.params["beta"].reason
    assert any("not identified" in note and "beta" in note for note in result.warnings)
    assert '"identified": false' in result.to_json()


def test_a_floor_that_may_be_zero_is_not_identified():
    points = simulate(
        get_law("power", "N"),
        {"E": 0.05, "A": 30.0, "alpha": 0.12},
        noise=0.01,
        seed=1,
        N=np.geomspace(1e5, 1e8, 15),
    )
    result = fit(points, "power", variable="N", bootstrap=100)
    assert result.params["E"].identified is False
    assert "bound" in result.params["E"].reason


def test_without_bootstrap_nothing_is_claimed():
    result = fit(chinchilla(noise=0.01), bootstrap=0)
    assert result.params["E"].ci68 is None
    assert result.params["E"].identified is None
    assert any("no bootstrap" in note for note in result.warnings)
    with pytest.raises(InputError, match="no bootstrap"):
        result.predict_interval(N=1e7, D=1e9)


def test_prediction_interval_holds_the_prediction_and_widens_outside_the_data():
    result = fit(chinchilla(noise=0.01), bootstrap=100)
    n, d = np.array([1e8, 1e13]), np.array([1e10, 1e16])
    low, high = result.predict_interval(N=n, D=d)
    middle = result.predict(n, d)
    assert (low <= middle).all()
    assert (middle <= high).all()
    assert high[1] - low[1] > high[0] - low[0]


def test_json_round_trip_keeps_the_contract(tmp_path):
    result = fit(chinchilla(noise=0.01), bootstrap=20)
    path = tmp_path / "fit.json"
    text = result.to_json(path)
    assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]
    plain = result.to_dict()
    contract = "law approach n_points objective objective_kind params derived status starts starts_at_optimum"
    assert set(contract.split()) <= set(plain)
    assert plain["schema_version"] == 1
    assert set(plain["params"]["E"]) == {"value", "ci68", "ci95", "identified"}
    assert plain["objective_kind"] == result.loss.label
    assert plain["loss"] == {"kind": "huber-log", "delta": result.loss.delta}
    again = FitResult.from_json(path)
    assert again.to_json() == text
    np.testing.assert_array_equal(again.predict(N, D), result.predict(N, D))


def test_constants_are_attributes():
    result = fit(chinchilla(noise=0.003), bootstrap=0)
    assert result.alpha is result.params["alpha"]
    assert result.a is result.derived["a"]
    with pytest.raises(AttributeError, match="gama is neither an attribute nor one of E, A, alpha"):
        result.gama  # noqa: B018
    assert copy.copy(result).beta == pickle.loads(pickle.dumps(result)).beta


def test_json_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "fit.json"
    with pytest.raises(InputError, match=r"fit\.json: no such file"):
        FitResult.from_json(path)
    path.write_text('{"schema_version": 99}')
    with pytest.raises(InputError, match="schema_version must be 1, found 99"):
        FitResult.from_json(path)
    path.write_text('{"schema_version": 1, "approach": 3, "law": "additive"}')
    with pytest.raises(InputError, match="key variables is missing"):
        FitResult.from_json(path)
    path.write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        FitResult.from_json(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"law": "power", "variable": "Z"}, "variable: Z is not one of"),
        ({"loss": "l7"}, "objective: l7 is not one of huber-log"),
        ({"delta": -1.0}, "delta: must be positive"),
        ({"starts": 0}, "starts must be at least 1"),
        ({"fixed": {"gamma": 1.0}}, "gamma is not a constant of"),
        ({"fixed": {"alpha": -1.0}}, r"alpha must lie in \[0.001, 5\], found -1"),
        ({"unit": "groups"}, "column group is missing"),
        ({"law": "rejection"}, "use eval.tagging.law"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(InputError, match=message):
        fit(chinchilla(), **{"bootstrap": 0, **options})


def test_points_that_cannot_determine_a_law_are_refused():
    with pytest.raises(InputError, match="4 points cannot determine the 5 constants of L = E"):
        fit(chinchilla().select(np.arange(4)))
    with pytest.raises(InputError, match=r"all points have N = 3e\+06; law additive needs N to vary"):
        fit(chinchilla().select(np.arange(8)))


def test_huber_is_quadratic_inside_and_linear_outside():
    r = np.array([-2.0, -0.5, 0.0, 0.5, 2.0])
    np.testing.assert_allclose(huber(r, 1.0), [1.5, 0.125, 0.0, 0.125, 1.5])
    np.testing.assert_allclose(huber(r, np.inf), r**2 / 2)


@pytest.mark.parametrize("delta", [1e-3, 0.5, 3.0])
def test_huber_density_integrates_to_one_and_its_scale_is_the_maximum(delta):
    from scipy.integrate import quad

    area = 2 * quad(lambda z: float(np.exp(-huber(np.array(z), delta))), 0, np.inf, points=None, limit=500)[0]
    assert float(normalisation(delta)) == pytest.approx(area, rel=1e-6)
    r = np.random.default_rng(0).normal(size=(1, 50))
    w = np.ones((1, 50))
    scale = best_scale(r, w, delta)
    at = negative_log_likelihood(r, w, delta, scale)
    for factor in (0.99, 1.01):
        assert negative_log_likelihood(r, w, delta, scale * factor) > at


def test_log_likelihood_of_an_infinite_threshold_is_the_gaussian():
    from scipy.stats import norm

    r = np.random.default_rng(1).normal(size=40)
    expected = norm.logpdf(r, scale=np.sqrt(np.mean(r**2))).sum()
    assert log_likelihood(r, np.ones(40), np.inf) == pytest.approx(expected, rel=1e-12)
    assert log_likelihood(r, np.ones(40), 50.0) == pytest.approx(expected, rel=1e-5)
