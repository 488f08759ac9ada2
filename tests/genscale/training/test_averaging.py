import dataclasses
import os
import signal

import numpy as np
import pytest
import torch
from torch import nn

from genscale.errors import InputError, Interrupted
from genscale.inference.prediction import predict_store
from genscale.training.averaging import WeightAverage
from genscale.training.loop import train
from genscale.training.tagger import TaggerRun, TaggerTask
from genscale.training.task import TrainingConfig

TRAINING = TrainingConfig(
    jets=480, batch_jets=16, evaluations=4, first_evaluation_jets=100, validation_jets=0, warmup_steps=5, average=0.3
)  # fmt: skip


@pytest.fixture
def run(jet_stores) -> TaggerRun:
    return TaggerRun(
        str(jet_stores / "train"), str(jet_stores / "validation"), 8, dropout=0.1, training=TRAINING
    )


def test_of_weights_that_grow_evenly_it_is_the_mean_of_the_last_share():
    """A window of share x step lags behind t by that much: mean = t (1 - share / (1 + share)), for large t."""
    model = nn.Linear(1, 1, bias=False)
    average = WeightAverage(model, 0.1)
    with torch.no_grad():
        for step in range(1, 5001):
            model.weight.fill_(step)
            average.update(step)
    assert float(average.tensors()["weight"]) == pytest.approx(5000 * (1 - 0.1 / 1.1), rel=1e-3)
    with average.in_model():
        assert float(model.weight.detach()) == pytest.approx(5000 / 1.1, rel=1e-3)
    assert float(model.weight.detach()) == 5000


def test_without_a_share_the_weights_are_the_last():
    model = nn.Linear(2, 2)
    average = WeightAverage(model, 0.0)
    before = model.weight.detach().clone()
    average.update(1)
    assert average.tensors() == {}
    with average.in_model():
        assert torch.equal(model.weight, before)


def test_the_recorded_loss_is_that_of_the_saved_weights(run, jet_stores, tmp_path):
    record = train(TaggerTask(run), run.training, tmp_path / "run", progress=False)
    found = predict_store(tmp_path / "run", jet_stores / "validation", tmp_path / "p.npz", progress=False)
    assert found.provenance["loss"] == pytest.approx(record.final.metrics["loss"], rel=1e-5)
    last = dataclasses.replace(TRAINING, average=0.0)
    other = train(
        TaggerTask(dataclasses.replace(run, training=last)), last, tmp_path / "last", progress=False
    )
    assert not np.isclose(other.final.metrics["loss"], record.final.metrics["loss"], rtol=1e-6)


def test_it_leaves_the_training_itself_alone(run, tmp_path):
    """Evaluating the mean more often must not move it."""
    often = dataclasses.replace(TRAINING, evaluations=12)
    a = train(TaggerTask(run), TRAINING, tmp_path / "a", progress=False)
    b = train(TaggerTask(dataclasses.replace(run, training=often)), often, tmp_path / "b", progress=False)
    assert a.final.metrics["loss"] == b.final.metrics["loss"]


def test_interrupted_it_ends_the_same(run, tmp_path):
    class Stopping(TaggerTask):
        calls = 0

        def loss(self, model, batch):
            self.calls += 1
            if self.calls == 17:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().loss(model, batch)

    whole = train(TaggerTask(run), TRAINING, tmp_path / "whole", progress=False)
    with pytest.raises(Interrupted):
        train(Stopping(run), TRAINING, tmp_path / "cut", progress=False)
    resumed = train(TaggerTask(run), TRAINING, tmp_path / "cut", progress=False)
    assert [e.metrics["loss"] for e in resumed.evaluations] == [e.metrics["loss"] for e in whole.evaluations]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_impossible_shares_are_refused():
    with pytest.raises(InputError, match=r"average: 1.0 is not in \[0, 1\)"):
        TrainingConfig(average=1.0)
