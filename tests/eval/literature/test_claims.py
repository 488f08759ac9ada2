"""Claims: each verdict is reached from measurements made to deserve it, and none without power."""

from dataclasses import replace

import numpy as np
import pytest

from eval.common.results import Estimate
from eval.fidelity.loss import loss_vs_fidelity
from eval.literature.claims import CLAIMS, judge
from eval.literature.findings import Findings
from eval.literature.tagging import scatter_interval
from eval.literature.verdicts import Verdict
from eval.scaling import Points, fit, get_law, grid, overfitting_threshold, simulate
from eval.scaling.plan import Frontier
from eval.scaling.repetition.fit import repeated_data
from eval.scaling.repetition.inputs import compare_inputs
from eval.scaling.steps import paired_steps
from eval.tagging.law import fit_rejection_law

SINGLE = {"E": 0.32, "A": 11.27, "alpha": 0.44, "B": 7.22, "beta": 0.22}
TOKENS = {"E": 3.0, "A": 20.0, "alpha": 0.3, "B": 5.0, "beta": 0.6}
SIZES = np.geomspace(1e3, 1e7, 9)


def constants(law):
    return {**law.params, **law.derived}


def measured(values, noise, seed=1, sizes=SIZES, data=(1e4, 1e8)):
    n, d = grid(sizes, np.geomspace(*data, 9))
    return fit(simulate(get_law("additive"), values, noise=noise, seed=seed, N=n, D=d, C=240 * n * d))


def steps_of(values, noise, seeds=3, sizes=SIZES):
    """Steps of runs of several seeds."""
    n, d = grid(sizes, 1e4 * 2.0 ** np.arange(8))
    tables = [
        simulate(get_law("additive"), values, noise=noise, seed=seed, N=n, D=d) for seed in range(seeds)
    ]
    return paired_steps(
        Points.from_arrays(
            N=np.tile(n, seeds),
            D=np.tile(d, seeds),
            L=np.concatenate([t.L for t in tables]),
            seed=np.repeat(np.arange(seeds).astype(str), len(n)),
        )
    )


def repeated(beta=0.22, by_size=0.0, factor=10.0, single=None):
    n, u = grid(SIZES[1:6], np.geomspace(1e4, 1e7, 7))
    rng = np.random.default_rng(0)
    loss = 0.32 + 5.79 / u**beta - by_size * np.log10(n / 1e5)
    loss = loss * np.exp(rng.normal(0, 2e-3, len(n)))
    # At each loss a given multiple of the least compute that reaches it.
    c = 240 * n * u if factor is None else factor * Frontier.of(single).flops_for(loss[:, None])[:, 0]
    return repeated_data(Points.from_arrays(N=n, U=u, L=loss, C=c), np.ones(len(n), dtype=bool), single)


def rejections(scatter=0.0, background=200_000, taggers=25, seed=0, bootstrap=100):
    """R(L) of taggers whose ln R scatters about the law by more than counting does."""
    rng, loss = np.random.default_rng(seed), np.linspace(0.6, 1.6, taggers)
    mean = (2e4 * np.exp(-5 * loss) + 4) * np.exp(scatter * rng.standard_normal(taggers))
    kept = rng.binomial(background, 1 / np.maximum(mean, 1))
    return fit_rejection_law(loss, kept, background, bootstrap=bootstrap, name="Hbb")


def by_key(findings, power=None):
    return {j.claim.key: j for j in judge(findings, power)}


@pytest.fixture(scope="module")
def single():
    return measured(SINGLE, 3e-3)


@pytest.fixture(scope="module")
def paper(single):
    """A study in which every claim on tagging holds and is well measured."""
    n, u = grid(np.geomspace(1e2, 1e6, 25), np.geomspace(1e3, 1e7, 9))
    step = np.linspace(0, 1, 20)
    curves = [
        1 + np.exp(-8 * step) + (a > 2 * b**0.47) * np.maximum(step - 0.5, 0)
        for a, b in zip(n, u, strict=True)
    ]
    data = np.repeat(np.geomspace(1e4, 1e8, 9), 3)
    floors = {"3 features, 40 particles": 0.74, "21 features, 128 particles": 0.32}
    tables = {
        name: simulate(get_law("power", "U"), {"E": e, "B": 6.0, "beta": 0.22}, noise=2e-3, seed=i, U=data)
        for i, (name, e) in enumerate(floors.items())
    }
    return Findings(
        tagging=constants(single),
        tagging_steps=steps_of(SINGLE, 3e-3),
        isoflop_a=Estimate(0.52, (0.5, 0.54), (0.48, 0.56), True),
        repetition=repeated(single=single),
        threshold=overfitting_threshold(n, u, curves),
        inputs=compare_inputs(tables),
        rejection={"Hbb": rejections()},
    )


def test_a_study_in_which_all_holds_supports_all_it_measured(paper):
    found = by_key(replace(paper, same_jets=True))
    for key in (claim.key for claim in CLAIMS if claim.task == "tagging"):
        assert found[key].verdict is Verdict.SUPPORTS, found[key].why
        assert key == "L_inf" or found[key].outcome.interval is not None


def test_nothing_measured_tells_nothing():
    for judgement in judge(Findings()):
        wanted = (
            Verdict.NOT_APPLICABLE
            if judgement.claim.key in ("L_inf", "generation: window")
            else Verdict.CANNOT_TELL
        )
        assert judgement.verdict is wanted
        assert judgement.why
        assert set(judgement.to_dict()) >= {
            "key",
            "claim",
            "source",
            "verdict",
            "why",
            "margin",
            "power",
            "interval",
        }


def test_what_belongs_to_other_jets_or_tokenizers_is_not_judged(paper):
    found = by_key(replace(paper, window=Estimate(11.0, ci95=(10.0, 12.0))))
    assert found["L_inf"].verdict is Verdict.NOT_APPLICABLE
    assert "other jets" in found["L_inf"].why
    assert found["generation: window"].verdict is Verdict.NOT_APPLICABLE
    assert "11 [10, 12] nats per jet" in found["generation: window"].why


def test_a_study_without_power_did_not_test(paper):
    found = by_key(paper, {"alpha": 0.3, "beta": 0.8, "L_inf": 0.0})
    assert found["alpha"].verdict is Verdict.NOT_TESTED
    assert found["alpha"].outcome.verdict is Verdict.SUPPORTS
    assert "with probability 0.30 only" in found["alpha"].why
    assert found["beta"].verdict is Verdict.SUPPORTS
    assert found["L_inf"].verdict is Verdict.NOT_APPLICABLE
    assert found["a"].power is None
    assert found["alpha"].to_dict()["power"] == 0.3


def test_other_truths_contradict(paper, single):
    other = measured(SINGLE | {"alpha": 0.7, "beta": 0.5, "B": 40.0}, 3e-3)
    found = by_key(replace(paper, tagging=constants(other)))
    assert found["alpha"].verdict == found["beta"].verdict == "contradicts"
    steeper = repeated(beta=0.4, factor=None, single=single)
    assert by_key(replace(paper, repetition=steeper))["beta_rep"].verdict == "contradicts"
    falling = repeated(by_size=0.1, factor=None, single=single)
    assert by_key(replace(paper, repetition=falling))["independent of N"].verdict == "contradicts"
    dear = repeated(factor=200, single=single)
    assert by_key(replace(paper, repetition=dear))["cost"].verdict == "contradicts"
    data = np.repeat(np.geomspace(1e4, 1e8, 9), 3)
    tables = {
        str(beta): simulate(get_law("power", "U"), {"E": 0.3, "B": 6.0, "beta": beta}, noise=2e-3, U=data)
        for beta in (0.15, 0.35)
    }
    assert by_key(replace(paper, inputs=compare_inputs(tables)))["inputs"].verdict == "contradicts"
    wild = {"Hbb": rejections(scatter=0.6, background=2_000_000)}
    assert by_key(replace(paper, rejection=wild))["R(L)"].verdict == "contradicts"


def test_a_small_noisy_study_cannot_tell(paper):
    """What a laptop has: a decade of sizes and of data, losses to 2 %."""
    small = measured(SINGLE, 2e-2, sizes=np.geomspace(1e3, 3e4, 4), data=(1e4, 1e5))
    found = by_key(replace(paper, tagging=constants(small)))
    assert found["beta"].verdict == "cannot tell"
    few = {"Hbb": rejections(background=500, taggers=6)}
    assert by_key(replace(paper, rejection=few))["R(L)"].verdict == "cannot tell"
    flat = fit_rejection_law(np.linspace(1, 1.1, 9), np.full(9, 400), 4000, name="Hbb")
    assert by_key(replace(paper, rejection={"Hbb": flat}))["R(L)"].verdict == "cannot tell"


@pytest.mark.parametrize("true", [0.0, 0.15, 0.3])
def test_the_interval_of_the_scatter_covers_it(true):
    trials = [scatter_interval(rejections(scatter=true, seed=seed, bootstrap=10)) for seed in range(40)]
    assert np.mean([low <= true <= high for low, high in trials]) > 0.85


def test_classes_that_cannot_be_measured_support_nothing(paper):
    blind = rejections(background=300, taggers=6)
    found = by_key(replace(paper, rejection={"Hbb": rejections(), "Hcc": blind, "Hgg": blind}))
    assert found["R(L)"].verdict == "cannot tell"


def test_generators_are_judged_by_steps():
    strong_in_size = Findings(generation_steps=steps_of(TOKENS, 1e-4))
    found = by_key(strong_in_size)
    assert found["generation: N"].verdict == found["generation: D"].verdict == "supports"
    strong_in_data = steps_of({"E": 1.0, "A": 20.0, "alpha": 0.9, "B": 9.0, "beta": 0.15}, 1e-4)
    assert by_key(Findings(generation_steps=strong_in_data))["generation: D"].verdict == "contradicts"
    flat = steps_of(TOKENS | {"A": 1e-300}, 1e-4)
    found = by_key(Findings(generation_steps=flat))
    assert found["generation: N"].verdict == found["generation: D"].verdict == "contradicts"
    once = steps_of(TOKENS, 1e-4, seeds=1)
    found = by_key(Findings(generation_steps=once))
    assert found["generation: N"].verdict == found["generation: D"].verdict == "cannot tell"
    assert "no run was repeated" in found["generation: N"].why
    near = steps_of(TOKENS, 1e-4, sizes=np.geomspace(1e5, 1e6, 4))
    assert "1.5 decades apart" in by_key(Findings(generation_steps=near))["generation: N"].why


def test_a_little_weaker_is_not_much_weaker():
    """Falls of 0.09 and 0.10 nats per decade at the largest runs."""
    size, data = 1e7**0.3 / (10**0.15 - 1) / 2, (1e4 * 2**7) ** 0.3 / (2**0.3 - 1) * np.log10(2)
    near = steps_of({"E": 3.0, "A": 0.10 * size, "alpha": 0.3, "B": 0.09 * data, "beta": 0.3}, 1e-5)
    found = by_key(Findings(generation_steps=near))["generation: D"]
    assert found.verdict == "cannot tell"
    assert found.outcome.interval == pytest.approx((0.9, 0.9), abs=0.05)


def sampled(distances, error=0.004):
    names = ["pico", "nano", "micro", "small", "medium"]
    losses = [4.0, 3.9, 3.8, 3.7, 3.6]
    relation = loss_vs_fidelity(losses, distances, [error] * 5, 0.02, 0.005, models=names, n_bootstrap=200)
    return Findings(loss_fidelity=relation)


def test_distances_are_monotonic_where_every_step_is_resolved():
    found = by_key(sampled([0.5, 0.4, 0.3, 0.2, 0.1]))["generation: SWD"]
    assert found.verdict == "supports"
    unresolved = by_key(sampled([0.5, 0.4, 0.3, 0.295, 0.29]))["generation: SWD"]
    assert unresolved.verdict == "cannot tell"
    assert "rising, resolved over pico, nano, medium" in unresolved.why  # micro, small and medium are alike
    falling = by_key(sampled([0.1, 0.2, 0.3, 0.4, 0.5]))["generation: SWD"]
    assert falling.verdict == "contradicts"


def test_claims_are_distinct_and_say_which_law_of_data_they_mean():
    assert len({claim.key for claim in CLAIMS}) == len(CLAIMS)
    for claim in CLAIMS:
        if claim.data == "single pass" and claim.key not in ("L_inf", "a from scratch", "generation: D"):
            assert "single pass" in claim.text
        if claim.data == "repeated":
            assert "epeated" in claim.text


def test_a_single_pass_that_training_limits_decides_nothing_about_data():
    findings = Findings(tagging_steps=steps_of(SINGLE, 0.005), generation_steps=steps_of(TOKENS, 0.002))
    limited = replace(findings, limited_by_training=frozenset({"tagging"}))
    before, after = ({j.claim.key: j for j in judge(f)} for f in (findings, limited))
    assert before["tagging: D"].verdict is Verdict.SUPPORTS
    assert after["tagging: D"].verdict is Verdict.CANNOT_TELL
    assert "limited by training, not by data" in after["tagging: D"].why
    # Neither size nor the other task is concerned.
    assert after["tagging: N"] == before["tagging: N"]
    assert after["generation: D"] == before["generation: D"]
