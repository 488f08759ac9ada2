"""Published constants, their intervals, and measured ones beside them."""

from dataclasses import replace

import numpy as np
import pytest

from eval.common.results import Estimate
from eval.literature.constants import constants_table
from eval.literature.findings import Findings
from eval.literature.values import CONSTANTS, USLU, VIGL, published
from eval.scaling import Points, grid
from eval.scaling.repetition.fit import repeated_data
from eval.scaling.repetition.inputs import compare_inputs

FULL = "21 features, 128 particles"


def column(beta=0.22, seed=0, sizes=3):
    n, u = grid(np.geomspace(1e4, 1e6, sizes), np.geomspace(1e4, 1e7, 7))
    noise = np.random.default_rng(seed).normal(0, 2e-3, len(n))
    return Points.from_arrays(N=n, U=u, L=(0.32 + 5.79 / u**beta) * np.exp(noise))


@pytest.fixture(scope="module")
def findings():
    single = {
        name: Estimate(value)
        for name, value in {"E": 0.3, "A": 9.0, "alpha": 0.4, "B": 7.0, "beta": 0.2}.items()
    }
    repeated = repeated_data(column(), np.ones(21, dtype=bool))
    return Findings(
        tagging={**single, "a": Estimate(0.33), "gamma": Estimate(0.13)},
        isoflop_a=Estimate(0.5),
        repetition=repeated,
        generation_repetition=repeated,
        inputs=compare_inputs({FULL: column(seed=1), "3 features, 40 particles": column(seed=2)}),
    )


def test_every_measured_constant_stands_beside_its_published_one(findings):
    rows = constants_table(findings)
    shown = {(r.published.key, r.published.source, r.published.variant) for r in rows}
    assert {("alpha", VIGL, ""), ("beta_rep", VIGL, "3 features, 40 particles")} <= shown
    assert ("a_isoflop", USLU, "from scratch") in shown
    assert not any(source == USLU and variant.startswith("pre-trained") for _, source, variant in shown)
    comparable = {(r.published.key, r.published.source): r.comparable for r in rows}
    assert comparable["alpha", VIGL]
    assert not comparable["L_inf", VIGL]
    assert constants_table(Findings()) == []


def test_another_task_is_not_compared_even_on_the_same_jets(findings):
    rows = constants_table(replace(findings, same_jets=True))
    comparable = {(r.published.key, r.published.source): r.comparable for r in rows}
    assert comparable["L_inf", VIGL]
    assert not comparable["beta", "ATL-SOFT-PUB-2026-002"]


def test_the_law_of_all_sizes_stands_for_the_full_inputs(findings):
    """The comparison of inputs has a fit of one width for them, too."""
    rows = {(r.published.key, r.published.variant): r.measured for r in constants_table(findings)}
    assert rows["beta_rep", FULL] is findings.repetition.fit.params["beta"]
    assert rows["beta_rep", FULL] is not findings.inputs.fits[FULL].params["beta"]


def test_repeated_data_of_generators_are_measured_without_a_published_number(findings):
    rows = [r for r in constants_table(findings) if r.published.variant == "generation"]
    assert {r.published.key for r in rows} == {"beta_rep", "size slope"}
    for row in rows:
        assert str(row.published) == "no published number"
        assert not row.comparable


def test_published_numbers_are_consistent():
    """The compute-optimal exponents that follow from alpha and beta; intervals that hold their values."""
    alpha, beta = published("alpha").value, published("beta").value
    assert published("a").value == pytest.approx(beta / (alpha + beta), abs=0.01)
    assert published("gamma").value == pytest.approx(alpha * beta / (alpha + beta), abs=0.01)
    for constant in CONSTANTS:
        if constant.low is not None:
            assert constant.low < constant.value < constant.high
    assert len({(c.key, c.source, c.variant) for c in CONSTANTS}) == len(CONSTANTS)
    with pytest.raises(KeyError, match="has no delta"):
        published("delta")


def test_the_interval_of_a_follows_from_those_of_alpha_and_beta():
    """Monte Carlo over independent Gaussian exponents."""
    rng = np.random.default_rng(0)
    alpha, beta = (
        c.value + rng.standard_normal(100_000) * (c.high - c.low) / 3.92
        for c in (published("alpha"), published("beta"))
    )
    low, high = np.quantile(beta / (alpha + beta), [0.025, 0.975])
    a = published("a")
    assert (a.low, a.high) == pytest.approx((low, high), abs=0.002)
    assert str(a) == "0.33 [0.311, 0.356]"
