"""The value of training on the same data many times: the law of the early-stopped loss, its gain and its cost.

Vigl et al. (arXiv:2602.15781) train on U unique jets for many epochs and keep the lowest validation loss. Above the
overfitting threshold this loss no longer depends on the model size: L = L_inf + B_rep/U^beta_rep. Compared with the
single-epoch law of the same taggers it says how many more unique jets would have done as well (omega) and how much more
compute it took than the compute-optimal single epoch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval.common.errors import InputError
from eval.common.results import SCHEMA_VERSION, Estimate, plain
from eval.scaling.fitting.fit import fit
from eval.scaling.fitting.result import FitResult
from eval.scaling.laws.forms import Additive
from eval.scaling.plan import Frontier
from eval.scaling.points import Points

FloatArray = NDArray[np.float64]

#: Draws behind intervals that combine two fits.
PAIRS = 2000


@dataclass(frozen=True, eq=False)
class RepeatedData:
    """Early-stopped losses of repeated training, compared with the single-epoch law.

    Attributes
    ----------
    points : Points
        All runs: N, U, early-stopped L (and C at the stop, where given).
    above : ndarray of bool, shape (n,)
        Runs above the overfitting threshold; only they enter the law.
    fit : FitResult
        L = E + B/U^beta (B_rep and beta_rep of the paper).
    size_slope : Estimate
        Fall of the loss per decade of N above the threshold, at fixed U, over its fall per decade of U. Zero when the
        loss does not depend on N.
    single : FitResult or None
        The single-epoch law L(N, D) given for comparison.
    beta_difference : Estimate or None
        beta_rep - beta of the single epoch.
    gain : mapping of float to Estimate
        omega at each U: unique data that a single epoch (N infinite) needs for the same loss, over U.
    gain_equal_floors : mapping of float to Estimate
        omega by the paper's eq. 5, which takes the floors of both laws for equal.
    cost : mapping of float to Estimate
        Compute of the cheapest run above the threshold at each U, up to its stop, over the least compute with which a
        single epoch reaches the same loss.
    mean_cost : Estimate or None
        Geometric mean of the costs.
    """

    points: Points
    above: NDArray[np.bool_]
    fit: FitResult
    size_slope: Estimate
    single: FitResult | None = None
    beta_difference: Estimate | None = None
    gain: Mapping[float, Estimate] = field(default_factory=dict)
    gain_equal_floors: Mapping[float, Estimate] = field(default_factory=dict)
    cost: Mapping[float, Estimate] = field(default_factory=dict)
    mean_cost: Estimate | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return plain(
            {
                "schema_version": SCHEMA_VERSION,
                "above": self.above,
                "fit": self.fit,
                "size_slope": self.size_slope,
                "beta_difference": self.beta_difference,
                "gain": _table(self.gain),
                "gain_equal_floors": _table(self.gain_equal_floors),
                "cost": _table(self.cost),
                "mean_cost": self.mean_cost,
            }
        )


def _table(values: Mapping[float, Estimate]) -> list[dict[str, Any]]:
    return [{"U": u, **plain(estimate)} for u, estimate in values.items()]


def repeated_data(
    points: Points,
    above: ArrayLike,
    single: FitResult | None = None,
    *,
    bootstrap: int = 200,
    loss: str = "mse-log",
    seed: int = 0,
) -> RepeatedData:
    """Fit the law of repeated data and compare it with a single pass.

    Parameters
    ----------
    points : Points
        N, U (unique data) and L, the early-stopped loss; C, if given, is the compute up to the stop in the convention
        of ``single``.
    above : array-like of bool, shape (n,)
        Runs above the overfitting threshold, from ``Threshold.above``.
    single : FitResult, optional
        Additive law of single-pass runs, with bootstrap.
    bootstrap : int
        Number of resamples, as for ``fit``.
    loss : str
        Objective, as for ``fit``. The default is the mean square of ln L, because early-stopped losses are few and
        have no outliers.
    seed : int
        Seed of starts and resamples.

    Returns
    -------
    RepeatedData

    Raises
    ------
    InputError
        A column is missing, the mask has the wrong length, or there are too few runs above the threshold.
    """
    mask = np.asarray(above, dtype=bool)
    n, u = points.variable("N"), points.variable("U")
    if mask.shape != u.shape:
        raise InputError(f"above: shape {mask.shape}, there are {len(points)} runs")
    if single is not None and (single.law != Additive() or single.samples is None):
        raise InputError(
            f"single: an additive law of N and D with bootstrap is needed, found {single.law.name}"
        )
    chosen = points.select(mask) if mask.any() else None
    if chosen is None or len(np.unique(u[mask])) < 3:
        raise InputError(
            f"above: runs above the threshold at {len(np.unique(u[mask]))} amounts of unique data; "
            "the law of repeated data needs three or more"
        )
    law = fit(chosen, "power", variable="U", bootstrap=bootstrap, loss=loss, seed=seed)
    rng = np.random.default_rng(seed)
    slope = _size_slope(n[mask], u[mask], chosen.L, law, rng)
    if single is None:
        return RepeatedData(points, mask, law, slope)
    amounts = [float(x) for x in np.unique(u[mask])]
    pairs = _Pairs.of(law, single, rng)
    cost, mean_cost = _costs(chosen, single) if points.C is not None else ({}, None)
    return RepeatedData(
        points=points,
        above=mask,
        fit=law,
        size_slope=slope,
        single=single,
        beta_difference=pairs.estimate(lambda rep, no: rep["beta"] - no["beta"]),
        gain={x: pairs.gain(x) for x in amounts},
        gain_equal_floors={x: pairs.gain_equal_floors(x) for x in amounts},
        cost=cost,
        mean_cost=mean_cost,
    )


def repetition_gain(
    D: ArrayLike, *, B_no: ArrayLike, beta_no: ArrayLike, B_rep: ArrayLike, beta_rep: ArrayLike
) -> FloatArray:
    """Return omega(D): the factor by which unique data must grow to gain, in a single pass, what repetition gains.

    The losses L_inf + B_rep/D^beta_rep (repeated, early-stopped) and L_inf + B_no/(omega D)^beta_no are equal for
    omega = (B_no/B_rep)^(1/beta_no) D^(beta_rep/beta_no - 1) (Vigl et al., arXiv:2602.15781, eq. 5).

    Parameters
    ----------
    D : array-like of float
        Unique data (jets).
    B_no : array-like of float
        Amplitude of the data term of the single-pass law.
    beta_no : array-like of float
        Exponent of the data term of the single-pass law.
    B_rep : array-like of float
        Amplitude of the law of repeated data.
    beta_rep : array-like of float
        Exponent of the law of repeated data.

    Returns
    -------
    array of float
        In the shape to which the arguments are broadcast.
    """
    d, b_no, slope_no, b_rep, slope_rep = (
        np.asarray(x, dtype=np.float64) for x in (D, B_no, beta_no, B_rep, beta_rep)
    )
    return (b_no / b_rep) ** (1 / slope_no) * d ** (slope_rep / slope_no - 1)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Constants of the two laws: best fits first, then resamples paired at random."""

    repeated: Mapping[str, FloatArray]
    single: Mapping[str, FloatArray]
    reason: str

    @classmethod
    def of(cls, repeated: FitResult, single: FitResult, rng: np.random.Generator) -> "_Pairs":
        columns = []
        for result in (repeated, single):
            samples = result.values[None]
            if result.samples is not None:
                samples = np.vstack([samples, result.samples[rng.integers(0, len(result.samples), PAIRS)]])
            columns.append(dict(zip(result.law.names, samples.T, strict=True)))
        reason = next(
            (
                f"beta of {what} is not identified: {result.params['beta'].reason}"
                for what, result in {"repeated data": repeated, "a single epoch": single}.items()
                if result.params["beta"].identified is False
            ),
            "",
        )
        return cls(columns[0], columns[1], reason)

    def estimate(self, form: Any) -> Estimate:
        """A number made of both laws; it rests on both exponents."""
        with np.errstate(all="ignore"):
            values = np.asarray(form(self.repeated, self.single), dtype=np.float64)
        return Estimate.from_samples(float(values[0]), values[1:], self.reason)

    def gain(self, u: float) -> Estimate:
        """Data of equal loss: the law of repeated data put into the inverse of the single epoch's."""

        def form(rep: Mapping[str, FloatArray], no: Mapping[str, FloatArray]) -> FloatArray:
            left = rep["E"] + rep["B"] * u ** -rep["beta"] - no["E"]
            return np.where(left > 0, (no["B"] / np.maximum(left, 1e-300)) ** (1 / no["beta"]) / u, np.inf)

        found = self.estimate(form)
        ends = found.ci95 or (0.0, np.inf)
        unreached = "" if np.isfinite(ends[1]) else "the single-epoch law may not reach this loss at all"
        return found.judged("scale", self.reason or unreached)

    def gain_equal_floors(self, u: float) -> Estimate:
        def form(rep: Mapping[str, FloatArray], no: Mapping[str, FloatArray]) -> FloatArray:
            return repetition_gain(u, B_no=no["B"], beta_no=no["beta"], B_rep=rep["B"], beta_rep=rep["beta"])

        return self.estimate(form).judged("scale", self.reason)


def _costs(chosen: Points, single: FitResult) -> tuple[dict[float, Estimate], Estimate]:
    """Compute over compute-optimal at equal loss: of the cheapest run at each U, and their geometric mean."""
    frontier = Frontier.of(single)
    u, c = chosen.variable("U"), chosen.compute
    ratios = {}
    for amount in np.unique(u):
        here = np.flatnonzero(u == amount)
        run = here[np.argmin(c[here])]
        # Where a resample's floor lies above the measured loss, no compute is enough: the ratio is zero. Where its
        # exponent is almost zero, next to none is needed: no training takes less than one FLOP.
        ratios[float(amount)] = c[run] / np.maximum(frontier.flops_for(chosen.L[run]), 1.0)

    def estimate(values: FloatArray) -> Estimate:
        found = Estimate.from_samples(float(values[0]), values[1:])
        reached = found.value > 0 and (found.ci95 is None or found.ci95[0] > 0)
        return found.judged("scale", "" if reached else "the single-epoch law may not reach this loss at all")

    with np.errstate(divide="ignore"):
        mean = np.exp(np.mean([np.log(values) for values in ratios.values()], axis=0))
    return {amount: estimate(values) for amount, values in ratios.items()}, estimate(mean)


def _size_slope(
    n: FloatArray, u: FloatArray, loss: FloatArray, law: FitResult, rng: np.random.Generator
) -> Estimate:
    """-(dL/dlog10 N at fixed U)/(-dL/dlog10 U), from least squares with a level of its own for every U."""
    x, y = np.log10(n), loss.copy()
    for amount in np.unique(u):
        here = u == amount
        x[here], y[here] = x[here] - x[here].mean(), y[here] - y[here].mean()
    spare = len(x) - len(np.unique(u)) - 1
    spread = float(x @ x)
    b, beta = law.params["B"].value, law.params["beta"].value
    middle = np.exp(np.log(u).mean())
    fall = np.log(10) * beta * b * middle**-beta
    if spare < 1 or spread == 0:
        reason = "too few amounts of unique data have several sizes above the threshold"
        return Estimate(float("nan"), identified=False, reason=reason)
    slope = float(x @ y) / spread
    error = np.sqrt(float(np.sum((y - slope * x) ** 2)) / spare / spread)
    draws = slope + error * rng.standard_t(spare, PAIRS)
    falls = np.full(PAIRS, fall)
    if law.samples is not None:
        rows = law.samples[rng.integers(0, len(law.samples), PAIRS)]
        falls = np.log(10) * rows[:, 2] * rows[:, 1] * middle ** -rows[:, 2]
    return Estimate.from_samples(-slope / fall, -draws / falls)
