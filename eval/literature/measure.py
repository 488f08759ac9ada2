"""From tables of runs to what verdicts rest on: one way for measured and for simulated studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from eval.errors import InputError
from eval.results import Estimate
from eval.scaling.approaches import isoflop
from eval.scaling.fit import fit
from eval.scaling.points import Points
from eval.scaling.repetition.fit import RepeatedData, repeated_data
from eval.scaling.repetition.threshold import Threshold, overfitting_threshold
from eval.scaling.result import FitResult
from eval.scaling.selection import sensitivity
from eval.scaling.uncertainty import MIN_GROUPS, POINTS_OF_FEW_GROUPS, bootstrap_unit


def single_pass_constants(points: Points, *, bootstrap: int = 200, seed: int = 0) -> Mapping[str, Estimate]:
    """Constants of L(N, D) with the intervals that verdicts rest on.

    The interval of the fit to all points, which holds the misfit of the law, is moved to the best value of the fits
    with every other window, objective and definition of N, and the union of all is taken. Fits to part of the points
    have longer intervals of their own, but that is their lack of points and no systematic error. Fewer than eight runs
    identify nothing, because they cannot be resampled whole.
    """
    try:
        found = _union(points, bootstrap, seed)
    except InputError:
        return {}
    if bootstrap_unit(points, "auto")[0] != POINTS_OF_FEW_GROUPS:
        return found
    few = f"fewer than {MIN_GROUPS} runs cannot be resampled whole, so that their intervals are too short"
    return {name: replace(estimate, identified=False, reason=few) for name, estimate in found.items()}


def isoflop_exponent(points: Points, *, bootstrap: int = 200, seed: int = 0) -> Estimate | None:
    """Exponent of N* ~ C^a by approach 2; None where it does not apply."""
    try:
        with np.errstate(over="ignore"):  # two minima far apart may draw a line of any slope
            return isoflop(points, bootstrap=bootstrap, seed=seed).params["a"]
    except InputError:
        return None


def repeated_constants(
    points: Points,
    curves: Sequence[ArrayLike],
    stopped: ArrayLike,
    single: FitResult | None,
    *,
    bootstrap: int = 200,
    seed: int = 0,
) -> tuple[Threshold | None, RepeatedData | None]:
    """Fit the overfitting threshold, and the law of repeated data to the runs above it.

    Parameters
    ----------
    points : Points
        N, U, the early-stopped L and the compute up to the stop, one row per run.
    curves : sequence of array-like of float
        Held-out losses of each run.
    stopped : array-like of bool
        Runs whose loss stopped falling before they were cut off.
    single : FitResult or None
        Single-pass law, with bootstrap.
    bootstrap : int
        Number of resamples.
    seed : int
        Seed of starts and resamples.

    Returns
    -------
    threshold : Threshold or None
        None if it cannot be fitted.
    repeated : RepeatedData or None
        None if it cannot be fitted.
    """
    n, u = points.variable("N"), points.variable("U")
    try:
        threshold = overfitting_threshold(n, u, curves, seed=seed)
    except InputError:
        return None, None
    try:
        chosen = threshold.above(n, u) & np.asarray(stopped, dtype=bool)
        with np.errstate(
            divide="ignore", over="ignore"
        ):  # resamples that reach a loss with no compute, or never
            return threshold, repeated_data(points, chosen, single, bootstrap=bootstrap, seed=seed)
    except InputError:
        return threshold, None


def single_pass_law(points: Points, *, bootstrap: int = 200, seed: int = 0) -> FitResult | None:
    """The additive law of N and D that repeated data are compared with; None where it cannot be fitted."""
    try:
        return fit(points, "additive", bootstrap=bootstrap, seed=seed)
    except InputError:
        return None


def _union(points: Points, bootstrap: int, seed: int) -> dict[str, Estimate]:
    tables = [points]
    if "N_blocks" in points.extra:
        tables.append(replace(points, N=np.array(points.extra["N_blocks"], dtype=np.float64)))
    fits = [
        variant.fit
        for table in tables
        for options in ({"loss": "mse-log"}, {"loss": "huber-log", "delta": 0.03})
        for variant in sensitivity(table, "additive", bootstrap=bootstrap, seed=seed, starts=24, **options)
    ]
    first, *others = ({**f.params, **f.derived} for f in fits)
    return {name: _moved(first[name], [f[name].value for f in others]) for name in first}


def _moved(reference: Estimate, others: Sequence[float]) -> Estimate:
    """Union of the reference's 95 % interval moved to the best value of every other fit."""
    if reference.ci95 is None:
        return reference
    low, high = reference.ci95
    values = [reference.value, *others]
    ends = (min(values) - (reference.value - low), max(values) + (high - reference.value))
    return Estimate(reference.value, None, ends, reference.identified, reference.reason)
