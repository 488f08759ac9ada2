"""A small class-conditional generator, trained for a moment, as a teacher."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def teacher_run(token_stores, tokenizer_run, tmp_path_factory) -> Path:
    """Folder of the run; its classes are QCD, Wqq and Tbqq."""
    return train_generator(token_stores, tokenizer_run, tmp_path_factory.mktemp("runs") / "teacher", True)


@pytest.fixture(scope="session")
def blind_run(token_stores, tokenizer_run, tmp_path_factory) -> Path:
    """Folder of an unconditional generator."""
    return train_generator(token_stores, tokenizer_run, tmp_path_factory.mktemp("runs") / "blind", False)


def train_generator(tokens: Path, tokenizer: Path, out: Path, class_conditional: bool) -> Path:
    from genscale.training.generator import GeneratorRun, GeneratorTask
    from genscale.training.loop import train
    from genscale.training.task import TrainingConfig

    training = TrainingConfig(jets=400, batch_jets=16, evaluations=1, validation_jets=32, learning_rate=0.01)
    run = GeneratorRun(
        str(tokens / "train"), str(tokens / "validation"), str(tokenizer), "pico", class_conditional, training=training
    )  # fmt: skip
    train(GeneratorTask(run), training, out, progress=False)
    return out
