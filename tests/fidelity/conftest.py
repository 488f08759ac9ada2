"""Random jets with subjets, of the size and hardness of JetClass jets."""

from collections.abc import Callable

import awkward as ak
import numpy as np
import pytest


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
