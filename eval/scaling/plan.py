"""Compute-optimal models and data from a fitted law, for a budget, given data, or a wanted loss."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.common.errors import InputError
from eval.common.results import SCHEMA_VERSION, Estimate, plain_fields
from eval.scaling.fitting.result import FitResult

FloatArray = NDArray[np.float64]

#: Beyond so many times the largest fitted compute, an answer extrapolates.
FAR = 10.0


@dataclass(frozen=True, eq=False)
class Frontier:
    """Compute-optimal line of a law with C = k N D: N* = G (C/k)^a, D* = (C/k)^b / G, L* = E + K/C^gamma.

    Each field is an array over sets of constants: those of the fit, then those of its bootstrap. ``power`` is one,
    except for Kaplan's law, whose bracket is an additive law with exponents alpha_N/alpha_D and 1: there it is alpha_D.
    """

    floor: FloatArray
    G: FloatArray
    a: FloatArray
    b: FloatArray
    K: FloatArray
    gamma: FloatArray
    power: FloatArray
    k: float

    @classmethod
    def of(cls, result: FitResult) -> "Frontier":
        """Return the line of the best fit and those of all resamples, in this order."""
        column = dict(zip(result.law.names, result.refits.T, strict=True))
        floor, log_a, alpha, log_b, beta, power = result.law.power_sum(column)
        log_g = (np.log(alpha / beta) + log_a - log_b) / (alpha + beta)
        a, b, gamma = beta / (alpha + beta), alpha / (alpha + beta), alpha * beta / (alpha + beta)
        log_k = np.log(result.flops_factor)
        constant = np.exp(log_a - alpha * log_g + gamma * log_k) + np.exp(
            log_b + beta * log_g + gamma * log_k
        )
        return cls(floor, np.exp(log_g), a, b, constant, gamma, power, result.flops_factor)

    def size(self, flops: float) -> FloatArray:
        """Return N* of a budget."""
        return self.G * (flops / self.k) ** self.a

    def data(self, flops: float) -> FloatArray:
        """Return D* of a budget."""
        return (flops / self.k) ** self.b / self.G

    def loss(self, flops: float | FloatArray) -> FloatArray:
        """Return L* of a budget."""
        return (self.floor + self.K * np.asarray(flops) ** -self.gamma) ** self.power

    def flops_for(self, loss: float | FloatArray) -> FloatArray:
        """Return the smallest budget that reaches a loss; infinite at or below the floor."""
        left = np.asarray(loss) ** (1 / self.power) - self.floor
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return np.where(left > 0, (self.K / np.maximum(left, 1e-300)) ** (1 / self.gamma), np.inf)


@dataclass(frozen=True)
class Plan:
    """Answer to one question.

    Attributes
    ----------
    question : str
        The budget or the goal in words.
    N : Estimate
        Compute-optimal number of parameters.
    D : Estimate
        Compute-optimal amount of data.
    C : Estimate
        Training FLOPs.
    L : Estimate
        Expected loss.
    spread : mapping of str to tuple of float
        Range of N, D, C and L over those bootstrap fits of which all constants lie inside their 95 % intervals.
    reachable : bool
        Whether the best fit reaches the wanted loss (always true for budgets).
    chance : float or None
        Fraction of the bootstrap fits that reach it.
    more : mapping of str to float
        FLOPs and data needed beyond those of the largest fitted run.
    warnings : tuple of str
        Caveats of the answer.
    """

    question: str
    N: Estimate
    D: Estimate
    C: Estimate
    L: Estimate
    spread: Mapping[str, tuple[float, float]]
    reachable: bool
    chance: float | None
    more: Mapping[str, float]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"schema_version": SCHEMA_VERSION, **plain_fields(self)}

    def __str__(self) -> str:
        lines = [self.question]
        if not self.reachable:
            lines.append(f"  not reachable: the loss cannot fall below the floor, {self.L}")
        else:
            lines += [f"  {name} = {getattr(self, name)}" for name in "NDCL"]
        if self.chance is not None and self.chance < 1:
            lines.append(f"  reached by {self.chance:.0%} of the bootstrap fits")
        lines += [
            f"  {x:.3g} more {name} than the largest fitted run"
            for name, x in self.more.items()
            if self.reachable
        ]
        return "\n".join(lines + [f"  note: {text}" for text in self.warnings])


def plan(
    result: FitResult,
    *,
    flops: float | None = None,
    gpu_hours: float | None = None,
    flops_per_second: float | None = None,
    data: float | None = None,
    loss: float | None = None,
) -> Plan:
    """Return the compute-optimal N and D and the expected loss for exactly one of a budget, given data, or a loss.

    Parameters
    ----------
    result : FitResult
        Fit of a law of N and D.
    flops : float, optional
        Training budget in FLOPs.
    gpu_hours : float, optional
        Training budget in hours, at the rate `flops_per_second`.
    flops_per_second : float, optional
        Measured rate of training.
    data : float, optional
        Given amount of data, for which N is compute-optimal.
    loss : float, optional
        Loss that the smallest budget is to reach.

    Returns
    -------
    Plan

    Raises
    ------
    InputError
        None or several of these are given, a value is not positive, the law does not depend on N and D, or the answer
        extrapolates a law with a constant on its bound, which is no law there.
    """
    if (gpu_hours is None) != (flops_per_second is None):
        raise InputError("plan: gpu_hours and flops_per_second come together")
    if gpu_hours is not None and flops_per_second is not None:
        if flops is not None:
            raise InputError("plan: give flops or gpu_hours, not both")
        flops = _positive("gpu_hours", gpu_hours) * 3600 * _positive("flops_per_second", flops_per_second)
    asked = {
        name: value
        for name, value in {"flops": flops, "data": data, "loss": loss}.items()
        if value is not None
    }
    if len(asked) != 1:
        raise InputError(f"plan: ask for exactly one of flops, gpu_hours, data, loss; found {len(asked)}")
    ((name, value),) = asked.items()
    _positive(name, value)
    line = Frontier.of(result)
    forms: dict[str, tuple[str, Callable[[], FloatArray]]] = {
        "flops": (f"budget of {value:.4g} FLOPs", lambda: np.full(len(line.a), value)),
        "data": (f"data D = {value:.4g}", lambda: line.k * (value * line.G) ** (1 / line.b)),
        "loss": (f"loss of {value:.6g} nats", lambda: line.flops_for(value)),
    }
    question, budget_of = forms[name]
    budget = budget_of()
    with np.errstate(over="ignore", invalid="ignore"):
        columns = {
            "N": line.G * (budget / line.k) ** line.a,
            "D": (budget / line.k) ** line.b / line.G,
            "C": budget,
            "L": (line.floor + line.K * budget**-line.gamma) ** line.power,
        }
    reach = np.isfinite(budget)
    window = {key: ends[1] for key, ends in result.data_window.items()}
    most = {"FLOPs": window["C"], "data": window["D"]}
    if result.bounds_hit and reach[0] and columns["C"][0] > FAR * most["FLOPs"]:
        raise InputError(
            f"plan: in this fit {' and '.join(result.bounds_hit)} ended on a bound, and the law must not be "
            f"extrapolated to {columns['C'][0]:.3g} FLOPs; ask for at most {FAR:g} times the largest fitted compute, "
            f"{FAR * most['FLOPs']:.3g} FLOPs, or fit other points (genscale fit --range)"
        )
    more = {"FLOPs": columns["C"][0] - most["FLOPs"], "data": columns["D"][0] - most["data"]}
    return Plan(
        question=question,
        **{
            key: Estimate.from_samples(column[0], column[1:] if len(column) > 1 else None).judged(
                "scale", "" if np.isfinite(column[0]) else "not reachable"
            )
            for key, column in columns.items()
        },
        spread=_spread(result, columns),
        reachable=bool(reach[0]),
        chance=float(reach[1:].mean()) if len(reach) > 1 else None,
        more={key: x for key, x in more.items() if x > 0},
        warnings=_warnings(result, columns, reach, most),
    )


def _positive(name: str, value: float) -> float:
    if not (np.isfinite(value) and value > 0):
        raise InputError(f"plan: {name} must be positive, found {value}")
    return float(value)


def _spread(result: FitResult, columns: Mapping[str, FloatArray]) -> dict[str, tuple[float, float]]:
    if result.samples is None:
        return {}
    inside = np.ones(len(result.samples), dtype=bool)
    for i, name in enumerate(result.law.names):
        ends = result.params[name].ci95
        if ends is not None:
            inside &= (result.samples[:, i] >= ends[0]) & (result.samples[:, i] <= ends[1])
    if not inside.any():
        return {}
    return {key: (float(c[1:][inside].min()), float(c[1:][inside].max())) for key, c in columns.items()}


def _warnings(
    result: FitResult, columns: Mapping[str, FloatArray], reach: NDArray[np.bool_], most: Mapping[str, float]
) -> tuple[str, ...]:
    found = []
    ratio = columns["C"][0] / most["FLOPs"]
    if reach[0] and ratio > FAR:
        found.append(f"extrapolates {ratio:.3g} times beyond the largest fitted compute")
    lost = [name for name, estimate in result.params.items() if estimate.identified is False]
    if lost:
        found.append(f"the fit does not identify {', '.join(lost)}")
    if result.samples is None:
        found.append("the fit has no bootstrap: no intervals")
    return tuple(found)
