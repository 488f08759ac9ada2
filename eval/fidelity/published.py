"""Distances exactly as other papers report them, and the same distances with an error and a floor.

Frechet and kernel physics distance (Kansal et al., arXiv:2211.10295) follow the JetNet library. Its conventions are
kept, also where we would choose otherwise. The distance that is compared with a floor is that of the two given samples
with all their jets; docs/fidelity.md says which of the two to use for what.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations_with_replacement

import awkward as ak
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import curve_fit
from scipy.stats import iqr

from eval.common.errors import InputError, TooFewJets
from eval.fidelity.distances import Distance
from eval.fidelity.floors import reference_floor
from eval.fidelity.result import PublishedDistance, Score
from eval.jets.constituents import Constituents
from eval.jets.correlators import FLOW_GRAPHS, graph_name

FloatArray = NDArray[np.float64]

#: Jets that JetNet recommends for FPD; its batches grow from 20,000 to this.
FPD_JETS = 50_000


#: Fewest jets of either kind for the distances on energy flow polynomials.
FEWEST_FOR_PHYSICS = 1000

#: Names of the observables that the features of FPD and KPD are made of.
FLOW_NAMES = tuple(graph_name(graph) for graph in FLOW_GRAPHS)

#: Groups of jets that are left out in turn for the standard error.
_GROUPS = 20


def physics_features(jets: ak.Array | Constituents) -> FloatArray:
    """The 36 energy flow polynomials of degree 0 to 4 that FPD and KPD are defined on, (J, 36).

    The 20 connected ones, and all their products up to degree 4 (the one of degree 0 is the constant 1). JetNet uses
    the pT as given; here it is divided by its sum, which is the same for JetNet's relative pT of complete jets.

    Parameters
    ----------
    jets : ak.Array or Constituents

    Returns
    -------
    ndarray of float, shape (J, 36)
    """
    constituents = jets if isinstance(jets, Constituents) else Constituents(jets)
    return products_of_polynomials(constituents.flow_polynomials)


def products_of_polynomials(connected: FloatArray) -> FloatArray:
    """All products up to degree 4 of the 20 connected polynomials, (J, 20) in the order of FLOW_NAMES, as (J, 36)."""
    degrees = [len(edges) for edges in FLOW_GRAPHS]
    columns = [
        connected[:, list(factors)].prod(axis=1)
        for n_factors in range(5)
        for factors in combinations_with_replacement(range(len(degrees)), n_factors)
        if sum(degrees[k] for k in factors) <= 4
    ]
    return np.stack(columns, axis=1)


def frechet_physics_distance(
    reference: ArrayLike,
    generated: ArrayLike,
    min_samples: int | None = None,
    max_samples: int | None = None,
    n_batches: int = 20,
    n_points: int = 10,
    replace: bool = True,
    seed: int = 42,
) -> PublishedDistance:
    """Frechet physics distance: squared 2-Wasserstein distance of two Gaussians, extrapolated in 1/N to N = infinity.

    Parameters
    ----------
    reference : array-like of float, shape (m, d)
        Features, usually `physics_features`. Each is divided by the largest absolute value of the reference.
    generated : array-like of float, shape (n, d)
        The same features of generated jets.
    min_samples : int, optional
        Smallest batch N; by default 0.4 of the largest.
    max_samples : int, optional
        Largest batch N; by default JetNet's 50,000 where both samples have as many, otherwise the smaller sample.
    n_batches : int
        Batches averaged at each N.
    n_points : int
        Values of N, at even steps of 1/N.
    replace : bool
        Draw batches with replacement, as JetNet does. Then the extrapolation reaches the distance of the two given
        samples, which still has the bias of their size; without replacement it reaches zero for samples of one
        distribution.
    seed : int
        Seed of the batches; JetNet's default.

    Returns
    -------
    PublishedDistance

    Raises
    ------
    InputError
        There are fewer than 1,000 jets, features differ in number, or values are not finite.
    """
    x, y = _features(reference, generated, needed=FEWEST_FOR_PHYSICS)
    smaller = min(len(x), len(y))
    largest = max_samples if max_samples is not None else min(FPD_JETS, smaller)
    smallest = min_samples if min_samples is not None else round(0.4 * largest)
    if not replace and largest > smaller:
        raise InputError(
            f"max_samples is {largest}, above the {smaller} jets: without replacement it cannot be"
        )
    sizes = (1 / np.linspace(1 / smallest, 1 / largest, n_points)).astype("int32")
    rng = np.random.default_rng(seed)
    means = []
    for size in sizes:
        values = []
        for _ in range(n_batches):
            rows_x = rng.choice(len(x), size=size, replace=replace)
            rows_y = rng.choice(len(y), size=size, replace=replace)
            values.append(_frechet(x[rows_x], y[rows_y]))
        means.append(np.mean(values))
    line, covariance = curve_fit(
        lambda inverse, intercept, slope: intercept + slope * inverse,
        1 / sizes,
        means,
        bounds=([0, 0], [np.inf, np.inf]),
    )
    return PublishedDistance(
        float(line[0]),
        float(np.sqrt(covariance[0, 0])),
        {
            "min_samples": smallest,
            "max_samples": largest,
            "n_batches": n_batches,
            "replace": replace,
            "seed": seed,
        },
    )


def kernel_physics_distance(
    reference: ArrayLike, generated: ArrayLike, n_batches: int = 10, batch_size: int = 5000, seed: int = 42
) -> PublishedDistance:
    """Kernel physics distance: unbiased squared MMD with the kernel (x . y / d + 1)^4, median over batches.

    Parameters
    ----------
    reference : array-like of float, shape (m, d)
        As for `frechet_physics_distance`.
    generated : array-like of float, shape (n, d)
        The same for the generated jets.
    n_batches : int
        JetNet's; batches are drawn with replacement.
    batch_size : int
        JetNet's.
    seed : int
        JetNet's.

    Returns
    -------
    PublishedDistance
        Its error is half the central 68 % of the batches.

    Raises
    ------
    InputError
        As `frechet_physics_distance`.
    """
    x, y = _features(reference, generated, needed=FEWEST_FOR_PHYSICS)
    values = []
    for batch in range(n_batches):
        rng = np.random.default_rng(seed + 1000 * batch)
        rows_x, rows_y = (rng.choice(len(sample), size=batch_size) for sample in (x, y))
        values.append(_squared_mmd(_KernelSums.of(x[rows_x]), _KernelSums.of(y[rows_y])))
    return PublishedDistance(
        float(np.median(values)),
        float(iqr(values, rng=(16.275, 83.725)) / 2),
        {"n_batches": n_batches, "batch_size": batch_size, "seed": seed},
    )


def score_frechet(generated: ArrayLike, reference: ArrayLike, n_repeats: int = 50, seed: int = 0) -> Score:
    """Frechet physics distance of the two samples, with its error and floor; JetNet's number is ``published``.

    Parameters
    ----------
    generated : array-like of float, shape (n, d)
        Features, see `frechet_physics_distance`.
    reference : array-like of float, shape (m, d)
        The same of reference jets.
    n_repeats : int
        Random splits that measure the floor.
    seed : int
        Of splits and batches.

    Returns
    -------
    Score

    Raises
    ------
    InputError
        As `frechet_physics_distance`.
    """
    published = frechet_physics_distance(reference, generated, seed=seed)
    y, x = _features(reference, generated, FEWEST_FOR_PHYSICS)
    rng = np.random.default_rng(seed)
    of_x, of_y = (rng.permutation(len(sample)) % _GROUPS for sample in (x, y))
    generated_error, reference_error = (
        _jackknife([_frechet(x[of_x != group], y) for group in range(_GROUPS)]),
        _jackknife([_frechet(x, y[of_y != group]) for group in range(_GROUPS)]),
    )
    floor = reference_floor(y, len(x), _frechet, n_repeats, seed, squared=True)
    return Score(
        "fpd",
        "",
        _plain(_frechet(x, y), generated_error, reference_error, len(x), len(y)),
        floor,
        None,
        published,
    )


def score_kernel(generated: ArrayLike, reference: ArrayLike, n_repeats: int = 50, seed: int = 0) -> Score:
    """Kernel physics distance on all jets, with its error and floor; JetNet's number is ``published``.

    Parameters
    ----------
    generated : array-like of float, shape (n, d)
        Features, see `frechet_physics_distance`.
    reference : array-like of float, shape (m, d)
        The same of reference jets.
    n_repeats : int
        Random splits that measure the floor; they are over groups of jets.
    seed : int
        Of splits and batches.

    Returns
    -------
    Score

    Raises
    ------
    InputError
        As `frechet_physics_distance`.
    """
    published = kernel_physics_distance(reference, generated, seed=seed)
    y, x = _features(reference, generated, FEWEST_FOR_PHYSICS)
    rng = np.random.default_rng(seed)
    parts_x, parts_y = (
        [_KernelSums.of(part) for part in np.array_split(sample[rng.permutation(len(sample))], _GROUPS)]
        for sample in (x, y)
    )
    sums_x, sums_y = _total(parts_x), _total(parts_y)
    generated_error = _jackknife([_squared_mmd(sums_x - part, sums_y) for part in parts_x])
    reference_error = _jackknife([_squared_mmd(sums_x, sums_y - part) for part in parts_y])

    def of_groups(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
        return _squared_mmd(*(_total([parts_y[k] for k in groups]) for groups in (a, b)))

    in_groups = _GROUPS * len(x) / len(y)
    floor = reference_floor(np.arange(_GROUPS), in_groups, of_groups, n_repeats, seed, squared=True)
    floor = replace(floor, n_generated=len(x), n_reference=len(y))
    value = _squared_mmd(sums_x, sums_y)
    distance = _plain(value, generated_error, reference_error, len(x), len(y))
    return Score("kpd", "", distance, floor, None, published)


def _plain(value: float, generated: float, reference: float, n_generated: int, n_reference: int) -> Distance:
    """A distance without order or directions, from its value and the errors that the two samples make."""
    error = float(np.hypot(generated, reference))
    return Distance(value, error, error, 0.0, generated, None, 0, n_generated, n_reference)


def _features(reference: ArrayLike, generated: ArrayLike, needed: int) -> tuple[FloatArray, FloatArray]:
    x, y = np.asarray(reference, dtype=np.float64), np.asarray(generated, dtype=np.float64)
    for name, sample in (("reference", x), ("generated", y)):
        if sample.ndim != 2 or sample.shape[1] != x.shape[-1]:
            raise InputError(
                f"{name} has shape {sample.shape}: (jets, features) with as many features are needed"
            )
        if len(sample) < needed:
            raise TooFewJets(
                f"{name} has {len(sample)} jets: at least {needed} are needed, {FPD_JETS} recommended"
            )
        if not np.isfinite(sample).all():
            raise InputError(f"{name}: features are not finite")
    largest = np.abs(x).max(axis=0)
    largest[largest == 0] = 1.0
    return x / largest, y / largest


def _frechet(x: FloatArray, y: FloatArray) -> float:
    """|mu_x - mu_y|^2 + Tr(S_x + S_y - 2 (S_x S_y)^(1/2))."""
    shift = x.mean(axis=0) - y.mean(axis=0)
    sx, sy = np.atleast_2d(np.cov(x, rowvar=False)), np.atleast_2d(np.cov(y, rowvar=False))
    # Tr (S_x S_y)^(1/2) through symmetric matrices: the features are nearly degenerate, and the square root
    # of a product that is not symmetric would turn rounding into complex numbers.
    values, vectors = np.linalg.eigh(sx)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    overlap = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ sy @ root), 0)).sum()
    return float(shift @ shift + np.trace(sx) + np.trace(sy) - 2 * overlap)


def _quadratic(x: FloatArray) -> FloatArray:
    """Features f with f(x) . f(y) = (x . y / d + 1)^2, (n, (d + 1) (d + 2) / 2).

    The kernel (x . y / d + 1)^4 is the square of that product, so its mean over all pairs is the Frobenius product of
    two matrices of second moments of f: no pair of jets is ever formed.
    """
    d = x.shape[1]
    first, second = np.triu_indices(d, 1)
    y = x / np.sqrt(d)
    return np.concatenate(
        [np.ones((len(x), 1)), np.sqrt(2) * y, y**2, np.sqrt(2) * y[:, first] * y[:, second]], axis=1
    )


class _KernelSums:
    """What the mean kernel needs to know of some jets; sums of several parts add."""

    def __init__(self, n: int, moments: FloatArray, diagonal: float) -> None:
        self.n, self.moments, self.diagonal = n, moments, diagonal

    @classmethod
    def of(cls, x: FloatArray) -> _KernelSums:
        moments = np.zeros((0, 0))
        for part in np.array_split(x, max(1, -(-len(x) // 2000))):  # keeps the quadratic features small
            features = _quadratic(part)
            moments = features.T @ features + (moments if moments.size else 0.0)
        return cls(len(x), moments, float(((np.square(x).sum(axis=1) / x.shape[1] + 1) ** 4).sum()))

    def __add__(self, other: _KernelSums) -> _KernelSums:
        return _KernelSums(self.n + other.n, self.moments + other.moments, self.diagonal + other.diagonal)

    def __sub__(self, other: _KernelSums) -> _KernelSums:
        return _KernelSums(self.n - other.n, self.moments - other.moments, self.diagonal - other.diagonal)

    def mean_of_pairs(self) -> float:
        """Mean kernel over pairs of different jets."""
        return (float(np.vdot(self.moments, self.moments)) - self.diagonal) / (self.n * (self.n - 1))


def _total(parts: Sequence[_KernelSums]) -> _KernelSums:
    return functools.reduce(operator.add, parts)


def _squared_mmd(x: _KernelSums, y: _KernelSums) -> float:
    """Unbiased squared maximum mean discrepancy."""
    cross = float(np.vdot(x.moments, y.moments)) / (x.n * y.n)
    return x.mean_of_pairs() + y.mean_of_pairs() - 2 * cross


def _jackknife(values: list[float]) -> float:
    """Standard error of a statistic from its values with each of the groups left out."""
    return float(np.sqrt((len(values) - 1) * np.var(values)))
