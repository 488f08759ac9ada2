"""The overfitting threshold: the model size N ~ U^lambda above which repeated training on U jets overfits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from eval.common.errors import InputError
from eval.common.results import SCHEMA_VERSION, Estimate, plain

FloatArray = NDArray[np.float64]

TOLERANCE = 1e-3
"""Relative rise of the loss above its minimum that counts as overfitting."""

BEYOND = 1.5
"""Whether a run overfits is decided once it has continued to this many times the steps of its minimum."""

STILL_FALLING = 2e-2
"""A run that ended earlier is undecided if its loss fell by more than this fraction over its last third of steps."""

ERRORS = 3.5
"""A rise beyond the tolerance counts when it exceeds this many of its errors, because the minimum of many noisy
averages is biased low: by up to this many errors in one flat curve out of twenty."""

WIDTHS = np.geomspace(0.05, 1.0, 7)
"""Widths of the border in ln N that the fit allows, all equally likely."""


@dataclass(frozen=True)
class Curve:
    """Summary of a held-out loss curve of repeated training.

    Attributes
    ----------
    minimum : float
        Early-stopped loss: the least running average over a tenth of the curve.
    place : int
        The evaluation in the middle of that average, at which to stop.
    rise : float
        Average over the last tenth of the curve minus the minimum.
    noise : float
        Standard deviation of an evaluation about a quadratic in ln(steps) near the minimum; 0 with too few evaluations.
    spare : int
        Degrees of freedom of the noise.
    width : int
        Evaluations in a running average.
    finished : bool
        Whether the run continued to `BEYOND` times the steps of its minimum, or its loss had stopped falling.
    """

    minimum: float
    place: int
    rise: float
    noise: float
    spare: int
    width: int
    finished: bool

    @classmethod
    def of(cls, losses: ArrayLike, steps: ArrayLike | None = None) -> "Curve":
        """Make a curve from losses at increasing steps.

        Parameters
        ----------
        losses : array-like of float, shape (n,)
            The losses.
        steps : array-like of float, shape (n,), optional
            The steps; by default equally spaced.

        Returns
        -------
        Curve

        Raises
        ------
        InputError
            There are no losses, they are not finite, or the steps do not increase.
        """
        y = np.asarray(losses, dtype=np.float64)
        if y.ndim != 1 or not len(y) or not np.isfinite(y).all():
            raise InputError(f"losses: finite losses at rising steps are needed, found {losses!r}")
        x = np.arange(1.0, len(y) + 1) if steps is None else np.asarray(steps, dtype=np.float64)
        if x.shape != y.shape or not (np.diff(x) > 0).all():
            raise InputError(f"steps: one for each loss is needed, rising, found {steps!r}")
        width = max(1, len(y) // 10)
        smooth = np.convolve(y, np.full(width, 1 / width), mode="valid")
        best = int(np.argmin(smooth))
        place = best + width // 2
        noise, spare = _noise(x, y, place)
        last_third = int(np.searchsorted(x[width - 1 :], x[-1] / BEYOND))
        fallen = float(smooth[min(last_third, len(smooth) - 1)] - smooth[-1])
        finished = bool(x[place] * BEYOND <= x[-1]) or fallen <= STILL_FALLING * smooth[best]
        return cls(
            float(smooth[best]), place, float(smooth[-1] - smooth[best]), noise, spare, width, finished
        )

    def overfitting(self, tolerance: float, noise: float) -> float:
        """Probability that the run overfits, for evaluations with this noise: one half at `ERRORS` errors."""
        excess = self.rise - tolerance * self.minimum
        error = noise * np.sqrt(2 / self.width)
        return float(norm.cdf(excess / error - ERRORS)) if error > 0 else float(excess > 0)


def _noise(x: FloatArray, y: FloatArray, place: int) -> tuple[float, int]:
    """Standard deviation about a quadratic near the minimum: second differences would count the descent as noise."""
    reach = max(2, len(y) // 6)
    first = min(max(place - reach, 0), max(len(y) - 2 * reach - 1, 0))
    near = slice(first, first + 2 * reach + 1)
    spare = len(y[near]) - 3
    if spare < 1:
        return 0.0, 0
    u = np.log(x[near])
    rest = y[near] - np.polyval(np.polyfit(u - u.mean(), y[near], 2), u - u.mean())
    return float(np.sqrt(rest @ rest / spare)), spare


@dataclass(frozen=True)
class Bracket:
    """Trained sizes next to the threshold of one amount of unique data; 0 or infinite where there is none."""

    U: float
    N_low: float
    N_high: float


@dataclass(frozen=True, eq=False)
class Threshold:
    """N_threshold = k U^lambda.

    Attributes
    ----------
    exponent : Estimate
        lambda.
    constant : Estimate
        k.
    brackets : tuple of Bracket
        For each amount of unique data, the trained sizes on either side of the fitted threshold.
    overfit : array of bool, shape (n,)
        Runs whose loss rose above its minimum.
    undecided : array of bool, shape (n,)
        Runs that were cut off while their loss was falling; they do not enter the threshold.
    samples : array of float, shape (S, 2)
        Draws of lambda and ln k.
    """

    exponent: Estimate
    constant: Estimate
    brackets: tuple[Bracket, ...]
    overfit: NDArray[np.bool_]
    undecided: NDArray[np.bool_]
    samples: FloatArray

    def above(self, N: ArrayLike, U: ArrayLike) -> NDArray[np.bool_]:
        """Return which runs (n,) lie above the threshold; none at amounts of data that were not trained on."""
        trained = {b.U for b in self.brackets}
        n, u = np.atleast_1d(N).astype(float), np.atleast_1d(U).astype(float)
        known = np.array([float(x) in trained for x in u])
        return known & (np.log(n) > np.log(self.constant.value) + self.exponent.value * np.log(u))

    def size(self, U: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Threshold size at unique data (m,), and the ends of its 68 % band."""
        x = np.log(np.atleast_1d(np.asarray(U, dtype=np.float64)))
        best = np.log(self.constant.value) + self.exponent.value * x
        low, high = np.quantile(self.samples[:, 1:] + self.samples[:, :1] * x, [0.16, 0.84], axis=0)
        return np.exp(best), np.exp(low), np.exp(high)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; a bracket without a size on one side has null there."""
        return plain(
            {
                "schema_version": SCHEMA_VERSION,
                "lambda": self.exponent,
                "k": self.constant,
                "brackets": [{"U": b.U, "N_low": b.N_low or None, "N_high": b.N_high} for b in self.brackets],
                "overfit": self.overfit,
                "undecided": self.undecided,
            }
        )


def overfitting_threshold(
    N: ArrayLike,
    U: ArrayLike,
    curves: Sequence[ArrayLike],
    *,
    steps: Sequence[ArrayLike] | None = None,
    tolerance: float = TOLERANCE,
    samples: int = 1000,
    seed: int = 0,
) -> Threshold:
    """Fit N ~ U^lambda to the border between runs that overfit and runs that do not (Vigl et al., arXiv:2602.15781).

    Parameters
    ----------
    N : array-like of float, shape (n,)
        Parameters of each run.
    U : array-like of float, shape (n,)
        Unique data of each run.
    curves : sequence of array-like of float
        Validation losses of each run, in the order of the steps.
    steps : sequence of array-like of float, optional
        These steps; by default equally spaced.
    tolerance : float
        Relative rise above the minimum that counts as overfitting.
    samples : int
        Number of draws for the intervals.
    seed : int
        Seed of these draws.

    Returns
    -------
    Threshold

    Notes
    -----
    All runs enter one likelihood: a run overfits with probability 1/(1 + exp(-(ln N - lambda ln U - ln k)/w)), which
    rises with N and has one border for all U. Whether a run overfits is itself known only with a probability: that its
    rise exceeds the tolerance, given the noise of the evaluations, for which the median of all runs is taken. Intervals
    are those of the posterior with flat priors of lambda, ln k and ln w: they hold the spacing of the ladder of sizes
    as well as runs that contradict each other. A run that was cut off while its loss fell is left out.

    Raises
    ------
    InputError
        Lengths differ, or fewer than two amounts of data have runs that overfit and runs that do not.
    """
    n, u = np.asarray(N, dtype=np.float64), np.asarray(U, dtype=np.float64)
    if (
        n.shape != u.shape
        or n.ndim != 1
        or len(curves) != len(n)
        or (steps is not None and len(steps) != len(n))
    ):
        raise InputError(f"runs: N, U and curves must agree, found {n.shape}, {u.shape} and {len(curves)}")
    for name, values in {"N": n, "U": u}.items():
        if not (np.isfinite(values) & (values > 0)).all():
            raise InputError(f"runs: {name} must be finite and positive")
    read = [Curve.of(y, None if steps is None else steps[i]) for i, y in enumerate(curves)]
    noises = [c.noise / c.minimum for c in read if c.spare]
    noise = float(np.median(noises)) if noises else 0.0
    chance = np.array([c.overfitting(tolerance, noise * c.minimum) for c in read])
    over = chance > 0.5
    undecided = ~over & np.array([not c.finished for c in read])
    decided = ~undecided
    both = [x for x in np.unique(u) if len(np.unique(over[decided & (u == x)])) == 2]
    if len(both) < 2:
        raise InputError(
            f"runs: {len(both)} amounts of unique data have both underfitting and overfitting sizes; lambda needs two"
        )
    drawn = _posterior(np.log(n[decided]), np.log(u[decided]), chance[decided], samples, seed)
    slope, level = drawn.T
    few = f"{len(both)} bracketed amounts of unique data leave nothing to judge a power law by"
    doubt = few if len(both) < 3 else ""
    exponent = Estimate.from_samples(float(slope.mean()), slope).judged("exponent", doubt)
    constant = Estimate.from_samples(float(np.exp(level.mean())), np.exp(level)).judged("scale", doubt)
    border = level.mean() + slope.mean() * np.log(u)
    brackets = tuple(_bracket(x, n[u == x], float(np.exp(border[u == x][0]))) for x in np.unique(u))
    return Threshold(exponent, constant, brackets, over, undecided, drawn)


def _posterior(n: FloatArray, u: FloatArray, chance: FloatArray, samples: int, seed: int) -> FloatArray:
    """Draws (samples, 2) of lambda and ln k, from a grid that is refined once about its bulk."""
    middle = u.mean()
    low, high = np.array([-1.0, n.min()]), np.array([2.0, n.max()])  # lambda; border at the typical U
    rng = np.random.default_rng(seed)
    draws = np.empty((0, 2))
    for size in (61, 121):
        step = (high - low) / (size - 1)
        slopes, levels = (low[i] + step[i] * np.arange(size) for i in (0, 1))
        distance = n - levels[:, None] - slopes[:, None, None] * (u - middle)  # (lambda, level, run)
        ln = np.empty((len(WIDTHS), size, size))
        for i, width in enumerate(WIDTHS):
            z = distance / width
            ln[i] = -(chance * np.logaddexp(0, -z) + (1 - chance) * np.logaddexp(0, z)).sum(axis=-1)
        weight = np.exp(ln - ln.max()).sum(axis=0)
        picked = rng.choice(size * size, samples, p=weight.ravel() / weight.sum())
        draws = np.column_stack([slopes[picked // size], levels[picked % size]])
        draws += step * (rng.random(draws.shape) - 0.5)  # the grid itself must not show
        low, high = draws.min(axis=0) - step, draws.max(axis=0) + step
    return np.column_stack([draws[:, 0], draws[:, 1] - draws[:, 0] * middle])


def _bracket(u: float, n: FloatArray, border: float) -> Bracket:
    return Bracket(
        float(u), float(max(n[n <= border], default=0.0)), float(min(n[n > border], default=np.inf))
    )
