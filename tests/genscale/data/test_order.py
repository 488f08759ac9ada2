"""The order of jets: a permutation in every epoch, nested, and computed without being stored."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from genscale.data.order import JetOrder, Permutation
from genscale.errors import InputError


@given(n=st.integers(1, 3000), seeds=st.lists(st.integers(0, 2**40), min_size=1, max_size=3))
def test_permutation_reaches_every_place_once(n, seeds):
    assert sorted(Permutation(n, tuple(seeds))(np.arange(n))) == list(range(n))


def test_permutation_looks_random():
    n, trials = 12, 6000
    images = np.array([Permutation(n, (seed,))(np.arange(n)) for seed in range(trials)])
    where = np.array([np.bincount(column, minlength=n) for column in images.T])  # place x image
    assert stats.chisquare(where.ravel(), ddof=2 * n - 2).pvalue > 1e-3
    # The place taken by one says as much of the next as in a drawn permutation: all but one image equally likely.
    step = np.bincount((images[:, 1] - images[:, 0]) % n, minlength=n)
    assert step[0] == 0
    assert stats.chisquare(step[1:]).pvalue > 1e-3


def test_neighbours_of_a_large_store_lie_anywhere():
    n = 1_000_003
    rows = Permutation(n, (1, 0))(np.arange(20_000))
    assert stats.kstest(rows / n, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(rows[:-1], rows[1:])[0, 1]) < 5 / np.sqrt(len(rows))
    other = Permutation(n, (2, 0))(np.arange(20_000))
    assert abs(np.corrcoef(rows, other)[0, 1]) < 5 / np.sqrt(len(rows))


@given(n=st.integers(1, 500), data=st.data())
def test_epochs_are_permutations_of_the_same_nested_jets(n, data):
    unique = data.draw(st.integers(1, n))
    order = JetOrder(n, unique, seed=3)
    epochs = order[0 : 3 * unique].reshape(3, unique)
    assert len(set(epochs[0])) == unique
    assert all(set(epoch) == set(epochs[0]) for epoch in epochs)
    np.testing.assert_array_equal(order[unique // 2 : 2 * unique], epochs.ravel()[unique // 2 : 2 * unique])
    np.testing.assert_array_equal(JetOrder(n, n, seed=3)[0:unique], epochs[0])


def test_epochs_and_seeds_differ():
    first, second = JetOrder(100, 100, seed=3)[0:200].reshape(2, 100)
    assert (first != second).any()
    assert (JetOrder(100, 100, seed=4)[0:100] != first).any()


def test_a_store_of_any_size_costs_the_same():
    tracemalloc.start()
    rows = JetOrder(10**15, 10**15, seed=1)[10**14 : 10**14 + 1000]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(set(rows)) == 1000
    assert rows.min() >= 0
    assert rows.max() < 10**15
    assert peak < 1_000_000


def test_more_jets_than_there_are_is_refused():
    with pytest.raises(InputError, match="unique jets: 11 wanted, but the store has 10"):
        JetOrder(10, 11, 0)
