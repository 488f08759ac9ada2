"""The estimates that verdicts rest on, from tables of runs; measured and simulated studies are treated alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from eval.common.errors import InputError
from eval.common.results import Estimate
from eval.scaling.approaches.isoflop import isoflop
from eval.scaling.fitting.fit import fit
from eval.scaling.fitting.result import FitResult
from eval.scaling.fitting.uncertainty import MIN_GROUPS, POINTS_OF_FEW_GROUPS, Bootstrap
from eval.scaling.laws.registry import get_law
from eval.scaling.points import Points
from eval.scaling.repetition.fit import RepeatedData, repeated_data
from eval.scaling.repetition.threshold import Threshold, overfitting_threshold
from eval.scaling.selection import spreads_of, variants


def single_pass_constants(points: Points, *, bootstrap: int = 200, seed: int = 0) -> Mapping[str, Estimate]:
    """Constants of L(N, D) with the intervals that verdicts rest on.

    They are those of the fit to all points, with the misfit of the law, moved to the value of the fits with every other
    window, objective and definition of N, and united. Constants that must not be judged by have no 95 % interval: those
    whose interval, or best value in the fit to all points, runs into a bound, because a term may then be absent, and
    all constants of fewer than eight runs, which cannot be resampled whole.
    """
    try:
        ways = variants(points, "additive", bootstrap=bootstrap, seed=seed)
    except InputError:
        return {}
    hit = ways[0].fit.bounds_hit
    few = Bootstrap.of(points, bootstrap, "auto").unit == POINTS_OF_FEW_GROUPS
    bounds = {p.name: (p.lower, p.upper) for p in get_law("additive").parameters}
    found = {}
    for name, spread in spreads_of(ways).items():
        estimate, reason = spread.estimate, ""
        if few:
            reason = (
                f"fewer than {MIN_GROUPS} runs cannot be resampled whole, so that intervals are too short"
            )
        elif set(_TERMS.get(name, ())) & set(hit) or _reaches(estimate, bounds.get(name, (-np.inf, np.inf))):
            reason = estimate.reason or "it runs into a bound"
        found[name] = replace(estimate, ci95=None, identified=False, reason=reason) if reason else estimate
    return found


#: Constants of which none may lie on a bound if an exponent is to mean anything.
_TERMS = {
    "alpha": ("A", "alpha"),
    "beta": ("B", "beta"),
    **dict.fromkeys(("a", "b", "gamma"), ("A", "alpha", "B", "beta")),
}


def _reaches(estimate: Estimate, bounds: tuple[float, float]) -> bool:
    """Whether the 95 % interval runs into a bound."""
    return estimate.ci95 is not None and not (
        estimate.ci95[0] > 1.001 * bounds[0] and estimate.ci95[1] < 0.999 * bounds[1]
    )


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
