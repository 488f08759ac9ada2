"""Claims: each verdict is reached from measurements made to deserve it, and none without power."""

from dataclasses import replace

import numpy as np
import pytest

from eval.fidelity.loss import loss_vs_fidelity
from eval.literature.claims import CLAIMS, Findings, judge
from eval.literature.constants import constants_table
from eval.literature.values import CONSTANTS, USLU, VIGL, published
from eval.literature.verdicts import compare, verdict_of
from eval.results import Estimate
from eval.scaling import Points, class_levels, fit, get_law, grid, overfitting_threshold, simulate, window
from eval.scaling.misfit import Misfit
from eval.scaling.plan import Frontier
from eval.scaling.repetition.fit import repeated_data
from eval.scaling.repetition.inputs import compare_inputs
from eval.tagging.law import fit_rejection_law

SINGLE = {"E": 0.32, "A": 11.27, "alpha": 0.44, "B": 7.22, "beta": 0.22}
SIZES = np.geomspace(1e3, 1e7, 9)


def measured(values, noise, seed=1, sizes=SIZES, data=(1e4, 1e8)):
    n, d = grid(sizes, np.geomspace(*data, 9))
    return fit(simulate(get_law("additive"), values, noise=noise, seed=seed, N=n, D=d, C=240 * n * d))


def repeated(beta=0.22, by_size=0.0, factor=10.0, single=None):
    n, u = grid(SIZES[1:6], np.geomspace(1e4, 1e7, 7))
    rng = np.random.default_rng(0)
    loss = 0.32 + 5.79 / u**beta - by_size * np.log10(n / 1e5)
    loss = loss * np.exp(rng.normal(0, 2e-3, len(n)))
    # At each loss a given multiple of the least compute that reaches it.
    c = 240 * n * u if factor is None else factor * Frontier.of(single).flops_for(loss[:, None])[:, 0]
    return repeated_data(Points.from_arrays(N=n, U=u, L=loss, C=c), np.ones(len(n), dtype=bool), single)


def of_runs(n_runs):
    """A law fitted to runs of nine points each, as studies write them."""
    n, d = grid(np.geomspace(1e3, 1e7, n_runs), np.geomspace(1e4, 1e8, 9))
    points = simulate(get_law("additive"), SINGLE, noise=3e-3, seed=1, N=n, D=d)
    return fit(replace(points, group=np.array([f"run {size:.0f}" for size in n])))


def by_key(findings):
    return {j.claim.key: j for j in judge(findings)}


@pytest.fixture(scope="module")
def paper():
    """A study in which every claim on tagging holds and is well measured."""
    single = measured(SINGLE, 3e-3)
    n, u = grid(np.geomspace(1e2, 1e6, 25), np.geomspace(1e3, 1e7, 9))
    step = np.linspace(0, 1, 20)
    curves = [
        1 + np.exp(-8 * step) + (a > 2 * b**0.47) * np.maximum(step - 0.5, 0)
        for a, b in zip(n, u, strict=True)
    ]
    rng, loss = np.random.default_rng(0), np.linspace(0.6, 1.6, 25)
    mean = 2e4 * np.exp(-5 * loss) + 4
    data = np.repeat(np.geomspace(1e4, 1e8, 9), 3)
    tables = {
        name: simulate(get_law("power", "U"), {"E": e, "B": 6.0, "beta": 0.22}, noise=2e-3, seed=i, U=data)
        for i, (name, e) in enumerate(
            {"3 features, 40 particles": 0.74, "21 features, 128 particles": 0.32}.items()
        )
    }
    return Findings(
        tagging=single,
        isoflop_a=Estimate(0.52, (0.5, 0.54), (0.48, 0.56), True),
        repetition=repeated(single=single),
        threshold=overfitting_threshold(n, u, curves),
        inputs=compare_inputs(tables),
        rejection={"Hbb": fit_rejection_law(loss, rng.binomial(200_000, 1 / mean), 200_000, name="Hbb")},
    )


def test_a_study_in_which_all_holds_supports_all_it_measured(paper):
    found = by_key(replace(paper, same_jets=True))
    wanted = [
        "alpha",
        "beta",
        "a",
        "L_inf",
        "lambda",
        "independent of N",
        "beta_rep",
        "cost",
        "inputs",
        "R(L)",
    ]
    assert {key: found[key].verdict for key in wanted} == dict.fromkeys(wanted, "supports"), [
        found[key].why for key in wanted
    ]
    assert found["a from scratch"].verdict == "supports"


def test_nothing_measured_tells_nothing():
    for judgement in judge(Findings()):
        assert judgement.verdict == "cannot tell"
        assert judgement.why
        assert set(judgement.to_dict()) >= {"claim", "source", "verdict", "why", "margin"}


def test_floors_of_other_jets_are_never_compared(paper):
    judgement = by_key(paper)["L_inf"]
    assert judgement.verdict == "cannot tell"
    assert "other jets" in judgement.why


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [
        ((0.01, (-0.02, 0.04)), "supports"),
        ((0.03, (0.02, 0.04)), "supports"),  # resolved, and too small to matter
        ((0.01, (-0.3, 0.3)), "cannot tell"),  # compatible only for lack of power
        ((0.2, (0.1, 0.3)), "contradicts"),
        ((0.2, (0.02, 0.4)), "contradicts"),
        ((0.09, (0.02, 0.16)), "cannot tell"),  # resolved, but it may be smaller than what matters
        ((0.2, (-0.01, 0.4)), "cannot tell"),
        ((0.0, (0.0, np.inf)), "cannot tell"),
    ],
)
def test_the_rule(difference, verdict):
    value, ends = difference
    assert verdict_of(Estimate(value, ends, ends, True), 0.1) == verdict
    assert verdict_of(Estimate(value, ends, ends, False, "why"), 0.1) == "cannot tell"
    assert verdict_of(Estimate(value), 0.1) == "cannot tell"


def test_published_errors_widen_the_difference():
    ours = Estimate(0.54, (0.53, 0.55), (0.52, 0.56), True)
    verdict, why = compare("alpha", ours, published("alpha"), 0.11)
    assert verdict == "cannot tell"  # resolved, but perhaps by less than the margin
    assert "0.44 [0.4, 0.48] published" in why
    assert compare("alpha", Estimate(0.7, (0.69, 0.71), (0.68, 0.72), True), published("alpha"), 0.11)[0] == (
        "contradicts"
    )


def test_other_truths_contradict(paper):
    single = measured(SINGLE | {"alpha": 0.7, "beta": 0.5, "B": 40.0}, 3e-3)
    found = by_key(replace(paper, tagging=single))
    assert found["alpha"].verdict == found["beta"].verdict == "contradicts"
    steeper = repeated(beta=0.4, factor=None, single=paper.tagging)
    assert by_key(replace(paper, repetition=steeper))["beta_rep"].verdict == "contradicts"
    falling = repeated(by_size=0.1, factor=None, single=paper.tagging)
    assert by_key(replace(paper, repetition=falling))["independent of N"].verdict == "contradicts"
    dear = repeated(factor=200, single=paper.tagging)
    assert by_key(replace(paper, repetition=dear))["cost"].verdict == "contradicts"
    data = np.repeat(np.geomspace(1e4, 1e8, 9), 3)
    tables = {
        str(beta): simulate(get_law("power", "U"), {"E": 0.3, "B": 6.0, "beta": beta}, noise=2e-3, U=data)
        for beta in (0.15, 0.35)
    }
    assert by_key(replace(paper, inputs=compare_inputs(tables)))["inputs"].verdict == "contradicts"
    loss = np.linspace(0.6, 1.6, 25)
    wild = 2e4 * np.exp(-5 * loss + 0.5 * np.sin(12 * loss)) + 4
    kept = np.random.default_rng(0).binomial(2_000_000, 1 / wild)
    law = fit_rejection_law(loss, kept, 2_000_000, name="Hbb")
    assert by_key(replace(paper, rejection={"Hbb": law}))["R(L)"].verdict == "contradicts"


def test_a_small_noisy_study_cannot_tell(paper):
    """What a laptop has: a decade of sizes and of data, losses to 2 %."""
    small = measured(SINGLE, 2e-2, sizes=np.geomspace(1e3, 3e4, 4), data=(1e4, 1e5))
    found = by_key(replace(paper, tagging=small))
    assert found["beta"].verdict == "cannot tell"
    loss = np.linspace(0.8, 1.6, 6)
    kept = np.random.default_rng(1).binomial(500, 1 / (2e4 * np.exp(-5 * loss) + 4))
    law = fit_rejection_law(loss, kept, 500, name="Hbb")
    assert by_key(replace(paper, rejection={"Hbb": law}))["R(L)"].verdict == "cannot tell"
    flat = fit_rejection_law(np.linspace(1, 1.1, 9), np.full(9, 400), 4000, name="Hbb")
    assert by_key(replace(paper, rejection={"Hbb": flat}))["R(L)"].verdict == "cannot tell"


def test_claims_on_generation():
    strong_in_size = measured({"E": 3.0, "A": 20.0, "alpha": 0.3, "B": 5.0, "beta": 0.6}, 1e-3)
    losses, swd = [4.0, 3.9, 3.8, 3.7, 3.6], [0.5, 0.4, 0.3, 0.2, 0.1]
    relation = loss_vs_fidelity(losses, swd, [0.01] * 5, 0.02, 0.005, n_bootstrap=100)
    narrow = window(class_levels([1] * 100), strong_in_size)  # ln 100 = 4.6 over a floor of 3
    found = by_key(
        Findings(generation=strong_in_size, loss_fidelity=relation, windows={"generation": narrow})
    )
    assert found["generation: N"].verdict == "supports"
    assert found["generation: D"].verdict == "supports"
    assert found["generation: SWD"].verdict == "supports"
    assert found["generation: window"].verdict == "supports"
    moving = replace(narrow, sensitivity={"without the smallest D": Estimate(2.0, (1.9, 2.1), (1.8, 2.2))})
    judged = by_key(Findings(generation=strong_in_size, windows={"generation": moving}))["generation: window"]
    assert judged.verdict == "cannot tell"
    assert judged.why.endswith("to 0.61 over all choices of points: this range holds one half")
    strong_in_data = measured({"E": 1.0, "A": 20.0, "alpha": 0.9, "B": 9.0, "beta": 0.15}, 1e-3)
    wide = window(class_levels([1] * 100), strong_in_data)
    found = by_key(Findings(generation=strong_in_data, windows={"generation": wide}))
    assert found["generation: D"].verdict == "contradicts"
    assert found["generation: window"].verdict == "contradicts"


def test_size_that_changes_nothing_supports_no_law_of_size():
    """The amplitude of a fit cannot be negative: its interval alone would always lie above zero."""
    n, d = grid(np.geomspace(1e4, 1e7, 6), np.geomspace(5e3, 2e5, 8))
    verdicts = []
    for seed in range(4):
        loss = simulate(
            get_law("power", "D"), {"E": 3.0, "B": 20.0, "beta": 0.5}, noise=3e-3, seed=seed, D=d
        ).L
        flat = fit(Points.from_arrays(N=n, D=d, L=loss), bootstrap=100)
        verdicts.append(by_key(Findings(generation=flat))["generation: N"].verdict)
    assert "supports" not in verdicts
    assert "contradicts" in verdicts


def test_a_little_weaker_is_not_much_weaker():
    """Terms of 0.09 and 0.10 nats at the largest runs, of one exponent, so that falls have the same ratio."""
    near = measured({"E": 3.0, "A": 0.1 * 1e7**0.3, "alpha": 0.3, "B": 0.09 * 1e8**0.3, "beta": 0.3}, 1e-4)
    found = by_key(Findings(generation=near))["generation: D"]
    assert found.verdict == "cannot tell"
    assert "ratio 0.9" in found.why


def test_the_law_of_all_sizes_stands_for_the_full_inputs(paper):
    """The comparison of inputs has a fit of one width for them, too."""
    rows = {(r.published.key, r.published.variant): r.measured for r in constants_table(paper)}
    full = "21 features, 128 particles"
    assert rows["beta_rep", full] is paper.repetition.fit.params["beta"]
    assert rows["beta_rep", full] is not paper.inputs.fits[full].params["beta"]


def test_two_absent_terms_cannot_be_compared():
    strong = measured({"E": 3.0, "A": 20.0, "alpha": 0.3, "B": 5.0, "beta": 0.6}, 1e-3)
    samples = strong.samples.copy()
    samples[:, [1, 3]] = 1e-300  # A and B
    params = dict(strong.params) | {"A": Estimate(1e-300), "B": Estimate(1e-300)}
    nothing = by_key(Findings(generation=replace(strong, params=params, samples=samples)))
    assert nothing["generation: D"].verdict == "cannot tell"
    assert nothing["generation: N"].verdict == "contradicts"


def test_another_task_is_not_compared_even_on_the_same_jets(paper):
    rows = constants_table(replace(paper, same_jets=True))
    comparable = {(r.published.key, r.published.source): r.comparable for r in rows}
    assert comparable["L_inf", VIGL]
    assert not comparable["beta", "ATL-SOFT-PUB-2026-002"]


def test_every_measured_constant_stands_beside_its_published_one(paper):
    rows = constants_table(paper)
    shown = {(r.published.key, r.published.source, r.published.variant) for r in rows}
    assert ("alpha", VIGL, "") in shown
    assert ("beta_rep", VIGL, "3 features, 40 particles") in shown
    assert ("a_isoflop", USLU, "from scratch") in shown
    assert not any(source == USLU and variant.startswith("pre-trained") for _, source, variant in shown)
    comparable = {(r.published.key, r.published.source): r.comparable for r in rows}
    assert comparable["alpha", VIGL]
    assert not comparable["L_inf", VIGL]
    assert not comparable["beta", "ATL-SOFT-PUB-2026-002"]
    assert constants_table(Findings()) == []


def test_published_numbers_are_consistent():
    """The compute-optimal exponents that follow from alpha and beta; intervals that hold their values."""
    alpha, beta = published("alpha").value, published("beta").value
    assert published("a").value == pytest.approx(beta / (alpha + beta), abs=0.01)
    assert published("gamma").value == pytest.approx(alpha * beta / (alpha + beta), abs=0.01)
    for constant in CONSTANTS:
        if constant.low is not None:
            assert constant.low < constant.value < constant.high
    assert len({(c.key, c.source, c.variant) for c in CONSTANTS}) == len(CONSTANTS)
    assert len({claim.key for claim in CLAIMS}) == len(CLAIMS)
    with pytest.raises(KeyError, match="has no delta"):
        published("delta")


def test_few_runs_of_many_points_give_no_verdict():
    found = by_key(Findings(tagging=of_runs(6), generation=of_runs(6)))
    assert {j.verdict for j in found.values()} == {"cannot tell"}
    assert "fewer than 8 runs were fitted" in found["alpha"].why
    assert by_key(Findings(generation=of_runs(9)))["generation: N"].verdict == "supports"


def test_a_law_that_misses_its_points_is_not_judged_by(paper):
    found = by_key(replace(paper, misfits={"tagging": Misfit(0.09, 0.04, 0.3)}))
    assert {found[key].verdict for key in ("alpha", "beta_rep", "cost")} == {"cannot tell"}
    assert "misses its points by 9.0% (RMS of ln L), seeds scatter by 4.0%" in found["alpha"].why
    assert by_key(replace(paper, misfits={"tagging": Misfit(0.05, 0.04, 0.3)}))["alpha"].verdict == "supports"


def test_a_law_without_repeated_seeds_is_not_judged_by(paper):
    found = by_key(replace(paper, misfits={"tagging": Misfit(0.001, None, 0.3)}))
    assert found["alpha"].verdict == "cannot tell"
    assert "no run was repeated with another seed" in found["alpha"].why
