"""Simulated jets shared by the tests of this folder."""

import awkward as ak
import pytest

from genscale.data.schema import CLASSES
from genscale.data.simulation import simulate_shard


@pytest.fixture(scope="session")
def simulated() -> dict[str, ak.Array]:
    """80 jets of every class without multiparton interactions."""
    return {name: simulate_shard(name, 80, seed=11, mpi=False) for name in CLASSES}
