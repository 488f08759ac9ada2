"""Approaches 1 and 2 to the compute-optimal line.

Both estimate N* = k_N C^a and D* = k_D C^b directly from the losses (Hoffmann et al., arXiv:2203.15556): approach 1
from the envelope of training curves, approach 2 from parabolas through runs of equal compute. Approach 3, a law for
the whole surface, is ``fit``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.optimize import brentq

from eval.common.errors import InputError
from eval.common.results import SCHEMA_VERSION, Estimate, write_json
from eval.scaling.points import Points

FloatArray = NDArray[np.float64]

SAME_BUDGET = 0.02
"""Runs whose ln C differ by less than this from the next belong to one IsoFLOP slice, at most twice as wide."""
MIN_SIZES = 4
"""A parabola through three points has no error."""
BUDGETS = 8
"""Slices cut through training curves where runs do not come in slices."""
EDGE = 0.25
"""Minima in the outer quarters of a slice, in ln N, are off centre."""
MOST_DIP = 0.5
"""A minimum may lie below the lowest run of its slice by so much of what separates that run from the third lowest. A
parabola on equal steps dips by at most a quarter of it; one that dips further does not follow its runs."""


@dataclass(frozen=True)
class Optimum:
    """One estimate of the compute-optimal model: a crossing of training curves, or the minimum of a slice.

    ``N`` and ``D`` are the best values at the compute ``C``, ``error_N`` and ``error_D`` the standard errors of their
    logarithms (0 if not known). ``reason`` says why the estimate was rejected, and is empty if it was used. ``x`` and
    ``y`` are the ln N and the losses of the slice, ``curve`` the coefficients of its parabola in ln N - mean(x),
    highest power first.
    """

    C: float
    N: float = np.nan
    D: float = np.nan
    L: float = np.nan
    error_N: float = 0.0
    error_D: float = 0.0
    reason: str = ""
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()
    curve: tuple[float, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        plain = {name: getattr(self, name) for name in ("C", "N", "D", "L", "error_N", "error_D")}
        return {k: v if np.isfinite(v) else None for k, v in plain.items()} | {"reason": self.reason}


@dataclass(frozen=True, eq=False)
class FrontierFit:
    """Compute-optimal power laws of approach 1 or 2.

    Attributes
    ----------
    approach : int
        1 or 2.
    params : mapping of str to Estimate
        ``k_N``, ``a`` (N* = k_N C^a) and ``k_D``, ``b`` (D* = k_D C^b).
    optima : tuple of Optimum
        All estimates, those that were rejected with the reason.
    n_points : int
        Number of points in the table.
    interpolated : bool
        Whether slices were cut through training curves.
    warnings : tuple of str
        Caveats of the result.
    """

    approach: int
    params: Mapping[str, Estimate]
    optima: tuple[Optimum, ...]
    n_points: int
    interpolated: bool
    warnings: tuple[str, ...]

    @property
    def used(self) -> tuple[Optimum, ...]:
        """The optima that were accepted."""
        return tuple(o for o in self.optima if not o.reason)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, under those keys of ``fit.json`` that apply."""
        return {
            "schema_version": SCHEMA_VERSION,
            "law": "compute-optimal",
            "formula": "N* = k_N C^a, D* = k_D C^b",
            "approach": self.approach,
            "n_points": self.n_points,
            "params": {name: estimate.to_dict() for name, estimate in self.params.items()},
            "derived": {name: self.params[name].to_dict() for name in ("a", "b")},
            "status": "converged",
            "optima": [o.to_dict() for o in self.optima],
            "interpolated": self.interpolated,
            "warnings": list(self.warnings),
        }

    def to_json(self, path: Any = None) -> str:
        """Return the JSON text, and write it to ``path`` if given."""
        return write_json(self.to_dict(), path)

    def __str__(self) -> str:
        kind = {1: "envelope of training curves", 2: "IsoFLOP parabolas"}[self.approach]
        lines = [f"approach {self.approach}, {kind}: {len(self.used)} of {len(self.optima)} optima used"]
        lines += [f"  {name:4s} {estimate}" for name, estimate in self.params.items()]
        lines += [f"  rejected at C = {o.C:.3g}: {o.reason}" for o in self.optima if o.reason]
        return "\n".join(lines + [f"  note: {text}" for text in self.warnings])


def envelope(points: Points, *, bootstrap: int = 200, seed: int = 0) -> FrontierFit:
    """Approach 1: where the training curves of neighbouring sizes cross, their geometric mean is optimal.

    For L = E + A/N^alpha + B/D^beta the curves of N e^-h and N e^h cross at a compute at which N is optimal up to a
    factor that depends on h alone. For sizes of constant ratio the exponent ``a`` is therefore unbiased.

    Parameters
    ----------
    points : Points
        Losses along the training of at least three sizes.
    bootstrap : int
        Number of resamples for the intervals.
    seed : int
        Seed of the resamples.

    Returns
    -------
    FrontierFit

    Raises
    ------
    InputError
        There are fewer than three sizes with two points each, or fewer than two crossings.
    """
    curves = _curves(points, least=2)
    if len(curves) < 3:
        raise InputError(
            f"{points.source}: approach 1 needs training curves of three sizes, found {len(curves)}"
        )
    sizes = sorted(curves)
    k, _ = points.flops_factor
    found = []
    for small, large in pairwise(sizes):
        found.append(_crossing(curves, small, large, k))
    return _frontier(1, points, found, False, bootstrap, seed, ())


def isoflop(points: Points, *, bootstrap: int = 200, seed: int = 0) -> FrontierFit:
    """Approach 2: the minimum of a parabola in ln N (and one in ln D) through runs of equal compute.

    Runs whose compute differs by at most 2 % form a slice. If fewer than two slices have four sizes, slices are cut
    through the training curves of each size instead (by monotone interpolation of L in ln D, without extrapolation).

    Parameters
    ----------
    points : Points
        Losses of runs of equal compute, or along the training of at least four sizes.
    bootstrap : int
        Number of resamples for the intervals.
    seed : int
        Seed of the resamples.

    Returns
    -------
    FrontierFit

    Raises
    ------
    InputError
        Fewer than two minima are accepted.
    """
    slices = _slices(points)
    interpolated = sum(len(s[1]) >= MIN_SIZES for s in slices) < 2
    notes: tuple[str, ...] = ()
    if interpolated:
        slices = _cut_slices(points)
        notes = ("slices were cut through training curves: neighbouring minima share runs",)
    parabolas = [_parabola(*s) for s in slices]
    # One noise level for all slices: four to nine points are too few to estimate the noise of each slice.
    squares, free = sum(p[1] for p in parabolas), sum(p[2] for p in parabolas)
    variance = squares / free if free else np.nan
    found = [_minimum(s, p[0], p[3], variance) for s, p in zip(slices, parabolas, strict=True)]
    return _frontier(2, points, found, interpolated, bootstrap, seed, notes + _off_centre(found))


def _off_centre(found: Sequence[Optimum]) -> tuple[str, ...]:
    """Warn where minima lie near the ends of their slices: there a parabola is biased, or finds none."""
    places = [
        (np.log(o.N) - min(o.x)) / (max(o.x) - min(o.x))
        for o in found
        if np.isfinite(o.N) and len(o.x) >= MIN_SIZES
    ]
    near = [p for p in places if not EDGE < p < 1 - EDGE]
    if len(near) <= len(places) / 2:
        return ()
    side = "smaller" if np.mean(near) < 0.5 else "larger"
    return (
        f"the grid is off centre: {len(near)} of {len(places)} minima lie in the outer quarters of their slices; "
        f"{side} models are needed",
    )


def _curves(points: Points, least: int) -> dict[float, tuple[FloatArray, FloatArray]]:
    """Return the training curve of each size: ln D in increasing order, and the mean loss at each."""
    n, d = points.variable("N"), points.variable("D")
    curves = {}
    rounded = np.exp(np.round(np.log(n), 6))  # sizes that differ by rounding are one model
    for size in np.unique(rounded):
        here = rounded == size
        data, index = np.unique(d[here], return_inverse=True)
        loss = np.bincount(index, weights=points.L[here]) / np.bincount(index)
        if len(data) >= least:
            curves[float(size)] = (np.log(data), loss)
    return curves


def _crossing(
    curves: Mapping[float, tuple[FloatArray, FloatArray]], small: float, large: float, k: float
) -> Optimum:
    def loss(size: float, log_c: FloatArray) -> FloatArray:
        log_d, values = curves[size]
        return np.interp(log_c - np.log(k * size), log_d, values, left=np.nan, right=np.nan)

    low = np.log(k * large) + curves[large][0][0]
    high = np.log(k * small) + curves[small][0][-1]
    middle = float(np.exp(0.5 * (low + high)))
    pair = f"N = {small:.3g} and {large:.3g}"
    if low >= high:
        return Optimum(middle, reason=f"curves of {pair} share no compute")
    # Without the ends, where rounding decides whether a curve is defined: a loss that is not would pass for a crossing.
    log_c = np.linspace(low, high, 2001)[1:-1]
    ahead = loss(small, log_c) - loss(large, log_c) > 0
    switches = np.flatnonzero(ahead[1:] & ~ahead[:-1])
    if not switches.size:
        which = "larger" if ahead[0] else "smaller"
        return Optimum(middle, reason=f"curves of {pair} do not cross: the {which} is better throughout")
    # Noise makes curves cross more than once; the middle crossing is the most robust one.
    at = log_c[switches[len(switches) // 2]]
    best = float(loss(small, np.array([at]))[0])
    others = [float(loss(size, np.array([at]))[0]) for size in curves if size not in (small, large)]
    n = float(np.sqrt(small * large))
    c = float(np.exp(at))
    reason = f"a third size is better where {pair} cross" if any(x < best for x in others) else ""
    return Optimum(c, n, c / (k * n), best, reason=reason)


Slice = tuple[float, FloatArray, FloatArray, FloatArray]
"""Compute, ln N, ln D, L of the runs of one budget."""


def _slices(points: Points) -> list[Slice]:
    n, d, c = (np.log(points.variable(name)) for name in "NDC")
    order = np.argsort(c, kind="stable")
    edges = np.flatnonzero(np.diff(c[order]) > SAME_BUDGET) + 1
    return [
        (float(np.exp(c[rows].mean())), n[rows], d[rows], points.L[rows])
        for rows in np.split(order, edges)
        # Runs of slightly different compute may form a chain that spans decades, which is not one budget.
        if len(np.unique(n[rows])) >= 3 and np.ptp(c[rows]) <= 2 * SAME_BUDGET
    ]


def _cut_slices(points: Points) -> list[Slice]:
    curves = _curves(points, least=3)
    k, _ = points.flops_factor
    if len(curves) < MIN_SIZES:
        return []
    low = np.array([np.log(k * size) + log_d[0] for size, (log_d, _) in curves.items()])
    high = np.array([np.log(k * size) + log_d[-1] for size, (log_d, _) in curves.items()])
    # Budgets at which at least four sizes have been trained.
    candidates = np.linspace(low.min(), high.max(), 400)
    covered = [(low <= c).sum() - (high < c).sum() >= MIN_SIZES for c in candidates]
    if not any(covered):
        return []
    inside = candidates[covered]
    slices = []
    for log_c in np.linspace(inside[0], inside[-1], BUDGETS):
        sizes, data, losses = [], [], []
        for size, (log_d, loss) in curves.items():
            at = log_c - np.log(k * size)
            if log_d[0] <= at <= log_d[-1]:
                sizes.append(np.log(size))
                data.append(at)
                losses.append(float(PchipInterpolator(log_d, loss)(at)))
        slices.append((float(np.exp(log_c)), np.array(sizes), np.array(data), np.array(losses)))
    return slices


def _parabola(
    compute: float, log_n: FloatArray, log_d: FloatArray, loss: FloatArray
) -> tuple[FloatArray, float, int, FloatArray]:
    """Return the coefficients in ln N, sum of squares, degrees of freedom, and coefficients in ln D."""
    by_n = np.polyfit(log_n - log_n.mean(), loss, 2) if len(np.unique(log_n)) >= 3 else np.zeros(3)
    by_d = np.polyfit(log_d - log_d.mean(), loss, 2) if len(np.unique(log_d)) >= 3 else np.zeros(3)
    rest = loss - np.polyval(by_n, log_n - log_n.mean())
    return by_n, float(rest @ rest), max(len(loss) - 3, 0), by_d


def _vertex(curve: FloatArray, x: FloatArray, variance: float) -> tuple[float, float]:
    """Return the minimum of a parabola about mean(x), and its standard error by error propagation."""
    second, first, _ = curve
    design = np.vander(x - x.mean(), 3)
    covariance = variance * np.linalg.pinv(design.T @ design)
    slope = np.array([first / (2 * second**2), -1 / (2 * second), 0.0])
    return float(x.mean() - first / (2 * second)), float(np.sqrt(max(slope @ covariance @ slope, 0.0)))


def _minimum(piece: Slice, by_n: FloatArray, by_d: FloatArray, variance: float) -> Optimum:
    compute, log_n, log_d, loss = piece
    base = Optimum(compute, x=tuple(log_n), y=tuple(loss), curve=tuple(by_n))
    if len(np.unique(log_n)) < MIN_SIZES:
        return replace(base, reason=f"{len(np.unique(log_n))} sizes; a parabola needs {MIN_SIZES}")
    if by_n[0] <= 0 or by_d[0] <= 0:
        return replace(base, reason="not convex")
    if not np.isfinite(variance):
        variance = 0.0
    n, error_n = _vertex(by_n, log_n, variance)
    d, error_d = _vertex(by_d, log_d, variance)
    lowest = float(np.polyval(by_n, n - log_n.mean()))
    ordered = np.sort(loss)
    reason = ""
    if not (log_n.min() < n < log_n.max() and log_d.min() < d < log_d.max()):
        reason = "minimum at the edge"
    elif ordered[0] - lowest > MOST_DIP * (ordered[2] - ordered[0]):
        reason = "minimum below all runs: the parabola does not follow them"
    return replace(
        base,
        N=float(np.exp(n)),
        D=float(np.exp(d)),
        L=lowest,
        error_N=error_n,
        error_D=error_d,
        reason=reason,
    )


def _frontier(
    approach: int,
    points: Points,
    found: Sequence[Optimum],
    interpolated: bool,
    bootstrap: int,
    seed: int,
    notes: tuple[str, ...],
) -> FrontierFit:
    used = [o for o in found if not o.reason]
    if len(used) < 2:
        shown = list(dict.fromkeys(o.reason for o in found if o.reason))[:3]
        reasons = "; ".join(shown) or "no slice with enough sizes"
        raise InputError(
            f"{points.source}: approach {approach} needs two optima, {len(used)} of {len(found)} "
            f"were accepted ({reasons})"
        )
    rng = np.random.default_rng(seed)
    log_c = np.log([o.C for o in used])
    params: dict[str, Estimate] = {}
    for variable, constant, exponent in (("N", "k_N", "a"), ("D", "k_D", "b")):
        y = np.log([getattr(o, variable) for o in used])
        error = np.array([getattr(o, f"error_{variable}") for o in used])
        (level, slope), samples = _line(log_c, y, error, bootstrap, rng)
        reason = "" if samples is not None or not bootstrap else "two optima leave no error"
        drawn = (None, None) if samples is None else samples.T
        params[constant] = Estimate.from_samples(
            float(np.exp(level)), None if drawn[0] is None else np.exp(drawn[0])
        ).judged("scale", reason)
        params[exponent] = Estimate.from_samples(slope, drawn[1]).judged("exponent", reason)
    return FrontierFit(approach, params, tuple(found), len(points), interpolated, notes)


def _line(
    x: FloatArray, y: FloatArray, error: FloatArray, resamples: int, rng: np.random.Generator
) -> tuple[tuple[float, float], FloatArray | None]:
    """Fit a weighted straight line; return intercept and slope, and draws (B, 2) from their Student distribution.

    Where the minima scatter more than their errors allow, the excess is a scatter between slices that is added to every
    error (random effects: Paule & Mandel 1982): scaling all errors alike would leave most of the weight with the few
    slices whose parabola happens to fit well. Without errors the scatter alone counts.
    """
    known = bool((error > 0).all())
    free = len(x) - 2
    variance = error**2 if known else np.ones_like(x)
    if known and free > 0:
        variance = variance + _between(x, y, variance)
    weight = 1 / variance
    centre = np.average(x, weights=weight)
    design = np.column_stack([np.ones_like(x), x - centre])
    covariance = np.linalg.inv((design * weight[:, None]).T @ design)
    solution = covariance @ (design * weight[:, None]).T @ y
    best = (float(solution[0] - solution[1] * centre), float(solution[1]))
    if free < 1 or not resamples:
        return best, None
    scatter = float(weight @ (y - design @ solution) ** 2) / free
    scale = max(scatter, 1.0) if known else scatter
    drawn = (
        rng.standard_t(free, size=(resamples, 2))
        @ np.linalg.cholesky(scale * covariance + 1e-300 * np.eye(2)).T
    )
    drawn = solution + drawn
    return best, np.column_stack([drawn[:, 0] - drawn[:, 1] * centre, drawn[:, 1]])


def _between(x: FloatArray, y: FloatArray, variance: FloatArray) -> float:
    """Variance to be added to ``variance`` (n,) such that the residuals of the line have chi2 = n - 2; 0 if less do."""
    design = np.column_stack([np.ones_like(x), x - x.mean()])

    def surplus(between: float) -> float:
        root = 1 / np.sqrt(variance + between)
        solution = np.linalg.lstsq(design * root[:, None], y * root)[0]
        rest = (y - design @ solution) * root
        return float(rest @ rest) - (len(x) - 2)

    if surplus(0.0) <= 0:
        return 0.0
    largest = float(np.var(y)) * len(x)
    return float(brentq(surplus, 0.0, largest)) if surplus(largest) < 0 else largest
