"""Parametric two-prong jets, and a small tokenizer trained on them."""

import awkward as ak
import numpy as np
import pytest
import torch

from tokenizer.codec import Tokenizer
from tokenizer.config import VQVAEConfig


def two_prong_jets(n, seed, mean_multiplicity=25):
    """Jets with a falling pT spectrum of particles around two prongs, soft ones at wider angles."""
    rng = np.random.default_rng(seed)
    lengths = rng.poisson(mean_multiplicity - 1, n) + 1
    first = np.cumsum(lengths) - lengths
    jet = np.repeat(np.arange(n), lengths)
    share = rng.gamma(0.4, size=len(jet)) + 1e-3
    pt = rng.uniform(500, 1000, n)[jet] * share / np.add.reduceat(share, first)[jet]
    width = np.clip(0.5 / np.sqrt(pt), 0.01, 0.3)
    axis = rng.uniform(0, 2 * np.pi, n)[jet]
    prong = np.where(rng.random(len(jet)) < 0.6, -0.4, 0.6) * rng.uniform(0.1, 0.5, n)[jet]
    columns = {
        "pt": pt,
        "eta_rel": prong * np.cos(axis) + width * rng.normal(size=len(jet)),
        "phi_rel": prong * np.sin(axis) + width * rng.normal(size=len(jet)),
    }
    jets = ak.zip({name: ak.unflatten(values, lengths) for name, values in columns.items()})
    return jets[ak.argsort(jets.pt, ascending=False, stable=True)]


SMALL = VQVAEConfig(codebook_size=64, d_model=32, n_heads=2, n_encoder_blocks=2, n_decoder_blocks=1)


def train(tokenizer, jets, steps, seed=0, batch=64):
    """Plain training loop; returns the losses."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(tokenizer.model.parameters(), lr=2e-3)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, steps)
    tokenizer.model.train()
    losses = []
    for _ in range(steps):
        batch_jets = jets[rng.choice(len(jets), batch, replace=False)]
        out = tokenizer.model.loss(*tokenizer.preprocessing.padded(batch_jets))
        optimizer.zero_grad()
        out["loss"].backward()
        optimizer.step()
        decay.step()
        losses.append(out["loss"].item())
    return losses


@pytest.fixture(scope="session")
def small_config():
    return SMALL


@pytest.fixture(scope="session")
def make_jets():
    return two_prong_jets


@pytest.fixture(scope="session")
def train_on():
    return train


@pytest.fixture(scope="session")
def jets():
    """Jets that nothing is trained on."""
    return two_prong_jets(400, seed=1)


@pytest.fixture(scope="session")
def trained():
    """A tokenizer after 150 steps; tests must not change it."""
    tokenizer = Tokenizer.create(SMALL, seed=3)
    train(tokenizer, two_prong_jets(2000, seed=2), steps=150)
    tokenizer.model.eval()
    return tokenizer
