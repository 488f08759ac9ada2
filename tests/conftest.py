"""Real, small inputs that many tests share: Pythia jets, a trained tokenizer, its tokens."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def jet_stores(tmp_path_factory) -> Path:
    """Folder with jet stores train (600), validation (200), test (200) of three classes."""
    from genscale.data.simulation import simulate

    folder = tmp_path_factory.mktemp("jets")
    for seed, (split, n) in enumerate([("train", 600), ("validation", 200), ("test", 200)]):
        simulate(folder / split, n, ("QCD", "Wqq", "Tbqq"), seed + 1, mpi=False, progress=False)
    return folder


@pytest.fixture(scope="session")
def tokenizer_run(jet_stores, tmp_path_factory) -> Path:
    """Folder of a small trained tokenizer."""
    from genscale.training.loop import train
    from genscale.training.task import TrainingConfig
    from genscale.training.tokenizer import TokenizerRun, TokenizerTask
    from tokenizer import VQVAEConfig

    model = VQVAEConfig(codebook_size=32, d_model=16, n_heads=2, n_encoder_blocks=1, n_decoder_blocks=1)
    training = TrainingConfig(jets=1200, batch_jets=32, evaluations=2, validation_jets=64)
    run = TokenizerRun(str(jet_stores / "train"), str(jet_stores / "validation"), model, training)
    folder = tmp_path_factory.mktemp("runs") / "tokenizer"
    train(TokenizerTask(run), run.training, folder, progress=False)
    return folder


@pytest.fixture(scope="session")
def token_stores(jet_stores, tokenizer_run, tmp_path_factory) -> Path:
    """Folder with the token stores of train and validation."""
    from genscale.tokens import encode_store

    folder = tmp_path_factory.mktemp("tokens")
    for split in ("train", "validation"):
        encode_store(jet_stores / split, tokenizer_run, folder / split, progress=False)
    return folder
