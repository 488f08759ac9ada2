"""Intervals: bootstrap over points or groups, and profiles."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from eval.common.errors import InputError
from eval.common.results import LEVELS, Estimate
from eval.scaling.fitting.problem import Problem
from eval.scaling.fitting.solve import Minima, descend, descend_likelihood, refine
from eval.scaling.points import Points

FloatArray = NDArray[np.float64]

MIN_GROUPS = 8
"""Fewer groups than this cannot be resampled: most draws would leave out what the law needs."""

TAIL = 0.5 - LEVELS["ci95"] / 2
"""Share of the resamples beyond either end of the 95 % interval."""

POINTS_OF_FEW_GROUPS = "points of few groups"
"""Unit of a bootstrap over points that are not independent: its intervals are too short."""


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """How points are resampled for the intervals of a fit.

    Attributes
    ----------
    n : int
        Number of resamples.
    unit : str
        "points", "groups", or `POINTS_OF_FEW_GROUPS`.
    groups : array of str, shape (n,), or None
        Labels of the groups that are drawn as a whole; None if single points are drawn.
    notes : tuple of str
        Caveats of the choice.
    """

    n: int
    unit: str = "points"
    groups: NDArray[np.str_] | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, points: Points, n: int, unit: str) -> "Bootstrap":
        """Choose what is drawn: ``unit`` is "points", "groups" or "auto", which means groups if there are enough.

        Raises InputError for another unit, and for groups that the points do not have.
        """
        if unit not in ("auto", "points", "groups"):
            raise InputError(f"unit: {unit} is not one of auto, points, groups")
        groups = points.group
        if unit == "groups" and groups is None:
            raise InputError(f"{points.source}: column group is missing; resampling groups needs it")
        if unit == "points" or groups is None:
            return cls(n)
        count = len(np.unique(groups))
        if unit == "auto" and count == len(points):
            return cls(n)
        if unit == "groups" or count >= MIN_GROUPS:
            return cls(n, "groups", groups)
        note = f"only {count} groups: the bootstrap resamples points and so ignores what points of one group share"
        return cls(n, POINTS_OF_FEW_GROUPS, notes=(note,))

    def counts(self, size: int, rng: np.random.Generator) -> FloatArray:
        """Return how often each of ``size`` points is drawn in each resample, shape (n, size)."""
        if self.groups is None:
            return rng.multinomial(size, np.full(size, 1 / size), size=self.n).astype(np.float64)
        names, member = np.unique(self.groups, return_inverse=True)
        draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=self.n)
        return draws[:, member].astype(np.float64)


def resample(
    problem: Problem,
    starts: FloatArray,
    counts: FloatArray,
    y: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Refit resamples ``counts`` (B, n) from ``starts`` (K, p); return coordinates (B, p) and objectives (B,).

    The starts are the distinct minima of the full fit, because which of them is lowest may change with the resample.
    Each resample may have its own responses ``y`` (B, n).
    """
    size, k = len(counts), len(starts)
    q, value = np.empty((size, starts.shape[1])), np.empty(size)
    block = max(1, 400 // k)
    for first in range(0, size, block):
        part = counts[first : first + block]
        weight = np.repeat(part * problem.weight, k, axis=0)
        responses = None if y is None else np.repeat(y[first : first + block], k, axis=0)
        found = _refit(problem, np.tile(starts, (len(part), 1)), weight, responses)
        best = np.argmin(found.value.reshape(len(part), k), axis=1)
        rows = np.arange(len(part)) * k + best
        q[first : first + block], value[first : first + block] = found.q[rows], found.value[rows]
    return q, value


def _refit(problem: Problem, q: FloatArray, weight: FloatArray, y: FloatArray | None) -> Minima:
    if problem.objective.kind == "huber-likelihood":
        return descend_likelihood(problem, q, weight, y)
    return refine(problem, q, slice(None), weight, y=y, coarsest=10.0, tolerance=1e-9)


def on_bound(problem: Problem, q: FloatArray) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether each coordinate (S, p) lies on its lower and upper bound."""
    width = np.where(np.isfinite(problem.high - problem.low), problem.high - problem.low, 1.0)
    close = 1e-6 * width
    return (q <= problem.low + close) & problem.free, (q >= problem.high - close) & problem.free


def bound_reasons(problem: Problem, best: FloatArray, q: FloatArray | None) -> dict[str, str]:
    """Return, for each constant, the bound into which it runs, or an empty string; ``q`` (B, p) are from the bootstrap.

    An interval that is truncated by a bound looks narrow, so that its width is meaningless.
    """
    low, high = on_bound(problem, best[None])
    reasons = dict.fromkeys(problem.law.names, "")
    q_low, q_high = (None, None) if q is None else on_bound(problem, q)
    for i, parameter in enumerate(problem.law.parameters):
        if not problem.free[i]:
            continue
        if low[0, i] or high[0, i]:
            reasons[parameter.name] = "the best fit lies on a bound"
        elif q_low is not None and q_high is not None and q_low[:, i].mean() >= TAIL:
            reasons[parameter.name] = "the 95% interval runs into its lower bound"
        elif q_low is not None and q_high is not None and q_high[:, i].mean() >= TAIL:
            reasons[parameter.name] = "the 95% interval runs into its upper bound"
    return reasons


def estimates(
    problem: Problem, values: FloatArray, samples: FloatArray | None, reasons: Mapping[str, str]
) -> dict[str, Estimate]:
    """Return estimates of the law's constants; fixed ones have no interval. ``samples`` (B, p) are natural values.

    ``reasons`` say why constants are not identified, other than by the width of their intervals.
    """
    return {
        p.name: Estimate.from_samples(
            values[i], None if samples is None or not problem.free[i] else samples[:, i]
        ).judged(p.kind, reasons[p.name])
        for i, p in enumerate(problem.law.parameters)
    }


def derived(
    problem: Problem, values: FloatArray, samples: FloatArray | None, reasons: Mapping[str, str]
) -> dict[str, Estimate]:
    """Return the compute-optimal exponents of laws of N and D: N* ~ C^a, D* ~ C^b, L* - E ~ C^-gamma.

    a = beta/(alpha + beta), b = alpha/(alpha + beta), gamma = alpha beta/(alpha + beta)
    (Hoffmann et al., arXiv:2203.15556, eq. 4).
    """
    pair = problem.law.allocation
    if pair is None:
        return {}
    i, j = (problem.law.names.index(name) for name in pair)
    if not (problem.free[i] or problem.free[j]):
        samples = None
    forms: dict[str, Callable[[FloatArray, FloatArray], FloatArray]] = {
        "a": lambda alpha, beta: beta / (alpha + beta),
        "b": lambda alpha, beta: alpha / (alpha + beta),
        "gamma": lambda alpha, beta: alpha * beta / (alpha + beta),
    }
    reason = "; ".join(f"{name}: {reasons[name]}" for name in dict.fromkeys(pair) if reasons[name])
    return {
        name: Estimate.from_samples(
            float(form(values[i], values[j])), None if samples is None else form(samples[:, i], samples[:, j])
        ).judged("exponent", reason)
        for name, form in forms.items()
    }


@dataclass(frozen=True, eq=False)
class Profile:
    """Objective minimised over all other constants, as a function of one.

    Attributes
    ----------
    name : str
        The constant.
    values : array of float, shape (m,)
        Scanned values of the constant.
    deviance : array of float, shape (m,)
        Increase of the objective, scaled to follow chi-squared with one degree of freedom.
    ci68 : tuple of float
        Range in which the deviance is below 1.00; it ends at the end of the scan if the deviance does not exceed it.
    ci95 : tuple of float
        Range in which the deviance is below 3.84.
    closed68 : bool
        Whether both ends of `ci68` lie inside the scan.
    closed95 : bool
        Whether both ends of `ci95` lie inside the scan.
    """

    name: str
    values: FloatArray
    deviance: FloatArray
    ci68: tuple[float, float]
    ci95: tuple[float, float]
    closed68: bool
    closed95: bool


def profile_of(
    problem: Problem, best: FloatArray, name: str, points: int = 61, reach: float = 8.0
) -> Profile:
    """Return the profile of one constant (natural value) of the fit with coordinates ``best`` (p,).

    Twice the increase of the objective, divided by the variance of its slope and multiplied by its curvature in the
    residual, follows chi-squared with one degree of freedom (robust likelihood ratio: Huber & Ronchetti 2009, ch. 6).
    For mean squares this is the usual profile. The scan extends over ``reach`` local standard errors on either side, up
    to the bounds, and is logarithmic for scales.
    """
    law, index = problem.law, problem.law.names.index(name)
    free = problem.free.copy()
    free[index] = False
    natural = law.coordinates(problem.natural(best))
    spread = _standard_errors(problem, best)[index]
    low, high = natural[index] - reach * spread, natural[index] + reach * spread
    parameter = law.parameters[index]
    if not parameter.log:
        low, high = max(low, problem.low[index]), min(high, problem.high[index])
    grid = np.unique(np.append(np.linspace(low, high, points), natural[index]))
    scan = replace(problem, free=free)
    fixed = np.tile(np.where(problem.free, natural, problem.fixed), (len(grid), 1))
    fixed[:, index] = grid
    q, value = np.tile(best, (len(grid), 1)), np.full(len(grid), np.inf)
    for _ in range(3):
        for shift in (0, 1, -1):
            found = _scan(scan, np.roll(q, shift, axis=0), fixed)
            better = found.value < value
            q[better], value[better] = found.q[better], found.value[better]
    deviance = 2 * (value - value.min()) * _information(problem, scan.residual(q[np.argmin(value)])[0])
    values = np.exp(grid) if parameter.log else grid
    ends = {}
    for key, limit in {"68": 1.0, "95": 3.8415}.items():
        ends[key] = _crossings(grid, deviance, limit)
    convert = np.exp if parameter.log else np.asarray
    return Profile(
        name,
        values,
        deviance,
        ci68=tuple(float(convert(x)) for x in ends["68"][0]),  # type: ignore[arg-type]
        ci95=tuple(float(convert(x)) for x in ends["95"][0]),  # type: ignore[arg-type]
        closed68=ends["68"][1],
        closed95=ends["95"][1],
    )


def _information(problem: Problem, residual: FloatArray) -> float:
    """Return E[psi']/E[psi^2] of the residuals, which turns an increase of the objective into a deviance.

    If most residuals are far above the Huber threshold, psi' counts the few points in a narrow strip; the strip is
    therefore widened to a kernel bandwidth, and the count scaled back.
    """
    weight, delta = problem.weight, problem.objective.threshold
    free = max(len(residual) - int(problem.free.sum()), 1)
    slope = float(weight**2 @ np.clip(residual, -delta, delta) ** 2) * len(residual) / free
    if not np.isfinite(delta):
        return float(weight.sum()) / max(slope, 1e-300)
    width = 1.06 * 1.4826 * float(np.median(np.abs(residual))) * len(residual) ** -0.2
    strip = max(delta, width)
    return float(weight @ (np.abs(residual) <= strip)) * (delta / strip) / max(slope, 1e-300)


def _scan(problem: Problem, q: FloatArray, fixed: FloatArray) -> Minima:
    q = q.copy()
    _, offset = problem.reduction(fixed)
    held = ~problem.free
    q[:, held] = offset[:, held]
    return descend(problem, q, fixed=fixed, delta=problem.objective.threshold)


def _standard_errors(problem: Problem, best: FloatArray) -> FloatArray:
    """Return rough errors of natural coordinates from the least-squares matrix, to choose the width of a scan."""
    _, jacobian = problem.law.evaluate(best[None], problem.u)
    residual = problem.residual(best)[0]
    f = np.exp(residual) * problem.y if problem.objective.log else 1.0
    matrix, _ = problem.law.centring(problem.centre)
    natural = np.linalg.inv(matrix).T @ (jacobian[0] / f)
    normal = (natural * problem.weight) @ natural.T
    variance = float(problem.weight @ residual**2) / max(len(problem.y) - len(best), 1)
    return np.sqrt(np.maximum(np.diag(np.linalg.pinv(normal, hermitian=True)) * variance, 1e-24))


def _crossings(grid: FloatArray, deviance: FloatArray, limit: float) -> tuple[tuple[float, float], bool]:
    inside = np.flatnonzero(deviance <= limit)
    first, last = inside[0], inside[-1]
    closed = bool(first > 0 and last < len(grid) - 1)

    def edge(i: int, j: int) -> float:
        share = (limit - deviance[i]) / (deviance[j] - deviance[i])
        return float(grid[i] + share * (grid[j] - grid[i]))

    low = edge(first, first - 1) if first > 0 else float(grid[0])
    high = edge(last, last + 1) if last < len(grid) - 1 else float(grid[-1])
    return (low, high), closed
