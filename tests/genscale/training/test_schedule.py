import dataclasses
import json

import numpy as np
import pytest

from genscale.training.generator import GeneratorRun, GeneratorTask
from genscale.training.loop import train
from genscale.training.schedule import SCHEDULES, evaluation_steps, learning_rate_factor
from genscale.training.task import TrainingConfig


def factors(schedule: str, n_steps: int, warmup: int) -> np.ndarray:
    return np.array([learning_rate_factor(schedule, step, n_steps, warmup) for step in range(n_steps)])


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("n_steps", [200, 1000, 20_000])
def test_warms_up_linearly_to_the_peak_and_never_passes_it(schedule, n_steps):
    rates = factors(schedule, n_steps, 50)
    np.testing.assert_allclose(rates[:50], np.arange(1, 51) / 50)
    assert rates.max() == 1.0
    assert (rates > 0).all()
    assert (np.diff(rates[50:]) <= 0).all()


@pytest.mark.parametrize("n_steps", [200, 1000, 20_000])
def test_decays_end_with_the_run_whatever_its_length(n_steps):
    cosine, wsd = factors("cosine", n_steps, 50), factors("wsd", n_steps, 50)
    # Half way down, at 0.55 = (1 + 0.1) / 2, in the middle between warm-up and the end; a tenth at the end.
    assert cosine[(50 + n_steps) // 2] == pytest.approx(0.55, abs=0.01)
    assert cosine[-1] == pytest.approx(0.1, abs=1e-3)
    # Constant for seven tenths, then a straight line that would reach zero at the step after the last.
    stable = n_steps * 7 // 10
    assert (wsd[50 : stable + 1] == 1).all()
    np.testing.assert_allclose(wsd[stable:], np.arange(n_steps - stable, 0, -1) / (0.3 * n_steps))


@pytest.mark.parametrize("n_steps", [2, 3, 5, 6])
def test_the_shortest_runs_decay_in_their_last_step(n_steps):
    assert factors("wsd", n_steps, 0).tolist() == [1.0] * (n_steps - 1) + [0.5]


def test_a_constant_rate_does_not_know_the_end():
    # So the first part of a long run is a short run: one run gives a whole column of D.
    np.testing.assert_array_equal(factors("constant", 300, 50), factors("constant", 10_000, 50)[:300])


def test_evaluations_are_log_spaced_and_end_with_the_run():
    assert evaluation_steps(1250, 9, 78) == [78, 110, 156, 221, 312, 442, 625, 884, 1250]
    assert evaluation_steps(10, 50) == list(range(1, 11))
    assert evaluation_steps(7, 1) == [7]


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
                4e-3 * learning_rate_factor(schedule, step - 1, jets // 8, 4), rel=1e-12
            )
    assert list(curves[160]) == list(range(1, 21))
    same = [curves[160][step] == curves[320][step] for step in curves[160]]
    assert all(same) if schedule == "constant" else not same[-1]
