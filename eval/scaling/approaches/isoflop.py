"""Approach 2 to the compute-optimal line: IsoFLOP parabolas (Hoffmann et al., arXiv:2203.15556), and their bias."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from eval.common.errors import InputError
from eval.scaling.approaches.envelope import training_curves
from eval.scaling.approaches.frontier import FrontierFit, Optimum, power_laws
from eval.scaling.fitting.result import FitResult
from eval.scaling.plan import Frontier
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
    return power_laws(2, points, found, interpolated, bootstrap, seed, notes + _off_centre(found))


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
    curves = training_curves(points, least=3)
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


@dataclass(frozen=True)
class IsoflopBias:
    """Approach 2 on the noise-free surface of a fitted law at the user's own points (arXiv:2603.22339).

    Attributes
    ----------
    a_true : float
        Compute-optimal exponent of the law.
    a_found : float
        Exponent that the parabolas give.
    factor : float
        N* of the parabolas over the true N* at ``at_compute``.
    at_compute : float
        Ten times the largest compute of the points.
    asymmetry : float
        alpha/beta.
    off_centre : float
        Mean distance between the middle of a slice and the optimum, in e-folds of N.
    width : float
        Mean width of the slices in decades of N.
    """

    a_true: float
    a_found: float
    factor: float
    at_compute: float
    asymmetry: float
    off_centre: float
    width: float

    @property
    def bias(self) -> float:
        """a_found - a_true."""
        return self.a_found - self.a_true

    def __str__(self) -> str:
        return (
            f"on the fitted law's own noise-free surface approach 2 finds a = {self.a_found:.4f} instead of "
            f"{self.a_true:.4f} (bias {self.bias:+.4f}) and {self.factor:.3g} times the optimal N at "
            f"C = {self.at_compute:.2g}; alpha/beta = {self.asymmetry:.2f}, "
            f"slices {self.width:.1f} decades wide, {self.off_centre:+.1f} e-folds off centre"
        )


def isoflop_bias(points: Points, result: FitResult) -> IsoflopBias:
    """Return the bias of approach 2 at these N and D if the fitted additive law were exact."""
    if not (result.law.separable and result.law.allocation):
        raise InputError(f"law {result.law.name}: the bias of approach 2 is defined for the additive laws")
    n, d = points.variable("N"), points.variable("D")
    clean = Points.from_arrays(N=n, D=d, C=points.C, L=result.predict(N=n, D=d))
    found = isoflop(clean, bootstrap=0)
    line = Frontier.of(result)
    extent = 10 * float(points.compute.max())
    a, log_k = found.params["a"].value, np.log(found.params["k_N"].value)
    alpha, beta = (result.params[name].value for name in result.law.allocation)
    offsets = [np.mean(o.x) - np.log(line.size(o.C)[0]) for o in found.used]
    widths = [np.ptp(o.x) / np.log(10) for o in found.used]
    return IsoflopBias(
        a_true=float(line.a[0]),
        a_found=a,
        factor=float(np.exp(log_k + a * np.log(extent)) / line.size(extent)[0]),
        at_compute=extent,
        asymmetry=alpha / beta,
        off_centre=float(np.mean(offsets)),
        width=float(np.mean(widths)),
    )
