"""Compute-optimal power laws through single estimates of the optimum, as approaches 1 and 2 find them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from eval.common.errors import InputError
from eval.common.results import SCHEMA_VERSION, Estimate, plain, plain_fields
from eval.scaling.points import Points

FloatArray = NDArray[np.float64]


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
        """Return plain values for JSON, without the slice."""
        return plain_fields(self, without=("x", "y", "curve"))


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
        return plain(
            {
                "schema_version": SCHEMA_VERSION,
                "law": "compute-optimal",
                "formula": "N* = k_N C^a, D* = k_D C^b",
                "approach": self.approach,
                "n_points": self.n_points,
                "params": self.params,
                "derived": {name: self.params[name] for name in ("a", "b")},
                "status": "converged",
                "optima": self.optima,
                "interpolated": self.interpolated,
                "warnings": self.warnings,
            }
        )

    def __str__(self) -> str:
        kind = {1: "envelope of training curves", 2: "IsoFLOP parabolas"}[self.approach]
        lines = [f"approach {self.approach}, {kind}: {len(self.used)} of {len(self.optima)} optima used"]
        lines += [f"  {name:4s} {estimate}" for name, estimate in self.params.items()]
        lines += [f"  rejected at C = {o.C:.3g}: {o.reason}" for o in self.optima if o.reason]
        return "\n".join(lines + [f"  note: {text}" for text in self.warnings])


def power_laws(
    approach: int,
    points: Points,
    found: Sequence[Optimum],
    interpolated: bool,
    bootstrap: int,
    seed: int,
    notes: tuple[str, ...],
) -> FrontierFit:
    """Fit N* = k_N C^a and D* = k_D C^b to the accepted optima; raises InputError if there are fewer than two."""
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
