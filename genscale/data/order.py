"""The order in which a run sees jets: a random permutation that is computed element by element, not stored.

For a store of 10^8 jets a stored permutation would take 0.8 GB in every process and loader.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from genscale.errors import InputError

#: Held-out jets are the same in all runs, whatever their seeds, so that losses are compared on the same jets.
HELD_OUT_SEED = 0

#: Seeds are smaller than this: the random generators of NumPy and PyTorch all take them.
SEEDS = 2**32

#: A pseudo-random permutation needs at least four rounds (Luby and Rackoff 1988); short halves mix better with more.
_ROUNDS = 8


@dataclass(frozen=True)
class Permutation:
    """A pseudo-random permutation of 0 .. n-1 that needs no memory: a Feistel network, iterated until it is below n.

    The construction is that of Black and Rogaway, "Ciphers with arbitrary finite domains" (CT-RSA 2002), with the
    finalizer of SplitMix64 as round function: it mixes well, but it is not a cipher.

    Attributes
    ----------
    n : int
        Number of elements.
    entropy : tuple of int
        Seeds, not negative.
    """

    n: int
    entropy: tuple[int, ...]

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """Return the images (int64) of `places` under the permutation."""
        rows = self._network(places.astype(np.uint64))
        while (outside := rows >= self.n).any():  # fewer than half, because the network's domain is below 2 n
            rows[outside] = self._network(rows[outside])
        return rows.astype(np.int64)

    @cached_property
    def _keys(self) -> np.ndarray:
        return np.random.SeedSequence(self.entropy).generate_state(_ROUNDS, np.uint64)

    def _network(self, x: np.ndarray) -> np.ndarray:
        """Permute 0 .. 2^b - 1, where b is the smallest number with 2^b >= n."""
        bits = max(2, (self.n - 1).bit_length())
        low, high = np.uint64(bits // 2), np.uint64(bits - bits // 2)
        for key in self._keys:
            left, right = x >> low, x & _ones(low)
            x = right << high | left ^ _mixed(right + key) & _ones(high)
            low, high = high, low
        return x


def _ones(bits: np.uint64) -> np.uint64:
    return (np.uint64(1) << bits) - np.uint64(1)


def _mixed(x: np.ndarray) -> np.ndarray:
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
    x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return x ^ x >> np.uint64(31)


@dataclass(frozen=True)
class JetOrder:
    """The infinite sequence of jets that a run sees, with a new permutation in every epoch.

    Attributes
    ----------
    n_store : int
        Number of jets in the store.
    n_unique : int
        Number of jets that are used. They are the first of a permutation that depends on the seed only, so that
        smaller sets are contained in larger ones.
    seed : int
        Seed of all permutations.
    """

    n_store: int
    n_unique: int
    seed: int

    def __post_init__(self) -> None:
        if not 1 <= self.n_unique <= self.n_store:
            raise InputError(f"unique jets: {self.n_unique} wanted, but the store has {self.n_store}")

    def __getitem__(self, window: slice) -> np.ndarray:
        """Return the store rows of the jets number ``window.start .. window.stop - 1`` of the sequence."""
        epochs, places = np.divmod(np.arange(window.start, window.stop), self.n_unique)
        for epoch in np.unique(epochs[epochs > 0]):
            again = epochs == epoch
            places[again] = Permutation(self.n_unique, (self.seed, int(epoch)))(places[again])
        return Permutation(self.n_store, (self.seed, 0))(places)
