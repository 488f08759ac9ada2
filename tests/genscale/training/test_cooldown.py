"""Cooldowns: every point of one run is that of a run of its own, to the bit, whatever happens on the way."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from genscale.errors import InputError, Interrupted
from genscale.records import RunRecord, points
from genscale.training.loop import train
from genscale.training.tagger import TaggerRun, TaggerTask
from genscale.training.task import TrainingConfig, weights_folder
from genscale.training.tokenizer import TokenizerRun, TokenizerTask
from tokenizer import VQVAEConfig

TWO_CPUS = Path(__file__).parents[3] / "configs" / "accelerate" / "two_cpus.yaml"
#: 4 jets a step up to 96, 8 up to 384, then 16; evaluated after 80, 159 (160), 320 and 576 jets or so.
TRAINING = TrainingConfig(
    jets=576, batch_jets=16, ramp_jets=384, cooldown=0.3, evaluations=4, first_evaluation_jets=80, validation_jets=64,
    warmup_steps=5, learning_rate=4e-3,
)  # fmt: skip

START, END = TRAINING.branches[0]


@pytest.fixture
def tagger_run(jet_stores) -> TaggerRun:
    return TaggerRun(
        str(jet_stores / "train"), str(jet_stores / "validation"), 8, dropout=0.1, training=TRAINING
    )


def weights(run: Path) -> bytes:
    return (run / "model.safetensors").read_bytes()


class Stopping(TaggerTask):
    """Sends itself a signal in the middle of one step."""

    calls, at = 0, 1

    def loss(self, model, batch):
        self.calls += 1
        if self.calls == self.at:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().loss(model, batch)


def test_every_point_is_that_of_a_run_of_its_own(tagger_run, tmp_path):
    at = TRAINING.plan.jets(TRAINING.evaluated_after[1])
    training = dataclasses.replace(TRAINING, keep_weights_at=[at])
    task = TaggerTask(dataclasses.replace(tagger_run, training=training))
    record = train(task, training, tmp_path / "run", progress=False)
    assert [e.jets_seen for e in record.evaluations] == [
        TRAINING.plan.jets(step) for step in TRAINING.evaluated_after
    ]
    assert len(record.evaluations) == 4
    branches = 0.0
    for place, point in enumerate(record.evaluations):
        alone = dataclasses.replace(TRAINING, jets=point.jets_seen, evaluations=1)
        run = dataclasses.replace(tagger_run, training=alone)
        own = train(TaggerTask(run), alone, tmp_path / str(place), progress=False)
        assert own.evaluations == [point]
        assert (own.flops, own.branch_flops) == (point.flops, 0.0)
        assert 0.69 * point.jets_seen - 16 < point.cooled_from_jets <= 0.7 * point.jets_seen
        assert 0 < point.learning_rate < TRAINING.learning_rate
        branches += point.flops * (1 - point.cooled_from_jets / point.jets_seen)
    assert weights(tmp_path / "run") == weights(tmp_path / "3")
    assert weights(weights_folder(tmp_path / "run", at)) == weights(tmp_path / "1")
    assert [row["schedule"] for row in points([("run", record)])] == ["cooldown"] * 4
    # The last branch belongs to the model; of the others nothing is left but what they cost.
    last = record.final
    branches -= last.flops * (1 - last.cooled_from_jets / last.jets_seen)
    assert record.branch_flops == pytest.approx(branches, rel=0.05)


@pytest.mark.parametrize(
    "at",
    [
        START - 1,  # before the first branch
        START + 1,  # in its first step
        END,  # in its last
        END + 1,  # in the first after it
        TRAINING.total_steps - 1,  # in the last branch
    ],
)
def test_stopped_anywhere_and_resumed_it_ends_the_same(tagger_run, tmp_path, at, undisturbed):
    task = Stopping(tagger_run)
    task.at = at
    with pytest.raises(Interrupted):
        train(task, TRAINING, tmp_path / "cut", progress=False)
    resumed = train(TaggerTask(tagger_run), TRAINING, tmp_path / "cut", progress=False)
    record, folder = undisturbed
    assert resumed.evaluations == record.evaluations
    assert resumed.branch_flops == record.branch_flops
    assert weights(tmp_path / "cut") == weights(folder)


@pytest.fixture(scope="module")
def undisturbed(jet_stores, tmp_path_factory) -> tuple[RunRecord, Path]:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    run = TaggerRun(
        str(jet_stores / "train"), str(jet_stores / "validation"), 8, dropout=0.1, training=TRAINING
    )
    return train(TaggerTask(run), TRAINING, folder, progress=False), folder


class Crash(Exception):
    pass


def test_killed_at_every_tenth_step_it_ends_the_same(tagger_run, tmp_path, undisturbed):
    """As after a kill -9: nothing is saved at the end, and the newest checkpoint may be some steps old."""

    class Crashing(TaggerTask):
        calls = 0

        def loss(self, model, batch):
            self.calls += 1
            if self.calls == 11:
                raise Crash
            return super().loss(model, batch)

    often = dataclasses.replace(TRAINING, checkpoint_s=1e-6)
    crashes, record = 0, None
    while record is None:
        try:
            record = train(Crashing(tagger_run), often, tmp_path / "run", progress=False)
        except Crash:
            crashes += 1
        assert len(list((tmp_path / "run" / "checkpoints").glob("step-*"))) <= 2
    assert crashes >= TRAINING.total_steps // 11
    assert record.evaluations == undisturbed[0].evaluations
    assert weights(tmp_path / "run") == weights(undisturbed[1])


def test_a_run_takes_the_steps_that_its_configuration_counts(tagger_run, tmp_path):
    class Counting(TaggerTask):
        steps = jets = 0

        def loss(self, model, batch):
            self.steps += 1
            self.jets += batch.n_jets
            return super().loss(model, batch)

    task = Counting(tagger_run)
    train(task, TRAINING, tmp_path / "run", progress=False)
    assert (task.steps, task.jets) == (TRAINING.total_steps, TRAINING.total_jets)


def test_a_codebook_is_put_back_too(jet_stores, tmp_path):
    """What a VQ-VAE learns without gradients, and the numbers it draws, belong to the state of the paused run."""
    model = VQVAEConfig(codebook_size=16, d_model=8, n_heads=1, n_encoder_blocks=1, n_decoder_blocks=1)
    stores = [str(jet_stores / split) for split in ("train", "validation")]
    training = dataclasses.replace(TRAINING, jets=320, evaluations=3)
    record = train(
        TokenizerTask(TokenizerRun(*stores, model, training)), training, tmp_path / "run", progress=False
    )
    for place, point in enumerate(record.evaluations):
        alone = dataclasses.replace(training, jets=point.jets_seen, evaluations=1)
        task = TokenizerTask(TokenizerRun(*stores, model, alone))
        assert train(task, alone, tmp_path / str(place), progress=False).evaluations == [point]


def test_two_processes_give_the_points_of_one(tagger_run, tmp_path):
    run = dataclasses.replace(tagger_run, dropout=0.0)  # each process draws its own
    whole = train(TaggerTask(run), TRAINING, tmp_path / "one", progress=False)
    keys = {"jets": run.jets, "validation": run.validation, "d_model": run.d_model, "dropout": 0.0}
    keys |= {f"training.{k}": v for k, v in dataclasses.asdict(TRAINING).items()}
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(TWO_CPUS)]
    command = ["-m", "genscale.cli", "train", "tagger", "--out", str(tmp_path / "two")]
    done = subprocess.run(
        [*launch, *command, *(f"{k}={v}" for k, v in keys.items())],
        capture_output=True, text=True, timeout=300, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    two = RunRecord.load(tmp_path / "two")
    assert two.processes == 2
    for a, b in zip(two.evaluations, whole.evaluations, strict=True):
        assert a.metrics["loss"] == pytest.approx(b.metrics["loss"], abs=1e-5)
        assert (a.jets_seen, a.tokens_seen, a.cooled_from_jets) == (
            b.jets_seen,
            b.tokens_seen,
            b.cooled_from_jets,
        )


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("schedule", "cosine", "cooldown: needs schedule: constant, not cosine"),
        ("average", 0.1, "cooldown: does not go with average"),
        ("patience", 0.5, "cooldown: does not go with patience"),
        ("evaluate_every_jets", 100, "cooldown: does not go with evaluate_every_jets"),
        ("cooldown", 1.0, r"cooldown: 1.0 is not in \[0, 1\)"),
        ("cooldown", -0.1, r"cooldown: -0.1 is not in \[0, 1\)"),
    ],
)
def test_what_does_not_go_together_is_refused(key, value, said):
    with pytest.raises(InputError, match=said):
        dataclasses.replace(TRAINING, **{key: value})
