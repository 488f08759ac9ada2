"""Weights kept on the way: they are those of a run that ends there, and outlive an interruption."""

import dataclasses

import pytest

from genscale.errors import InputError, Interrupted
from genscale.records import RunRecord
from genscale.training.generator import GeneratorRun, GeneratorTask, load_generator
from genscale.training.loop import train
from genscale.training.task import TrainingConfig, weights_folder

TRAINING = TrainingConfig(
    jets=320, batch_jets=16, evaluations=2, first_evaluation_jets=100, validation_jets=32, warmup_steps=5,
    average=0.2, keep_weights_at=[90, 160], checkpoint_s=1e-9,
)  # fmt: skip


def generator(token_stores, tokenizer_run, training: TrainingConfig) -> GeneratorTask:
    stores = (str(token_stores / "train"), str(token_stores / "validation"), str(tokenizer_run))
    return GeneratorTask(GeneratorRun(*stores, training=training))


def weights(folder) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(token_stores, tokenizer_run, tmp_path_factory):
    run = tmp_path_factory.mktemp("kept") / "whole"
    task = generator(token_stores, tokenizer_run, TRAINING)
    train(task, task.config.training, run, progress=False)
    return run


def test_they_are_those_of_a_run_that_ends_there(whole, token_stores, tokenizer_run, tmp_path):
    ending = dataclasses.replace(TRAINING, jets=160, jets_unique=320, keep_weights_at=[])
    task = generator(token_stores, tokenizer_run, ending)
    short = train(task, task.config.training, tmp_path / "short", progress=False)
    assert weights(weights_folder(whole, 160)) == weights(tmp_path / "short")
    evaluations = {e.jets_seen: e.metrics["loss"] for e in RunRecord.load(whole).evaluations}
    assert set(evaluations) >= {96, 160, 320}  # whole batches
    assert evaluations[160] == short.final.metrics["loss"]
    model, description = load_generator(weights_folder(whole, 90))
    assert description["kind"] == "generator"
    assert not model.training
    assert len({weights(whole), *(weights(weights_folder(whole, jets)) for jets in (90, 160))}) == 3


def test_with_cooldowns_they_are_those_of_the_cooled_branches(token_stores, tokenizer_run, tmp_path):
    cooled = dataclasses.replace(TRAINING, average=0.0, cooldown=0.3, keep_weights_at=[160])
    ending = dataclasses.replace(cooled, jets=160, jets_unique=320, keep_weights_at=[])
    for name, training in (("whole", cooled), ("short", ending)):
        task = generator(token_stores, tokenizer_run, training)
        train(task, task.config.training, tmp_path / name, progress=False)
    assert weights(weights_folder(tmp_path / "whole", 160)) == weights(tmp_path / "short")


def test_an_interrupted_run_keeps_the_same_ones(whole, token_stores, tokenizer_run, tmp_path, monkeypatch):
    task = generator(token_stores, tokenizer_run, TRAINING)
    save = type(task).save

    def killed(self, model, folder):
        save(self, model, folder)
        raise Interrupted(15, folder, 0)  # after writing, before the folder has its name

    monkeypatch.setattr(type(task), "save", killed)
    with pytest.raises(Interrupted):
        train(task, task.config.training, tmp_path / "run", progress=False)
    assert not weights_folder(tmp_path / "run", 90).exists()
    monkeypatch.undo()
    task = generator(token_stores, tokenizer_run, TRAINING)
    train(task, task.config.training, tmp_path / "run", progress=False)
    for jets in (90, 160):
        assert weights(weights_folder(tmp_path / "run", jets)) == weights(weights_folder(whole, jets))
    assert weights(tmp_path / "run") == weights(whole)
    assert not list((tmp_path / "run" / "weights").glob(".*"))


def test_what_cannot_be_kept_is_named():
    with pytest.raises(InputError, match="keep_weights_at: 400 is not between 1 and jets=320"):
        dataclasses.replace(TRAINING, keep_weights_at=[400])
    with pytest.raises(InputError, match=r"keep_weights_at: \[81, 96\] names one step twice"):
        dataclasses.replace(TRAINING, keep_weights_at=[81, 96])
