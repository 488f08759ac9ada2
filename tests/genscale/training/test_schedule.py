import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genscale.data.plan import BatchPlan
from genscale.training.generator import GeneratorRun, GeneratorTask
from genscale.training.loop import train
from genscale.training.schedule import SCHEDULES, cooldown_start, evaluation_steps, learning_rate_factor
from genscale.training.task import TrainingConfig

PLAN = BatchPlan(32)


def factors(
    schedule: str, n_steps: int, warmup: int, plan: BatchPlan = PLAN, cooldown: float = 0.0
) -> np.ndarray:
    return np.array([
        learning_rate_factor(schedule, step, n_steps, warmup, plan, cooldown) for step in range(n_steps)
    ])  # fmt: skip


@pytest.mark.parametrize(("schedule", "cooldown"), [("constant", 0.0), ("constant", 0.3), ("cosine", 0.0)])
@pytest.mark.parametrize("n_steps", [200, 1000, 20_000])
def test_warms_up_linearly_to_the_peak_and_never_passes_it(schedule, cooldown, n_steps):
    rates = factors(schedule, n_steps, 50, cooldown=cooldown)
    np.testing.assert_allclose(rates[:50], np.arange(1, 51) / 50)
    assert rates.max() == 1.0
    assert (rates > 0).all()
    assert (np.diff(rates[50:]) <= 0).all()


@pytest.mark.parametrize("n_steps", [200, 1000, 20_000])
def test_decays_end_with_the_run_whatever_its_length(n_steps):
    cosine, cooled = factors("cosine", n_steps, 50), factors("constant", n_steps, 50, cooldown=0.3)
    # Half way down, at 0.55 = (1 + 0.1) / 2, in the middle between warm-up and the end; a tenth at the end.
    assert cosine[(50 + n_steps) // 2] == pytest.approx(0.55, abs=0.01)
    assert cosine[-1] == pytest.approx(0.1, abs=1e-3)
    # Constant for seven tenths, then a straight line that would reach zero at the step after the last.
    stable = n_steps * 7 // 10
    assert (cooled[50 : stable + 1] == 1).all()
    np.testing.assert_allclose(cooled[stable:], np.arange(n_steps - stable, 0, -1) / (0.3 * n_steps))


@given(st.integers(1, 3000), st.floats(0.01, 0.99), st.integers(0, 5), st.integers(0, 20_000))
def test_before_a_cooldown_begins_the_rate_does_not_know_of_it(n_steps, cooldown, k, ramp):
    plan = BatchPlan(2**k, ramp)
    start = cooldown_start(plan, n_steps, cooldown)
    assert 0 <= start <= n_steps
    before = [learning_rate_factor("constant", step, n_steps, 20, plan, cooldown) for step in range(start)]
    assert before == [learning_rate_factor("constant", step, 10 * n_steps, 20, plan) for step in range(start)]
    # It begins there, give or take a step, and falls in proportion to the jets that are left.
    seen = plan.jets(start) / plan.jets(n_steps)
    assert seen <= 1 - cooldown + 1e-12
    assert plan.jets(start + 1) / plan.jets(n_steps) > 1 - cooldown - 1e-12


def test_a_warm_up_longer_than_the_run_before_its_cooldown_meets_it_half_way():
    rates = factors("constant", 100, 80, cooldown=0.5)
    assert rates.argmax() == 61  # where (step + 1) / 80 passes (100 - step) / 50
    np.testing.assert_allclose(rates[[0, 79, 99]], [1 / 80, 0.42, 0.02])


def test_a_constant_rate_does_not_know_the_end():
    # So the first part of a long run is a short run: one run gives a whole column of D.
    np.testing.assert_array_equal(factors("constant", 300, 50), factors("constant", 10_000, 50)[:300])


def test_evaluations_are_log_spaced_and_end_with_the_run():
    assert evaluation_steps(BatchPlan(16), 20_000, 9, 1248) == [78, 110, 156, 221, 312, 442, 625, 884, 1250]
    assert evaluation_steps(BatchPlan(1), 10, 50) == list(range(1, 11))
    assert evaluation_steps(BatchPlan(8), 63, 1) == [7]


@given(st.integers(2, 9), st.integers(1, 50_000), st.integers(20, 200_000), st.integers(2, 30))
def test_evaluations_lie_as_close_to_equal_ratios_as_whole_batches_allow(k, ramp, jets, n):
    plan = BatchPlan(2**k, ramp)
    steps = evaluation_steps(plan, jets, n, first_jets=jets // 10)
    seen = np.array([plan.jets(step) for step in steps])
    assert jets - 2**k < seen[-1] <= jets
    wanted = np.geomspace(seen[0], seen[-1], n)
    batch = np.array([plan.phase(plan.nearest(d)).batch for d in wanted])
    assert (np.abs(seen[:, None] - wanted).min(axis=0) <= batch / 2 + 1e-6).all()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_horizon_of_a_training_is_its_own_number_of_jets(schedule, token_stores, tokenizer_run, tmp_path):
    training = TrainingConfig(
        jets=320, batch_jets=8, schedule=schedule, warmup_steps=4, evaluations=200, first_evaluation_jets=8,
        validation_jets=16, learning_rate=4e-3,
    )  # fmt: skip
    run = GeneratorRun(
        str(token_stores / "train"), str(token_stores / "validation"), str(tokenizer_run), training=training
    )
    curves = {}
    for jets in (160, 320):
        longer = dataclasses.replace(run, training=dataclasses.replace(training, jets=jets))
        train(GeneratorTask(longer), longer.training, tmp_path / str(jets), progress=False)
        lines = (tmp_path / str(jets) / "metrics.jsonl").read_text().splitlines()
        curves[jets] = {e["step"]: (e["learning_rate"], e["metrics"]["loss"]) for e in map(json.loads, lines)}
        for step, (rate, _) in curves[jets].items():
            assert rate == pytest.approx(
                4e-3 * learning_rate_factor(schedule, step - 1, jets // 8, 4, BatchPlan(8)), rel=1e-12
            )
    assert list(curves[160]) == list(range(1, 21))
    same = [curves[160][step] == curves[320][step] for step in curves[160]]
    assert all(same) if schedule == "constant" else not same[-1]
