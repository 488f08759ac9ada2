"""The floor of a distance: the distance between two samples of the same sizes from one distribution.

Two finite samples are never at distance zero. The floor is measured by splitting the reference at random,
without replacement, into two disjoint parts whose sizes are in the ratio n : m of the comparison, several
times. The parts of one split share no jet, so they are independent draws; the splits share the pool, so
their spread is that of a permutation test (the null distribution given this pool), and more splits make it
better known, not smaller.

A pool of m jets has no room for n + m: its parts a and b are smaller than what they stand for. Empirical
Wasserstein distances fall as sqrt(1/n + 1/m), so the values are multiplied by the root of
(1/n + 1/m) / (1/a + 1/b), which is m / (n + m) but for rounding. With a reference much larger than the
generated sample that factor is close to one. Squared distances (Frechet and kernel physics distance,
Kullback-Leibler divergence) fall as 1/n + 1/m: their factor has no root, and their floor is subtracted, not
subtracted in quadrature.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.common.errors import InputError

FloatArray = NDArray[np.float64]

#: A distance is called resolved when it lies this many floor spreads above the floor's mean.
RESOLVED_AT = 3.0


@dataclass(frozen=True)
class Floor:
    """Distances of reference from reference at the sizes of a comparison.

    Attributes
    ----------
    values : ndarray of float, shape (R,)
        One for each random split, already scaled to the sizes below.
    n_generated : int
        Size of the generated sample that the floor holds for.
    n_reference : int
        Size of the reference that it holds for.
    scale : float
        Factor that took the splits to these sizes.
    squared : bool
        Whether this is a squared distance, which falls as 1/n + 1/m.
    """

    values: FloatArray
    n_generated: int
    n_reference: int
    scale: float
    squared: bool = False

    @property
    def mean(self) -> float:
        """Mean over the splits."""
        return float(self.values.mean())

    @property
    def spread(self) -> float:
        """Standard deviation over the splits."""
        return float(self.values.std(ddof=1))

    @property
    def even_size(self) -> float:
        """Size of two equal samples that would have this floor."""
        return even_size(self.n_generated, self.n_reference)

    def significance(self, value: float) -> float:
        """How many spreads a distance lies above the mean of the floor; infinite above a floor without spread."""
        if self.spread > 0:
            return (value - self.mean) / self.spread
        return float("inf") if value > self.mean else 0.0

    def p_value(self, value: float) -> float:
        """Fraction of null distances at least as large, including the observed one: never below 1 / (R + 1)."""
        return float((1 + np.count_nonzero(self.values >= value)) / (1 + self.values.size))

    def corrected(self, value: float) -> float:
        """Distance after subtraction of the floor, in quadrature unless it is a squared one; zero below the floor.

        Exact for the squared distance of order 2 when noise and shift are independent; for order 1 an
        approximation that goes from value - O(floor^2) far above the floor to zero at the floor.
        """
        if self.squared:
            return max(value - self.mean, 0.0)
        return float(np.sqrt(max(value**2 - self.mean**2, 0.0)))

    def jets_needed(self, distance: float, significance: float = RESOLVED_AT) -> float:
        """Jets of each kind with which a true distance would be seen at a significance.

        Parameters
        ----------
        distance : float
            The true distance, above zero.
        significance : float
            In spreads of the floor.

        Returns
        -------
        float

        Raises
        ------
        InputError
            The distance is not positive.

        Notes
        -----
        Two samples of n_0 = 2 n m / (n + m) jets have this floor. Its mean f and spread s fall as 1 / sqrt(n), so
        sqrt(d^2 + f^2) - f = k s at n = n_0 (k^2 s_0^2 + 2 k f_0 s_0) / d^2. Those of a squared distance fall as
        1 / n, so d = k s at n = n_0 k s_0 / d.
        """
        if not distance > 0:
            raise InputError(
                f"distance is {distance}: no number of jets resolves less than something positive"
            )
        if self.squared:
            return self.even_size * significance * self.spread / distance
        excess = (significance * self.spread) ** 2 + 2 * significance * self.mean * self.spread
        return self.even_size * excess / distance**2


def even_size(n: float, m: float) -> float:
    """Size of two equal samples that fluctuate against each other as samples of n and m do."""
    return 2 / (1 / n + 1 / m)


def reference_floor(
    reference: NDArray[Any],
    n_generated: float,
    distance: Callable[[NDArray[Any], NDArray[Any]], float],
    n_repeats: int = 50,
    seed: int = 0,
    squared: bool = False,
) -> Floor:
    """Measure the floor of a distance by random splits of the reference.

    Parameters
    ----------
    reference : ndarray, shape (m, ...)
        The reference sample, one row for each jet: observables, or positions in a list of jets or of groups of jets.
    n_generated : float
        Size of the sample that is compared with it (the effective size, if weighted), in rows.
    distance : callable
        Of two samples of rows.
    n_repeats : int
        Random splits R; the smallest p-value that can be seen is 1 / (R + 1).
    seed : int
        Seed of the splits.
    squared : bool
        Whether the distance falls as 1/n + 1/m, as squared ones do, rather than as the root of that.

    Returns
    -------
    Floor

    Raises
    ------
    InputError
        Fewer than four rows, or n_repeats below 2.
    """
    m = len(reference)
    if n_repeats < 2:
        raise InputError(f"n_repeats is {n_repeats}: at least 2 splits are needed for a spread")
    if m < 4:
        raise InputError(f"a reference of {m} jets cannot be split: each of two parts needs 2 jets")
    part = min(max(round(m * n_generated / (n_generated + m)), 2), m - 2)
    rng = np.random.default_rng(seed)
    scale = float(((1 / n_generated + 1 / m) / (1 / part + 1 / (m - part))) ** (1 if squared else 0.5))
    values = np.empty(n_repeats)
    for repeat in range(n_repeats):
        order = rng.permutation(m)
        values[repeat] = scale * distance(reference[order[:part]], reference[order[part:]])
    return Floor(values, round(n_generated), m, scale, squared)
