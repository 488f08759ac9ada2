"""Objectives of fits: robust or quadratic sums over residuals of L or of ln L."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from eval.common.errors import InputError

FloatArray = NDArray[np.float64]

KINDS = ("huber-log", "mse", "mse-log", "huber-likelihood")

TUNING = 1.345
"""Huber threshold in units of the noise: 95 % of the efficiency of least squares for Gaussian noise (Huber 1981)."""

LEAST_DELTA = 1e-4
"""Least threshold that follows the noise: points without any would ask for zero."""


@dataclass(frozen=True)
class Objective:
    """One of the objectives used for scaling laws.

    ``huber-log``
        sum of Huber(delta) of ln(model) - ln(L) (Hoffmann et al., arXiv:2203.15556, eq. 3, where delta = 10^-3). With
        a threshold far below the noise this is a sum of absolute values, which needs 1.6 times the points for the
        same errors; the default follows the noise instead.
    ``mse``, ``mse-log``
        mean squared residual of L or of ln L.
    ``huber-likelihood``
        negative log-likelihood of a Huber density of ln-residuals with free scale sigma and threshold
        delta in units of sigma (Besiroglu et al., arXiv:2404.10102).

    Attributes
    ----------
    kind : str
        One of ``KINDS``.
    delta : float or None
        Huber threshold; ignored by the mean squares. None: `TUNING` times the scatter of repeated runs or, where none
        are repeated, of the residuals of a first fit; for ``huber-likelihood`` 10^-3.
    follows : str
        What the threshold was taken from; empty where it was given.
    """

    kind: str = "huber-log"
    delta: float | None = None
    follows: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"objective: {self.kind} is not one of {', '.join(KINDS)}")
        if self.delta is None and self.kind != "huber-log":
            object.__setattr__(self, "delta", 1e-3)
        if self.delta is not None and not self.delta > 0:
            raise InputError(f"delta: must be positive, found {self.delta}")

    def following(self, noise: float, source: str) -> "Objective":
        """Return the objective with a threshold for noise of this standard deviation in ln L."""
        return Objective(self.kind, max(TUNING * noise, LEAST_DELTA), source)

    @property
    def log(self) -> bool:
        """Whether residuals are of ln L."""
        return self.kind != "mse"

    @property
    def threshold(self) -> float:
        """Huber threshold in residual units; infinite for mean squares."""
        if not self.kind.startswith("huber"):
            return np.inf
        if self.delta is None:
            raise InputError("objective: its threshold follows the noise, which only a fit knows")
        return self.delta

    @property
    def label(self) -> str:
        """The words for ``objective_kind`` in ``fit.json``."""
        delta = f"{self.threshold:.4g}" + (f" = {TUNING} x {self.follows}" if self.follows else "")
        return {
            "huber-log": f"sum huber({delta}) of log residuals",
            "mse": "mean squared residual of L",
            "mse-log": "mean squared log residual",
            "huber-likelihood": f"negative log likelihood, huber({delta} sigma) of log residuals",
        }[self.kind]

    def report(self, residual: FloatArray, weight: FloatArray) -> float:
        """Value of the objective as published results quote it; ``residual``, ``weight`` of shape (n,)."""
        if self.kind == "huber-likelihood":
            scale = best_scale(residual[None], weight[None], self.threshold)
            return float(negative_log_likelihood(residual[None], weight[None], self.threshold, scale)[0])
        total = 2 * float(huber(residual, np.inf) @ weight) if self.kind != "huber-log" else 0.0
        if self.kind == "huber-log":
            return float(huber(residual, self.threshold) @ weight)
        return total / float(weight.sum())


def huber(residual: FloatArray, delta: float | FloatArray) -> FloatArray:
    """r^2/2 inside ``|r| <= delta``, ``delta (|r| - delta/2)`` outside; elementwise."""
    size = np.abs(residual)
    inside = np.minimum(size, delta)
    return inside * (size - 0.5 * inside)


def normalisation(delta: float | FloatArray) -> FloatArray:
    """Integral of exp(-huber(z, delta)) over z."""
    delta = np.asarray(delta, dtype=np.float64)
    # exp(-d^2/2)/d are the two exponential tails; the rest is the Gaussian core.
    return np.sqrt(2 * np.pi) * (2 * ndtr(delta) - 1) + 2 * np.exp(-0.5 * delta**2) / delta


def best_scale(residual: FloatArray, weight: FloatArray, delta: float) -> FloatArray:
    """Scale sigma (S,) that maximises the Huber likelihood (threshold ``delta`` sigma) of residuals."""
    total = weight.sum(axis=1)
    low = np.full(len(residual), np.log(1e-16))
    high = np.full(len(residual), np.log(1e4))
    for _ in range(
        70
    ):  # bisection: the derivative in ln sigma is monotone, 70 halvings reach float precision
        middle = 0.5 * (low + high)
        z = np.abs(residual) * np.exp(-middle)[:, None]
        slope = total - np.einsum("sn,sn->s", weight, z * np.minimum(z, delta))
        low = np.where(slope < 0, middle, low)
        high = np.where(slope < 0, high, middle)
    return np.exp(0.5 * (low + high))


def negative_log_likelihood(
    residual: FloatArray, weight: FloatArray, delta: float, scale: FloatArray
) -> FloatArray:
    """Weighted negative log-likelihood of the Huber density; (S, n) and (S,) to (S,)."""
    z = residual / scale[:, None]
    constant = np.log(scale) + np.log(normalisation(delta))
    return np.einsum("sn,sn->s", weight, huber(z, delta)) + constant * weight.sum(axis=1)


def log_likelihood(residual: FloatArray, weight: FloatArray, delta: float) -> float:
    """Largest log-likelihood over the free scale for a *fixed* threshold in residual units.

    The density is exp(-huber(r, delta)/s^2) up to normalisation, so its maximum over the law's parameters
    is the minimum of the Huber objective: the AICc built on it compares what was fitted. ``delta`` infinite
    is the Gaussian.
    """
    total = float(weight.sum())
    if not np.isfinite(delta):
        variance = max(float(weight @ residual**2) / total, 1e-300)
        return -0.5 * total * (np.log(2 * np.pi * variance) + 1)
    value = float(weight @ huber(residual, delta))
    grid = np.linspace(np.log(1e-12), np.log(1e3), 4001)
    for zoom in range(3):
        s = np.exp(grid)
        minus = value / s**2 + total * (grid + np.log(normalisation(delta / s)))
        best = int(np.argmin(minus))
        step = grid[1] - grid[0]
        if zoom < 2:
            grid = np.linspace(grid[best] - step, grid[best] + step, 201)
    return -float(minus[best])
