import dataclasses
import json
import os
import signal

import pytest
import torch

from genscale.commands.train import report_run
from genscale.data.plan import BatchPlan
from genscale.errors import InputError, Interrupted
from genscale.inference.prediction import predict_store
from genscale.records import RunRecord
from genscale.study.cells import Cell
from genscale.study.jobs import Train
from genscale.study.run import _found
from genscale.training.loop import train
from genscale.training.schedule import evaluation_steps
from genscale.training.tagger import TaggerRun, TaggerTask
from genscale.training.task import TrainingConfig

#: Many passes over few jets: overfits within a second.
REPEATED = TrainingConfig(
    jets=3840, jets_unique=64, batch_jets=32, learning_rate=3e-2, warmup_steps=0, evaluations=1,
    evaluate_every_jets=192, patience=0.5, validation_jets=0,
)  # fmt: skip


def run_of(jet_stores, training: TrainingConfig, **keys) -> TaggerRun:
    stores = {"jets": str(jet_stores / "train"), "validation": str(jet_stores / "validation")}
    return TaggerRun(**{**stores, "d_model": 8, "training": training, **keys})


def losses(record: RunRecord) -> list[float]:
    return [e.metrics["loss"] for e in record.evaluations]


def test_ends_when_the_held_out_loss_rises_and_keeps_the_best_weights(jet_stores, tmp_path, capsys):
    run = run_of(jet_stores, REPEATED)
    record = train(TaggerTask(run), run.training, tmp_path / "run", progress=False)
    assert record.stopped_early
    assert record.jets_seen < REPEATED.jets
    assert record.best.metrics["loss"] == min(losses(record)) < losses(record)[-1]
    # The run went on to half as many jets again, and no further.
    seen = [e.jets_seen for e in record.evaluations]
    assert seen[-1] >= 1.5 * record.best.jets_seen
    assert seen[-2] < 1.5 * record.best.jets_seen or seen.index(record.best.jets_seen) == len(seen) - 4
    written = json.loads((tmp_path / "run" / "record.json").read_text())
    assert written["best"]["metrics"] == record.best.metrics
    assert written["best"]["jets_seen"] == record.best.jets_seen
    assert RunRecord.load(tmp_path / "run") == record
    kept = predict_store(tmp_path / "run", jet_stores / "validation", tmp_path / "p.npz", progress=False)
    assert kept.provenance["loss"] == pytest.approx(record.best.metrics["loss"], rel=1e-5)
    # What is printed is about the weights that were kept.
    said = f"loss {record.best.metrics['loss']:.4f} after {record.best.jets_seen:,} jets"
    report_run(record, tmp_path / "run")
    assert said in capsys.readouterr().out
    assert said in _found(Cell("run", Train(TaggerRun())), tmp_path)


def test_killed_after_its_best_it_ends_the_same(jet_stores, tmp_path):
    run = run_of(jet_stores, REPEATED, dropout=0.1)
    whole = train(TaggerTask(run), run.training, tmp_path / "whole", progress=False)
    assert whole.stopped_early

    class Stopping(TaggerTask):
        """Is asked to stop two steps after what will have been its best evaluation."""

        calls = 0

        def loss(self, model, batch):
            self.calls += 1
            if self.calls == whole.best.step + 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().loss(model, batch)

    with pytest.raises(Interrupted):
        train(Stopping(run), run.training, tmp_path / "cut", progress=False)
    resumed = train(TaggerTask(run), run.training, tmp_path / "cut", progress=False)
    assert losses(resumed) == losses(whole)
    assert resumed.stopped_early
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_patience_begins_after_the_first_epoch(jet_stores, tmp_path):
    # At this rate no weight moves, so no evaluation is ever better than the first.
    still = dataclasses.replace(REPEATED, learning_rate=1e-20, weight_decay=0.0, jets=480)
    still = dataclasses.replace(still, evaluate_every_jets=96)
    once = run_of(jet_stores, dataclasses.replace(still, jets_unique=480))
    record = train(TaggerTask(once), once.training, tmp_path / "once", progress=False)
    assert not record.stopped_early
    assert record.jets_seen == 480
    again = run_of(jet_stores, dataclasses.replace(still, jets_unique=96))
    record = train(TaggerTask(again), again.training, tmp_path / "again", progress=False)
    assert record.stopped_early
    assert [e.jets_seen for e in record.evaluations] == [96, 192, 288, 384]  # three after the lowest
    # At the end of all jets: stopped early, if it had gone on for long enough, and otherwise cut off.
    for jets, stopped in ((384, True), (288, False)):
        cut = run_of(jet_stores, dataclasses.replace(again.training, jets=jets))
        record = train(TaggerTask(cut), cut.training, tmp_path / f"cut-{jets}", progress=False)
        assert record.jets_seen == jets
        assert record.stopped_early is stopped


def test_without_patience_the_last_weights_are_kept(jet_stores, tmp_path):
    run = run_of(jet_stores, dataclasses.replace(REPEATED, patience=0, jets=2 * REPEATED.jets))
    record = train(TaggerTask(run), run.training, tmp_path / "run", progress=False)
    assert not record.stopped_early
    assert record.jets_seen == run.training.jets
    kept = predict_store(tmp_path / "run", jet_stores / "validation", tmp_path / "p.npz", progress=False)
    assert kept.provenance["loss"] == pytest.approx(losses(record)[-1], rel=1e-5)
    assert losses(record)[-1] > record.best.metrics["loss"]


def test_evaluations_are_log_spaced_and_at_every_multiple():
    plan = BatchPlan(8)
    assert evaluation_steps(plan, 800, 3, 1) == [1, 10, 100]
    assert evaluation_steps(plan, 800, 3, 1, every_jets=320) == [1, 10, 40, 80, 100]
    assert evaluation_steps(plan, 640, 1, 1, every_jets=320) == [40, 80]
    assert evaluation_steps(plan, 64, 1, 1, every_jets=20) == [
        3,
        5,
        8,
    ]  # as soon as 20, 40 and 60 jets were seen
    with pytest.raises(InputError, match="patience: -1 is negative"):
        TrainingConfig(patience=-1)


def test_at_constant_rate_a_short_run_is_the_beginning_of_a_long_one(jet_stores, tmp_path):
    """A whole column of D from one run: bit for bit what separate runs would give."""

    class Watched(TaggerTask):
        """Keeps the weights at each evaluation."""

        def evaluate(self, model, accelerator, config):
            metrics = super().evaluate(model, accelerator, config)
            weights = torch.cat([p.detach().flatten() for p in model.parameters()])
            self.seen = {**getattr(self, "seen", {}), metrics["loss"]: weights.clone()}
            return metrics

    def evaluated(name: str, jets: int, schedule: str):
        training = TrainingConfig(
            jets=jets,
            batch_jets=32,
            warmup_steps=3,
            evaluations=1,
            evaluate_every_jets=160,
            schedule=schedule,
        )
        task = Watched(run_of(jet_stores, training, dropout=0.1))
        record = train(task, training, tmp_path / name, progress=False)
        return {e.jets_seen: (e.metrics, task.seen[e.metrics["loss"]]) for e in record.evaluations}

    short, long = evaluated("short", 320, "constant"), evaluated("long", 576, "constant")
    assert set(short) == {160, 320} < set(long)
    for jets, (metrics, weights) in short.items():
        assert metrics == long[jets][0]
        assert torch.equal(weights, long[jets][1])
    # A decaying rate knows its horizon: such a run is no part of a longer one.
    short, long = evaluated("short-cosine", 320, "cosine"), evaluated("long-cosine", 576, "cosine")
    assert not torch.equal(short[320][1], long[320][1])
