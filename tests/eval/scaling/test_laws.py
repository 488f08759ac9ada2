"""The laws themselves: published values, gradients, covariance under a change of units."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.scaling import InputError, get_law, repetition_gain
from eval.scaling.laws.law import project

BASE = {
    "E": np.exp(0.6254804),
    "A": np.exp(6.255414),
    "alpha": 0.3526596,
    "B": np.exp(7.3049974),
    "beta": 0.3526596,
}
CASES = [
    ("additive", None, {"E": 1.69, "A": 406.4, "alpha": 0.34, "B": 410.7, "beta": 0.28}),
    ("additive-tied", None, {"E": 1.69, "A": 406.4, "alpha": 0.31, "B": 410.7}),
    ("power", "N", {"E": 1.69, "A": 406.4, "alpha": 0.34}),
    ("power", "C", {"E": 1.69, "K": 1e3, "gamma": 0.15}),
    ("power-nofloor", "D", {"B": 30.0, "beta": 0.1}),
    ("logarithmic", "N", {"a": 6.0, "b": 0.1}),
    ("kaplan", None, {"N_c": 6.4e13, "D_c": 1.8e13, "alpha_N": 0.076, "alpha_D": 0.103}),
    ("broken", "N", {"E": 1.2, "b": 60.0, "c0": 0.25, "c1": 0.2, "d": 3e7, "f": 0.6}),
    ("m4", "D", {"E": 1.7, "E0": 9.0, "alpha": 0.6, "B": 4e3, "beta": 0.5}),
    ("effective-data", None, {**BASE, "R_D": 15.0, "R_N": 5.3}),
    ("rejection", None, {"A": 4e3, "B": -6.0, "C": 3.0}),
]
X = {
    "N": np.geomspace(2e6, 4e9, 7),
    "D": np.geomspace(8e11, 3e8, 7),
    "U": np.array([2e9, 9e11, 1e10, 4e8, 1e9, 1e8, 1e8]),
    "C": np.geomspace(1e17, 1e22, 7),
    "L": np.linspace(0.4, 0.9, 7),
}


def given_law(name, variable):
    law = get_law(name, variable)
    return law, {v: X[v] for v in law.variables}


@pytest.mark.parametrize(("name", "variable", "values"), CASES)
def test_gradient_agrees_with_finite_differences(name, variable, values):
    law, x = given_law(name, variable)
    gradient = law.gradient(values, **x)
    for i, key in enumerate(law.names):
        step = 1e-5 * abs(values[key])
        up = law.predict({**values, key: values[key] + step}, **x)
        down = law.predict({**values, key: values[key] - step}, **x)
        np.testing.assert_allclose(
            gradient[i], (up - down) / (2 * step), rtol=2e-5, atol=1e-9 * np.abs(gradient[i]).max()
        )


@pytest.mark.parametrize(("name", "variable", "values"), CASES)
def test_a_change_of_units_moves_coordinates_as_centring_says(name, variable, values):
    law, x = given_law(name, variable)
    u = law.transform(np.stack(list(x.values())))
    centre = law.centre(u, np.ones(u.shape[1]))
    matrix, shift = law.centring(centre)
    natural = law.coordinates([values[k] for k in law.names])
    centred = np.linalg.solve(matrix, natural - shift)
    here, _ = law.evaluate(centred[None], u - centre[:, None])
    np.testing.assert_allclose(here[0], law.predict(values, **x), rtol=1e-10)


@pytest.mark.parametrize(("name", "variable", "values"), CASES)
def test_each_law_names_its_parameters_and_says_what_they_mean(name, variable, values):
    law = get_law(name, variable)
    assert set(law.names) == set(values)
    assert all(p.meaning for p in law.parameters)
    assert law.source.startswith("arXiv:")
    with pytest.raises((AttributeError, TypeError)):
        law.source = "elsewhere"


@pytest.mark.parametrize(("name", "variable", "values"), CASES)
def test_the_terms_of_a_law_are_those_of_its_formula(name, variable, values):
    """E plus the terms is the law if it is said to be separable, and only then."""
    law, x = given_law(name, variable)
    terms = sum(values[term.amplitude] / x[term.variable] ** values[term.exponent] for term in law.terms)
    if law.separable:
        np.testing.assert_allclose(values["E"] + terms, law.predict(values, **x), rtol=1e-12)
    elif law.terms and "E" in values:
        with np.errstate(all="ignore"):
            assert not np.allclose(values["E"] + terms, law.predict(values, **x), rtol=1e-6)


@pytest.mark.parametrize("case", [CASES[0], CASES[1], CASES[6]])
def test_a_law_of_size_and_data_is_a_power_of_a_sum_of_powers(case):
    name, _, values = case
    law, x = given_law(name, None)
    s = law.power_sum({key: np.array([value]) for key, value in values.items()})
    bracket = s.floor + np.exp(s.log_a) / x["N"] ** s.alpha + np.exp(s.log_b) / x["D"] ** s.beta
    np.testing.assert_allclose(bracket**s.power, law.predict(values, **x), rtol=1e-10)
    with pytest.raises(InputError, match="has no N and D to trade"):
        get_law("power", "N").power_sum({"E": np.ones(1)})


def test_laws_are_equal_if_their_data_are():
    assert get_law("additive") == get_law("additive") != get_law("additive-tied")
    assert get_law("power", "D") != get_law("power", "U")


def test_effective_data_gives_the_published_losses():
    # Muennighoff et al. 2023, fitted (R_D*, R_N*), base law of their notebook.
    law = get_law("effective-data")
    values = {**BASE, "R_D": 15.387756, "R_N": 5.309743}
    loss = law.predict(values, N=[6.34e9, 8.67e9], D=[242e9, 178e9], U=25e9)
    np.testing.assert_allclose(loss, [2.2256440890, 2.2269634075], atol=5e-11)


def test_effective_data_without_repetition_is_the_additive_law_below_the_optimal_size():
    additive = {k: BASE[k] for k in ("E", "A", "alpha", "B", "beta")}
    once = get_law("effective-data").predict({**BASE, "R_D": 3.0, "R_N": 2.0}, N=1e7, D=1e10, U=1e10)
    assert once == pytest.approx(float(get_law("additive").predict(additive, N=1e7, D=1e10)), rel=1e-12)


def test_kaplan_reduces_to_its_one_variable_limits():
    law = get_law("kaplan")
    values = CASES[6][2]
    assert float(law.predict(values, N=1e9, D=1e30)) == pytest.approx((6.4e13 / 1e9) ** 0.076, rel=1e-6)
    assert float(law.predict(values, N=1e60, D=1e9)) == pytest.approx((1.8e13 / 1e9) ** 0.103, rel=1e-4)


def test_m4_satisfies_its_defining_equation():
    law, values = get_law("m4", "D"), CASES[8][2]
    loss = law.predict(values, D=X["D"])
    left = (loss - values["E"]) / (values["E0"] - loss) ** values["alpha"]
    np.testing.assert_allclose(left, values["B"] * X["D"] ** -values["beta"], rtol=1e-9)
    assert (np.diff(law.predict(values, D=np.geomspace(1, 1e14, 200))) < 0).all()


def test_broken_law_has_the_two_slopes_of_its_definition():
    law, values = get_law("broken", "N"), {**CASES[7][2], "E": 0.0}

    def slope(n):
        return float(np.diff(np.log(law.predict(values, N=[n, n * 1.001])))[0] / np.log(1.001))

    assert slope(1e2) == pytest.approx(-0.25, abs=1e-4)
    assert slope(1e14) == pytest.approx(-0.45, abs=1e-4)


@given(
    D=st.floats(1e3, 1e9),
    B_no=st.floats(1, 100),
    beta_no=st.floats(0.1, 0.8),
    B_rep=st.floats(1, 100),
    beta_rep=st.floats(0.1, 0.8),
)
@settings(deadline=None, max_examples=50)
def test_repetition_gain_equates_the_two_losses(D, B_no, beta_no, B_rep, beta_rep):
    omega = float(repetition_gain(D, B_no=B_no, beta_no=beta_no, B_rep=B_rep, beta_rep=beta_rep))
    assert B_no / (omega * D) ** beta_no == pytest.approx(B_rep / D**beta_rep, rel=1e-9)


@given(seed=st.integers(0, 10_000), m=st.integers(1, 3))
@settings(deadline=None, max_examples=60)
def test_projection_agrees_with_scipys_nonnegative_least_squares(seed, m):
    from scipy.optimize import nnls

    rng = np.random.default_rng(seed)
    basis, y, weight = rng.normal(size=(1, m, 12)) + 0.5, rng.normal(size=12) + 0.3, rng.random(12) + 0.1
    ours = project(basis, y, weight)[0]
    expected, _ = nnls((basis[0] * np.sqrt(weight)).T, y * np.sqrt(weight))
    np.testing.assert_allclose(ours, expected, atol=1e-8)


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(InputError, match=r"law: cubic is not one of additive, .*m4"):
        get_law("cubic")
    with pytest.raises(InputError, match="law power: needs a variable, one of N, D, C, U"):
        get_law("power")
    with pytest.raises(InputError, match="law additive: takes no variable, found N"):
        get_law("additive", "N")
    with pytest.raises(InputError, match="variable: Q is not one of N, D, C, U"):
        get_law("power", "Q")
    with pytest.raises(InputError, match="law additive: needs N, D; D is missing"):
        get_law("additive").predict(CASES[0][2], N=1.0)
