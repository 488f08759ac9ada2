from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genscale.config import load_config
from genscale.data.batching import BatchStream
from genscale.data.order import JetOrder
from genscale.data.plan import BatchPlan
from genscale.errors import InputError
from genscale.training.tagger import TaggerRun
from genscale.training.task import TrainingConfig

plans = st.builds(lambda k, ramp: BatchPlan(2**k, ramp), st.integers(0, 10), st.integers(0, 10**6))


def test_a_batch_doubles_whenever_the_jets_seen_have_grown_fourfold():
    phases = [(p.jets, p.batch, p.step) for p in BatchPlan(32, 32_000).phases]
    assert phases == [(0, 4, 0), (2_000, 8, 500), (8_000, 16, 1_250), (32_000, 32, 2_750)]


@given(plans)
def test_the_batch_is_the_root_of_the_jets_seen_rounded_down_to_a_power_of_two(plan):
    for jets in (0, 1, *np.geomspace(2, 4 * max(plan.ramp_jets, 4), 50).astype(int).tolist()):
        step = plan.steps(jets)
        batch, seen = plan.phase(step).batch, plan.jets(step)
        wanted = plan.batch_jets * np.sqrt(seen / plan.ramp_jets) if plan.ramp_jets else plan.batch_jets
        rule = 2.0 ** np.floor(np.log2(max(wanted, 1)) + 1e-9)
        assert batch == min(max(rule, 4), plan.batch_jets)


@given(plans, st.integers(0, 5000))
def test_jets_and_steps_are_sums_over_batches(plan, n_steps):
    batches = [plan.phase(step).batch for step in range(n_steps)]
    assert plan.jets(n_steps) == sum(batches)
    assert all(a <= b for a, b in pairwise(batches))
    assert plan.steps(plan.jets(n_steps)) == plan.steps_to(plan.jets(n_steps)) == n_steps
    assert plan.steps(plan.jets(n_steps + 1) - 1) == n_steps
    assert plan.steps_to(plan.jets(n_steps) + 1) == n_steps + 1


@given(plans, st.floats(0, 1e6))
def test_no_number_of_steps_is_closer_than_the_nearest(plan, jets):
    nearest = plan.nearest(jets)
    others = [abs(plan.jets(max(0, nearest + k)) - jets) for k in (-1, 0, 1)]
    assert others[1] == min(others)


class Places:
    """Rows whose batches are the places of the jets in the store."""

    def __len__(self) -> int:
        return 10_000

    def load(self, rows):
        return rows, np.ones(len(rows), dtype=np.int64), np.zeros(len(rows), dtype=np.int64)

    def pack(self, values, lengths, labels, order):
        return values[order].tolist()


@pytest.mark.parametrize("world", [1, 2])
def test_a_ramp_reads_the_same_jets_in_the_same_order(world, monkeypatch):
    monkeypatch.setattr(BatchStream, "CHUNK_JETS", 64)
    plan, order = BatchPlan(16, 1024), JetOrder(10_000, 10_000, 3)
    streams = [BatchStream(Places(), order, plan, rank, world) for rank in range(world)]
    steps = range(plan.steps(2000))
    read = [np.stack([stream[step][0] for stream in streams], 1).ravel() for step in steps]
    assert [len(jets) for jets in read] == [plan.phase(step).batch for step in steps]
    np.testing.assert_array_equal(np.concatenate(read), order[0 : plan.jets(len(steps))])
    (again,) = streams[0][40]
    assert again == read[40][::world].tolist()


def test_impossible_ramps_are_refused():
    with pytest.raises(
        InputError, match="batches double along a ramp, and batch_jets, 48, is not a power of two"
    ):
        TrainingConfig(batch_jets=48, ramp_jets=1000)
    with pytest.raises(InputError, match="jets: 3 is less than one batch of 4"):
        TrainingConfig(jets=3, batch_jets=16, ramp_jets=1000)
    with pytest.raises(
        InputError, match="4 jets at the start of the ramp cannot be shared by 3 processes x 2 micro-batch"
    ):
        BatchStream(Places(), JetOrder(9, 9, 1), BatchPlan(64, 1000), world=3, accumulate=2)
    with pytest.raises(InputError, match="ramp_jets: -1 is negative"):
        load_config(TaggerRun, None, ["training.ramp_jets=-1"])
