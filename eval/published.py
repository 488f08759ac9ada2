"""Distances exactly as other papers report them, so that numbers can be set side by side.

Frechet and kernel physics distance (Kansal et al., arXiv:2211.10295) and coverage with minimum matching distance
(Kansal et al., arXiv:2106.11535) follow the JetNet library; the quantile-binned Kullback-Leibler divergence follows
OmniJet-alpha (arXiv:2403.05618). Their conventions are kept, also where we would choose otherwise; docs/fidelity.md
says which to trust for what.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement

import awkward as ak
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import curve_fit
from scipy.stats import entropy, iqr
from tqdm import tqdm

from eval.clustering import squared_distance
from eval.constituents import Constituents
from eval.correlators import FLOW_GRAPHS
from eval.errors import InputError

FloatArray = NDArray[np.float64]

#: Jets that JetNet recommends for FPD; its batches grow from 20,000 to this.
FPD_JETS = 50_000


@dataclass(frozen=True)
class PublishedDistance:
    """A distance and its error in the convention of its paper; ``settings`` holds what would change it."""

    value: float
    error: float
    settings: dict[str, float | bool]


def physics_features(jets: ak.Array | Constituents) -> FloatArray:
    """The 36 energy flow polynomials of degree 0 to 4 that FPD and KPD are defined on, (J, 36).

    The 20 connected ones, and all their products up to degree 4 (the one of degree 0 is the constant 1). JetNet uses
    the pT as given; here it is divided by its sum, which is the same for JetNet's relative pT of complete jets.
    """
    constituents = jets if isinstance(jets, Constituents) else Constituents(jets)
    connected = constituents.flow_polynomials
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
    reference, generated : (m, d) and (n, d) features, usually :func:`physics_features`. Each is divided by the
        largest absolute value of the reference.
    min_samples, max_samples : smallest and largest batch N. By default JetNet's 20,000 and 50,000 where both samples
        have as many, otherwise the smaller sample and 0.4 of it.
    n_batches, n_points : batches averaged at each N, and values of N at even steps of 1/N.
    replace : draw batches with replacement, as JetNet does. Then the extrapolation reaches the distance of the two
        samples at hand, which still has the bias of their size; without replacement it reaches zero for samples of
        one distribution.
    seed : of the batches; JetNet's default.

    Raises
    ------
    InputError
        For fewer than 1,000 jets, features that differ in number, or values that are not finite.
    """
    x, y = _features(reference, generated, needed=1000)
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
    reference, generated : as for :func:`frechet_physics_distance`.
    n_batches, batch_size, seed : JetNet's; batches are drawn with replacement. The error is half the central 68 %.

    Raises
    ------
    InputError
        As :func:`frechet_physics_distance`.
    """
    x, y = _features(reference, generated, needed=1000)
    values = []
    for batch in range(n_batches):
        rng = np.random.default_rng(seed + 1000 * batch)
        rows_x, rows_y = (rng.choice(len(sample), size=batch_size) for sample in (x, y))
        values.append(_squared_mmd(x[rows_x], y[rows_y]))
    return PublishedDistance(
        float(np.median(values)),
        float(iqr(values, rng=(16.275, 83.725)) / 2),
        {"n_batches": n_batches, "batch_size": batch_size, "seed": seed},
    )


def quantile_kl(reference: ArrayLike, generated: ArrayLike, n_bins: int = 30) -> float:
    """KL divergence, in nats, of the generated histogram from the reference one, in equiprobable bins of the reference.

    The outer bins are open, and 1e-10 is added to every generated share, as OmniJet-alpha does. Two samples of n jets
    from one distribution have about (n_bins - 1) / n.

    Raises
    ------
    InputError
        For empty or not finite samples.
    """
    x, y = (np.asarray(values, dtype=np.float64) for values in (reference, generated))
    for name, sample in (("reference", x), ("generated", y)):
        if sample.ndim != 1 or sample.size == 0 or not np.isfinite(sample).all():
            raise InputError(f"{name} must be a list of finite numbers, found shape {sample.shape}")
    edges = np.quantile(x, np.linspace(0, 1, n_bins + 1))
    edges[0], edges[-1] = -np.inf, np.inf
    shares_x, shares_y = (np.histogram(sample, edges)[0] / sample.size for sample in (x, y))
    return float(entropy(shares_x, shares_y + 1e-10))


def energy_movers_distance(a: FloatArray, b: FloatArray, radius: float = 1.0) -> float:
    """Energy mover's distance of two jets in GeV (Komiske, Metodiev and Thaler, arXiv:1902.02346, eq. 1).

    Parameters
    ----------
    a, b : (particles, 3) pT in GeV, eta_rel, phi_rel.
    radius : cost of creating pT, R in the paper; 1 as in EnergyFlow and JetNet.
    """
    import ot

    cost = np.sqrt(squared_distance(a[:, None, 1], a[:, None, 2], b[None, :, 1], b[None, :, 2])) / radius
    supply, demand = a[:, 0], b[:, 0]
    missing = float(supply.sum() - demand.sum())
    # The difference in pT goes to a particle that is one unit of cost away from all others.
    if missing > 0:
        cost, demand = np.pad(cost, ((0, 0), (0, 1)), constant_values=1.0), np.append(demand, missing)
    elif missing < 0:
        cost, supply = np.pad(cost, ((0, 1), (0, 0)), constant_values=1.0), np.append(supply, -missing)
    return float(ot.emd2(np.ascontiguousarray(supply), np.ascontiguousarray(demand), cost))


@dataclass(frozen=True)
class CoverageMatching:
    """Coverage and minimum matching distance (MMD, GeV) with their standard errors over batches."""

    coverage: float
    coverage_error: float
    matching_distance_gev: float
    matching_distance_error_gev: float
    n_jets: int
    n_batches: int


def coverage_and_matching(
    reference: ak.Array,
    generated: ak.Array,
    n_jets: int = 100,
    n_batches: int = 5,
    seed: int = 42,
    progress: bool = True,
) -> CoverageMatching:
    """Coverage and MMD by the energy mover's distance, averaged over batches.

    Coverage: share of reference jets that are the nearest to some generated jet. MMD: mean distance of each reference
    jet to the nearest generated one. Both depend on n_jets: compare only numbers with the same.

    Parameters
    ----------
    reference, generated : jets as in :class:`eval.constituents.Constituents`; masses are not used.
    n_jets : jets of each kind in a batch; JetNet's 100.
    n_batches : JetNet's default is 10; the time is that of n_batches * n_jets^2 optimal transports, about 1 ms each.
    seed : of the batches.
    progress : show a progress bar.

    Raises
    ------
    InputError
        When either sample has fewer than n_jets jets with particles, or bad constituents.
    """
    lists = []
    for name, jets in (("reference", reference), ("generated", generated)):
        checked = Constituents(jets, name)
        particles = np.stack([checked.pt, checked.eta, checked.phi], axis=1)
        split = [jet for jet in np.split(particles, np.cumsum(checked.counts)[:-1]) if len(jet)]
        if len(split) < n_jets:
            raise InputError(
                f"{name} has {len(split)} jets with particles: at least n_jets = {n_jets} are needed"
            )
        lists.append(split)
    rng = np.random.default_rng(seed)
    coverages, matchings = [], []
    for _ in tqdm(range(n_batches), desc="energy mover's distances", disable=not progress):
        real, fake = ([jets[k] for k in rng.choice(len(jets), size=n_jets)] for jets in lists)
        distance = np.array([[energy_movers_distance(f, r) for r in real] for f in fake])
        coverages.append(np.unique(distance.argmin(axis=1)).size / n_jets)
        matchings.append(distance.min(axis=0).mean())

    def error(values: list[float]) -> float:
        return float(np.std(values, ddof=1) / np.sqrt(n_batches)) if n_batches > 1 else float("inf")

    return CoverageMatching(
        float(np.mean(coverages)),
        error(coverages),
        float(np.mean(matchings)),
        error(matchings),
        n_jets,
        n_batches,
    )


def _features(reference: ArrayLike, generated: ArrayLike, needed: int) -> tuple[FloatArray, FloatArray]:
    x, y = np.asarray(reference, dtype=np.float64), np.asarray(generated, dtype=np.float64)
    for name, sample in (("reference", x), ("generated", y)):
        if sample.ndim != 2 or sample.shape[1] != x.shape[-1]:
            raise InputError(
                f"{name} has shape {sample.shape}: (jets, features) with as many features are needed"
            )
        if len(sample) < needed:
            raise InputError(
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


def _squared_mmd(x: FloatArray, y: FloatArray) -> float:
    def kernel(a: FloatArray, b: FloatArray) -> FloatArray:
        values = a @ b.T / a.shape[1] + 1
        values *= values  # squared twice: a general power takes ten times as long
        values *= values
        return values

    def off_diagonal_mean(values: FloatArray) -> float:
        n = len(values)
        return float((values.sum() - np.trace(values)) / (n * (n - 1)))

    return off_diagonal_mean(kernel(x, x)) + off_diagonal_mean(kernel(y, y)) - 2 * float(kernel(x, y).mean())
