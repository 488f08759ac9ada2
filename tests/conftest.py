"""Small inputs that many tests share: random jets, Pythia jets, a trained tokenizer, its tokens."""

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import awkward as ak
import numpy as np
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
    from genscale.inference.stores import encode_store

    folder = tmp_path_factory.mktemp("tokens")
    for split in ("train", "validation"):
        encode_store(jet_stores / split, tokenizer_run, folder / split, progress=False)
    return folder


@pytest.fixture
def full_disk():
    """A context in which writes beyond a number of bytes per file fail half way, as on a full disk."""

    @contextmanager
    def limited(n_bytes: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, handler)

    return limited


def random_jets(n_jets: int, seed: int, mean_particles: float = 40, spread: float = 0.05) -> ak.Array:
    """Three subjets, a steeply falling particle pT, a Poisson number of particles."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(mean_particles, n_jets) + 1
    jet = np.repeat(np.arange(n_jets), counts)
    axes = rng.normal(0, 0.2, (n_jets, 3, 2))
    offsets = axes[jet, rng.integers(0, 3, jet.size)] + spread * rng.standard_normal((jet.size, 2))
    pt = 0.5 + rng.exponential(3, jet.size) ** 2
    fields = {"pt": pt, "eta_rel": offsets[:, 0], "phi_rel": offsets[:, 1]}
    jets = ak.zip({name: ak.unflatten(values, counts) for name, values in fields.items()})
    return jets[ak.argsort(jets.pt, ascending=False)]


@pytest.fixture(scope="session")
def make_jets() -> Callable[..., ak.Array]:
    return random_jets
