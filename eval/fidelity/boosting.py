"""Gradient-boosted trees for two classes, on histograms, in numpy alone.

The method is that of XGBoost (Chen and Guestrin, arXiv:1603.02754): second-order gradients of the logistic loss,
features cut into quantile bins once, trees grown level by level so that one bincount gives all histograms of a level.
It is here so that the two-sample test needs no further dependency; it is not meant to be a tagger.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class BoostedTrees:
    """A fitted model; all trees are full binary trees of the same depth.

    Attributes
    ----------
    edges : (features, bins - 1) inner edges of the bins.
    features, cuts : (trees, 2^depth - 1) feature of each node and the last bin that goes left.
    leaves : (trees, 2^depth) contribution to the log-odds.
    """

    edges: FloatArray
    features: IntArray
    cuts: IntArray
    leaves: FloatArray

    def log_odds(self, x: FloatArray) -> FloatArray:
        """Log-odds of class 1 for rows of features, (n,)."""
        return self.log_odds_of_bins(self.bins(x))

    def bins(self, x: FloatArray) -> IntArray:
        """Bin of every feature, (n, features): all that the trees look at."""
        return _bin(x, self.edges)

    def log_odds_of_bins(self, binned: IntArray) -> FloatArray:
        """Log-odds of rows that are already in bins."""
        rows = np.arange(len(binned))
        total = np.zeros(rows.size)
        for features, cuts, leaves in zip(self.features, self.cuts, self.leaves, strict=True):
            node = np.zeros(rows.size, dtype=np.int64)
            for _ in range(leaves.size.bit_length() - 1):
                node = 2 * node + 1 + (binned[rows, features[node]] > cuts[node])
            total += leaves[node - features.size]
        return total


def fit_boosted_trees(
    x: FloatArray,
    labels: FloatArray,
    weights: FloatArray | None = None,
    n_trees: int = 100,
    depth: int = 3,
    learning_rate: float = 0.1,
    n_bins: int = 32,
    min_hessian: float = 10.0,
    ridge: float = 1.0,
) -> BoostedTrees:
    """Fit boosted trees to tell label 1 from label 0.

    Parameters
    ----------
    x : (n, d) finite features.
    labels : (n,) zeros and ones.
    weights : (n,) weights of the rows, of mean one.
    n_trees, depth, learning_rate : of the boosting.
    n_bins : quantile bins of each feature.
    min_hessian : least sum of p (1 - p) in a leaf; about four times as many rows.
    ridge : L2 penalty on leaf values.
    """
    n, d = x.shape
    inner = np.linspace(0, 1, n_bins + 1)[1:-1]
    edges = np.quantile(x, inner, axis=0).T
    binned = _bin(x, edges)
    weights = np.ones(n) if weights is None else weights
    n_inner = 2**depth - 1
    features = np.zeros((n_trees, n_inner), dtype=np.int64)
    cuts = np.full((n_trees, n_inner), n_bins, dtype=np.int64)  # unsplit nodes send everything left
    leaves = np.zeros((n_trees, 2**depth))
    log_odds = np.zeros(n)
    columns = np.ascontiguousarray(binned.T)
    rows = np.arange(n)
    for tree in range(n_trees):
        probability = 1 / (1 + np.exp(-log_odds))
        gradient, hessian = weights * (labels - probability), weights * probability * (1 - probability)
        node = np.zeros(n, dtype=np.int64)
        for level in range(depth):
            first, width = 2**level - 1, 2**level
            offset = (node - first) * n_bins
            gradients, hessians = np.empty((2, width, d, n_bins))
            for k, column in enumerate(columns):  # one feature at a time stays in the cache
                index = offset + column
                for table, values in ((gradients, gradient), (hessians, hessian)):
                    table[:, k] = np.bincount(index, values, width * n_bins).reshape(width, n_bins)
            gradients, hessians = gradients.cumsum(axis=2), hessians.cumsum(axis=2)
            gain = _gain(gradients, hessians, min_hessian, ridge).reshape(width, -1)
            best = gain.argmax(axis=1)
            split = np.flatnonzero(gain[np.arange(width), best] > 0)
            features[tree, first + split] = best[split] // n_bins
            cuts[tree, first + split] = best[split] % n_bins
            node = 2 * node + 1 + (binned[rows, features[tree, node]] > cuts[tree, node])
        leaf = node - n_inner
        top, bottom = (np.bincount(leaf, values, 2**depth) for values in (gradient, hessian))
        leaves[tree] = learning_rate * top / (bottom + ridge)
        log_odds += leaves[tree][leaf]
    return BoostedTrees(edges, features, cuts, leaves)


def _gain(gradient: FloatArray, hessian: FloatArray, min_hessian: float, ridge: float) -> FloatArray:
    """Gain of cutting after each bin, from cumulative sums over bins; -1 where a side would be too small."""
    g, h = gradient[:, :, -1:], hessian[:, :, -1:]
    allowed = (hessian >= min_hessian) & (h - hessian >= min_hessian)
    gain = gradient**2 / (hessian + ridge) + (g - gradient) ** 2 / (h - hessian + ridge) - g**2 / (h + ridge)
    return np.where(allowed, gain, -1.0)


def _bin(x: FloatArray, edges: FloatArray) -> IntArray:
    return np.stack([np.searchsorted(e, column) for e, column in zip(edges, x.T, strict=True)], axis=1)
