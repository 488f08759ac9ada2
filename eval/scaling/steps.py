"""Differences of the loss between neighbouring sizes and amounts of data: whether it falls, without a law.

A law answers these questions through constants that are common to all points, and if a law misses its points the
answer depends on the law. Differences of the losses themselves do not: those between neighbouring sizes that saw the
same number of jets, and those between the losses of one size after D/2 and after D jets.

Errors come from repeated seeds. All sizes of a table are taken to scatter alike, so that sizes with one seed share the
scatter of those with several. Between sizes a seed that fixes the order of the jets is common to both sides and its
effect cancels; between amounts of data it does not cancel, and counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.stats import t as student

from eval.common.results import LEVELS, Estimate, plain, plain_fields
from eval.scaling.points import Points

FloatArray = NDArray[np.float64]

#: Evaluations of a run at D farther apart than this ratio are not interpolated between.
WIDEST_GAP = 2.5

#: Two amounts of data whose ln D differ by less are treated as equal.
SAME_DATA = 2e-3

#: Least number of decades of N over which a decrease with size is measured; fewer could not show a law.
SPAN = 1.5

UNREPEATED = "no run was repeated with another seed, so the scatter of a loss is unknown"


@dataclass(frozen=True)
class Step:
    """The loss on two neighbouring values of one variable, the other being equal.

    Attributes
    ----------
    variable : {"N", "D"}
        The variable that changes.
    low : float
        Its lower value.
    high : float
        Its higher value.
    other : float
        The other variable, equal on both sides.
    change : float
        Mean L at ``high`` minus mean L at ``low``, in nats.
    error : float
        Its standard error; NaN without repeated seeds.
    dof : float
        Degrees of freedom of ``error``, for Student's t.
    """

    variable: Literal["N", "D"]
    low: float
    high: float
    other: float
    change: float
    error: float
    dof: float

    @property
    def decades(self) -> float:
        """Width of the step in decades."""
        return float(np.log10(self.high / self.low))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Student interval of ``change``; infinite where nothing was repeated."""
        if not self.dof > 0:
            return -np.inf, np.inf
        reach = float(student.ppf(0.5 + level / 2, self.dof)) * self.error
        return self.change - reach, self.change + reach

    @property
    def estimate(self) -> Estimate:
        """``change`` with its intervals."""
        if not self.dof > 0:
            return Estimate(self.change, identified=False, reason=UNREPEATED)
        return Estimate(self.change, self.interval(LEVELS["ci68"]), self.interval(LEVELS["ci95"]), True)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**plain_fields(self), "change": plain(self.estimate)}


@dataclass(frozen=True)
class PairedSteps:
    """Steps of a table of points.

    Attributes
    ----------
    size : tuple of Step
        Between neighbouring N: at the largest D that both saw, at half of it, and so on.
    data : tuple of Step
        Doublings of D at each N, down from the largest D that it saw.
    span : Step or None
        One wide step of size at the largest D: from the largest N that saw it down to the next one at least
        `SPAN` decades smaller. None where there is no such size.
    """

    size: tuple[Step, ...]
    data: tuple[Step, ...]
    span: Step | None

    @property
    def last_size(self) -> Step | None:
        """The step of size that ends at the largest N that saw the largest D, at this D."""
        return max(self.size, key=lambda s: (s.other, s.high), default=None)

    @property
    def last_doubling(self) -> Step | None:
        """The doubling of data that ends at the largest D, at the largest N that saw it."""
        return max(self.data, key=lambda s: (s.high, s.other), default=None)

    @property
    def last_sizes(self) -> tuple[Step, ...]:
        """Each step between neighbouring sizes at the largest D that both saw, from small to large."""
        best = {step.low: step for step in sorted(self.size, key=lambda s: s.other)}
        return tuple(best[low] for low in sorted(best))

    @property
    def last_doublings(self) -> tuple[Step, ...]:
        """The last doubling of D of each size, from small to large."""
        best = {step.other: step for step in sorted(self.data, key=lambda s: s.high)}
        return tuple(best[n] for n in sorted(best))


def paired_steps(points: Points, *, doublings: int = 8) -> PairedSteps:
    """Differences of the mean loss between neighbouring N at equal D, and between D/2 and D at equal N.

    Parameters
    ----------
    points : Points
        N, D, L, and ``seed`` (or ``group``) to tell repeated runs apart. Losses along one run and losses of separate
        runs of one size and seed are treated alike: between them the loss is interpolated monotonically in ln D, and
        never extrapolated.
    doublings : int
        Number of doublings to go down from the largest D.

    Returns
    -------
    PairedSteps

    Raises
    ------
    InputError
        N or D is missing.

    Notes
    -----
    At one D the losses of sizes and seeds are fitted by L = mean of the size + effect of the seed, the second only
    where labels of seeds are given and connect the sizes; errors follow from the residuals with (losses - constants)
    degrees of freedom. A doubling is fitted by the mean of the size alone, because the effect of a seed is part of its
    error. Its degrees of freedom are Satterthwaite's for the sum of squares between seeds and within them, which is an
    approximation: with three seeds and an effect of the seed three times the noise, 95 % intervals cover 92 %.
    """
    curves = _curves(points)
    most: dict[float, float] = {}
    for (n, _), curve in curves.items():
        most[n] = max(curve.last, most.get(n, 0.0))
    sizes = sorted(most)
    levels, doublings_at = cache(partial(_levels, curves)), cache(partial(_doublings, curves))

    def step(low: float, high: float, d: float) -> Step | None:
        found = levels(d)
        return None if found is None else found.step(low, high, d)

    size_steps = [
        step(low, high, d)
        for low, high in pairwise(sizes)
        for d in _ladder(min(most[low], most[high]), doublings)
    ]
    data_steps = [
        found.step(n, d)
        for n in sizes
        for d in _ladder(most[n], doublings)
        if (found := doublings_at(d)) is not None
    ]
    furthest = max(most.values())
    there = [n for n, d in most.items() if _same(d, furthest)]
    smaller = [n for n in there if np.log10(max(there) / n) > SPAN - 1e-6]
    return PairedSteps(
        tuple(found for found in size_steps if found is not None),
        tuple(found for found in data_steps if found is not None),
        step(max(smaller), max(there), min(most[max(smaller)], most[max(there)])) if smaller else None,
    )


def _same(a: float, b: float) -> bool:
    """Whether two amounts of data are one: batches of different sizes end a jet or two apart."""
    return bool(abs(np.log(a / b)) < SAME_DATA)


def _ladder(most: float, doublings: int) -> Iterator[float]:
    return (most / 2**k for k in range(doublings))


@dataclass(frozen=True, eq=False)
class _Curve:
    """Losses of one size and seed at rising D."""

    log_d: FloatArray
    log_loss: FloatArray

    @cached_property
    def _interpolated(self) -> PchipInterpolator:
        return PchipInterpolator(self.log_d, self.log_loss)

    @property
    def last(self) -> float:
        return float(np.exp(self.log_d[-1]))

    def at(self, d: float) -> float | None:
        """Loss after ``d`` jets, interpolated between neighbouring evaluations; None outside or in a wide gap."""
        x = np.log(d)
        nearest = int(np.argmin(np.abs(self.log_d - x)))
        if abs(self.log_d[nearest] - x) < SAME_DATA:
            return float(np.exp(self.log_loss[nearest]))
        above = int(np.searchsorted(self.log_d, x))
        if above in (0, len(self.log_d)) or self.log_d[above] - self.log_d[above - 1] > np.log(WIDEST_GAP):
            return None
        return float(np.exp(self._interpolated(x)))


_Run = tuple[float, str]


def _curves(points: Points) -> dict[_Run, _Curve]:
    """Curve of every size and seed."""
    n, d = points.variable("N"), np.log(points.variable("D"))
    # Sizes that differ by rounding are one model.
    _, first, model = np.unique(np.round(np.log(n), 6), return_index=True, return_inverse=True)
    n = n[first][model]
    labels = points.seed if points.seed is not None else points.group
    labels = np.full(len(points), "") if labels is None else labels
    curves = {}
    for run in sorted({(float(size), str(label)) for size, label in zip(n, labels, strict=True)}):
        here = (n == run[0]) & (labels == run[1])
        places, index = np.unique(np.round(d[here], 6), return_inverse=True)
        mean = np.bincount(index, weights=np.log(points.L[here])) / np.bincount(index)
        curves[run] = _Curve(places, mean)
    return curves


def _column(curves: dict[_Run, _Curve], *data: float) -> tuple[list[_Run], FloatArray]:
    """Runs that have a loss at every one of ``data``, and these losses (runs, data)."""
    rows = {run: [curve.at(d) for d in data] for run, curve in curves.items()}
    complete = {run: row for run, row in rows.items() if None not in row}
    return list(complete), np.array(list(complete.values()), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class _Levels:
    """Mean loss of every size at one D, with the scatter of runs: a fit of sizes and, where possible, seeds."""

    sizes: list[float]
    means: FloatArray
    inverse: FloatArray
    scatter: float
    dof: int

    def step(self, low: float, high: float, d: float) -> Step | None:
        """Return the step between two sizes; None where one of them has no loss."""
        if low not in self.sizes or high not in self.sizes:
            return None
        contrast = np.zeros(len(self.means))
        contrast[self.sizes.index(high)], contrast[self.sizes.index(low)] = 1.0, -1.0
        variance = self.scatter * float(contrast @ self.inverse @ contrast)
        return Step("N", low, high, d, float(contrast @ self.means), float(np.sqrt(variance)), self.dof)


def _levels(curves: dict[_Run, _Curve], d: float) -> _Levels | None:
    runs, losses = _column(curves, d)
    if not runs:
        return None
    sizes = sorted({n for n, _ in runs})
    design = _indicator([n for n, _ in runs], sizes)
    seeds = sorted({seed for _, seed in runs})
    effects = _indicator([seed for _, seed in runs], seeds)[:, 1:]
    both = np.column_stack([design, effects])
    # Where no seed connects two sizes their difference cannot be told from that of their seeds.
    if np.linalg.matrix_rank(both) == both.shape[1]:
        design = both
    means, residual, inverse = _least_squares(design, losses[:, 0])
    dof = len(runs) - design.shape[1]
    return _Levels(sizes, means, inverse, float(residual @ residual) / dof if dof else np.nan, dof)


@dataclass(frozen=True, eq=False)
class _Doublings:
    """Change of the loss of every run between D/2 and D, with the scatter of runs about the mean of their size."""

    sizes: list[float]
    change: FloatArray
    scatter: float
    dof: float

    def step(self, n: float, d: float) -> Step | None:
        """Return the step of one size; None where it has no losses."""
        mine = np.array([size == n for size in self.sizes], dtype=bool)
        if not mine.any():
            return None
        error = float(np.sqrt(self.scatter / mine.sum()))
        return Step("D", d / 2, d, n, float(self.change[mine].mean()), error, self.dof)


def _doublings(curves: dict[_Run, _Curve], d: float) -> _Doublings | None:
    runs, losses = _column(curves, d / 2, d)
    if not runs:
        return None
    change = losses[:, 1] - losses[:, 0]
    sizes = [size for size, _ in runs]
    design = _indicator(sizes, sorted(set(sizes)))
    _, residual, _ = _least_squares(design, change)
    dof = len(runs) - design.shape[1]
    total = float(residual @ residual)
    return _Doublings(
        sizes, change, total / dof if dof else np.nan, _satterthwaite(design, runs, change, total)
    )


def _satterthwaite(design: FloatArray, runs: Sequence[_Run], change: FloatArray, total: float) -> float:
    """Degrees of freedom of a sum of squares of which a part is common to all sizes of a seed."""
    seeds = sorted({seed for _, seed in runs})
    both = np.column_stack([design, _indicator([seed for _, seed in runs], seeds)[:, 1:]])
    rank = int(np.linalg.matrix_rank(both))
    between, within = rank - design.shape[1], len(runs) - rank
    if not between or not within or total == 0:
        return float(between + within)
    _, residual, _ = _least_squares(both, change)
    inside = float(residual @ residual)
    return total**2 / ((total - inside) ** 2 / between + inside**2 / within)


def _indicator(values: Sequence[Any], levels: Sequence[Any]) -> FloatArray:
    return np.array([[value == level for level in levels] for value in values], dtype=np.float64)


def _least_squares(design: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Coefficients, residuals and the inverse of the normal matrix."""
    inverse: FloatArray = np.asarray(np.linalg.pinv(design.T @ design), dtype=np.float64)
    coefficients = inverse @ design.T @ y
    return coefficients, y - design @ coefficients, inverse


def ratio_interval(numerator: Step, denominator: Step, level: float = 0.95) -> tuple[float, float]:
    """Interval of the ratio of two falls per decade (Fieller); the upper end is infinite where nothing bounds it.

    Falls are the negative changes per decade. The two steps may share runs: their errors are then correlated, in most
    designs positively, and treating them as independent makes the interval too long rather than too short. Where the
    denominator may be zero the ratio has a lower end only.
    """
    a, b = -numerator.change / numerator.decades, -denominator.change / denominator.decades
    s_a, s_b = numerator.error / numerator.decades, denominator.error / denominator.decades
    if not (numerator.dof > 0 and denominator.dof > 0):
        return -np.inf, np.inf
    reach = float(student.ppf(0.5 + level / 2, min(numerator.dof, denominator.dof)))
    # All r with |a - r b| <= reach sqrt(s_a^2 + r^2 s_b^2), between the roots of a quadratic.
    square, linear, constant = b**2 - (reach * s_b) ** 2, a * b, a**2 - (reach * s_a) ** 2
    root = np.sqrt(max(linear**2 - square * constant, 0.0))
    if square > 0 and b > 0:
        return (linear - root) / square, (linear + root) / square
    if a > 0 and constant > 0:
        # The denominator may be zero or less: with falls that cannot be negative the ratio has no upper end.
        return _positive_root(square, linear, constant, root), np.inf
    return -np.inf, np.inf


def _positive_root(square: float, linear: float, constant: float, root: float) -> float:
    """Least positive ratio that the data allow, for a positive numerator."""
    found = [r for r in ((linear - root) / square, (linear + root) / square) if r > 0] if square else []
    return min(found, default=np.inf)
