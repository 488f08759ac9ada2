"""The overfitting threshold: the model size N ~ U^lambda above which repeated training on U jets overfits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval.errors import InputError
from eval.results import SCHEMA_VERSION, Estimate

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Bracket:
    """Trained sizes next to the threshold of one amount of unique data; 0 or infinite where none."""

    U: float
    N_low: float
    N_high: float
    misclassified: int


@dataclass(frozen=True, eq=False)
class Threshold:
    """N_threshold = k U^lambda.

    Attributes
    ----------
    exponent : Estimate
        lambda; its interval comes from the unknown position of the threshold inside its brackets.
    constant : Estimate
        k, with an interval likewise.
    brackets : tuple of Bracket
        One for each amount of unique data; those bounded on one side do not enter the fit.
    overfit : array of bool, shape (n,)
        Whether each run overfits.
    samples : array of float, shape (S, 2)
        Draws of lambda and ln k.
    """

    exponent: Estimate
    constant: Estimate
    brackets: tuple[Bracket, ...]
    overfit: NDArray[np.bool_]
    samples: FloatArray

    def above(self, N: ArrayLike, U: ArrayLike) -> NDArray[np.bool_]:
        """Runs at or above the smallest overfitting size that was trained on the same data; arrays (n,)."""
        edge = {b.U: b.N_high for b in self.brackets}
        pairs = zip(np.atleast_1d(N), np.atleast_1d(U), strict=True)
        return np.array([n >= edge.get(float(u), np.inf) for n, u in pairs])

    def size(self, U: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Threshold size at unique data (m,), and the ends of its 68 % band."""
        x = np.log(np.atleast_1d(np.asarray(U, dtype=np.float64)))
        best = np.log(self.constant.value) + self.exponent.value * x
        low, high = np.quantile(self.samples[:, 1:] + self.samples[:, :1] * x, [0.16, 0.84], axis=0)
        return np.exp(best), np.exp(low), np.exp(high)

    def to_dict(self) -> dict[str, Any]:
        """Plain form for JSON."""
        brackets = [
            {"U": b.U, "N_low": b.N_low or None, "N_high": b.N_high if np.isfinite(b.N_high) else None}
            for b in self.brackets
        ]
        return {
            "schema_version": SCHEMA_VERSION,
            "lambda": self.exponent.to_dict(),
            "k": self.constant.to_dict(),
            "brackets": brackets,
            "overfit": self.overfit.tolist(),
        }


def overfits(losses: ArrayLike, *, tolerance: float = 1e-3) -> bool:
    """Whether a validation curve ends above its minimum by more than its noise.

    Parameters
    ----------
    losses : array-like of float, shape (n,)
        Validation losses in the order of the steps.
    tolerance : float
        Smallest relative rise that counts.

    Returns
    -------
    bool

    Raises
    ------
    InputError
        There are fewer than three losses, or they are not finite.

    Notes
    -----
    Averages over a tenth of the curve are compared. Their noise is taken from second differences, which a
    smooth curve hardly has where it no longer falls steeply: median(|d2|)/(0.6745 sqrt(6)) over the last two thirds. A
    rise counts above five times it, which noise alone reaches in one flat curve of twenty: the lowest of many noisy
    values lies low by itself. Fewer than five losses show no noise, and a rise need only exceed the tolerance.
    """
    y = np.asarray(losses, dtype=np.float64)
    if y.ndim != 1 or len(y) < 3 or not np.isfinite(y).all():
        raise InputError(f"curves: each needs three or more finite losses, found {losses!r}")
    smooth, width = _smoothed(y)
    bends = np.abs(np.diff(y, 2))
    noise = np.median(bends[len(bends) // 3 :]) / (0.6745 * np.sqrt(6)) if len(y) >= 5 else 0.0
    lowest = smooth.min()
    return bool(smooth[-1] - lowest > max(tolerance * lowest, 5 * noise / np.sqrt(width)))


def early_stopped(losses: ArrayLike) -> tuple[float, int]:
    """Lowest loss of a validation curve, and the evaluation at which to stop for it.

    Averages over a tenth of the curve are compared, as in ``overfits``: the lowest of many noisy values is too low.
    """
    y = np.asarray(losses, dtype=np.float64)
    if y.ndim != 1 or not len(y) or not np.isfinite(y).all():
        raise InputError(f"losses: finite losses at rising steps are needed, found {losses!r}")
    smooth, width = _smoothed(y)
    best = int(np.argmin(smooth))
    return float(smooth[best]), best + width // 2


def _smoothed(y: FloatArray) -> tuple[FloatArray, int]:
    """Running averages over a tenth of the curve, and their width: a single low value is no minimum."""
    width = max(1, len(y) // 10)
    return np.convolve(y, np.full(width, 1 / width), mode="valid"), width


def overfitting_threshold(
    N: ArrayLike,
    U: ArrayLike,
    curves: Sequence[ArrayLike],
    *,
    tolerance: float = 1e-3,
    samples: int = 1000,
    seed: int = 0,
) -> Threshold:
    """Classify runs on repeated data and fit N ~ U^lambda to the border (Vigl et al., arXiv:2602.15781).

    Parameters
    ----------
    N : array-like of float, shape (n,)
        Parameters of each run.
    U : array-like of float, shape (n,)
        Unique data of each run.
    curves : sequence of array-like of float
        Validation losses of each run, in the order of the steps.
    tolerance : float
        Relative rise above the minimum that counts as overfitting.
    samples : int
        Number of draws of the border.
    seed : int
        Seed of these draws.

    Returns
    -------
    Threshold

    Notes
    -----
    The position of the border between the largest size that does not overfit and the smallest that does is unknown, so
    that each sample draws it uniformly in ln N. The interval therefore reflects the spacing of the sizes; it does not
    include that another seed might classify a run near the border differently.

    Raises
    ------
    InputError
        Lengths differ, or fewer than two amounts of data are bracketed from both sides.
    """
    n, u = np.asarray(N, dtype=np.float64), np.asarray(U, dtype=np.float64)
    if n.shape != u.shape or n.ndim != 1 or len(curves) != len(n):
        raise InputError(f"runs: N, U and curves must agree, found {n.shape}, {u.shape} and {len(curves)}")
    for name, values in {"N": n, "U": u}.items():
        if not (np.isfinite(values) & (values > 0)).all():
            raise InputError(f"runs: {name} must be finite and positive")
    over = np.array([overfits(curve, tolerance=tolerance) for curve in curves])
    brackets = tuple(_bracket(value, n[u == value], over[u == value]) for value in np.unique(u))
    usable = [b for b in brackets if b.N_low > 0 and np.isfinite(b.N_high)]
    if len(usable) < 2:
        raise InputError(
            f"runs: {len(usable)} amounts of unique data have both underfitting and overfitting sizes; "
            "lambda needs two"
        )
    x = np.log([b.U for b in usable])
    low, high = np.log([b.N_low for b in usable]), np.log([b.N_high for b in usable])
    rng = np.random.default_rng(seed)
    drawn = low + (high - low) * rng.random((samples, len(usable)))
    slope, level = _lines(x, drawn)
    (best_slope,), (best_level,) = _lines(x, 0.5 * (low + high)[None])
    few = f"{len(usable)} bracketed amounts of unique data leave nothing to judge a power law by"
    doubt = few if len(usable) < 3 else ""
    return Threshold(
        Estimate.from_samples(float(best_slope), slope).judged("exponent", doubt),
        Estimate.from_samples(float(np.exp(best_level)), np.exp(level)).judged("scale", doubt),
        brackets,
        over,
        np.column_stack([slope, level]),
    )


def _lines(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Slopes and intercepts of straight lines through (n,), (S, n)."""
    centred = x - x.mean()
    slope = y @ centred / (centred @ centred)
    return slope, y.mean(axis=1) - slope * x.mean()


def _bracket(u: float, n: FloatArray, over: NDArray[np.bool_]) -> Bracket:
    sizes = np.unique(n)
    # Split that contradicts the fewest runs: none, when all sizes above some N overfit and none below.
    wrong = [int((over & (n < s)).sum() + (~over & (n >= s)).sum()) for s in [*sizes, np.inf]]
    split = int(np.argmin(wrong))
    return Bracket(
        float(u),
        float(sizes[split - 1]) if split > 0 else 0.0,
        float(sizes[split]) if split < len(sizes) else np.inf,
        wrong[split],
    )
