"""What a fit returns, and its JSON form (``fit.json``)."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval.errors import InputError
from eval.scaling.law import Law
from eval.scaling.objective import Objective
from eval.scaling.points import Points
from eval.scaling.registry import get_law

FloatArray = NDArray[np.float64]

SCHEMA_VERSION = 1
LEVELS = {"ci68": 0.6827, "ci95": 0.95}


class Status(StrEnum):
    """How a fit ended."""

    CONVERGED = "converged"
    AT_BOUND = "at-bound"
    NOT_CONVERGED = "not-converged"


@dataclass(frozen=True)
class Estimate:
    """A fitted or derived number.

    Attributes
    ----------
    value : float
    ci68, ci95 : tuple of float or None
        Central intervals; None where none was computed.
    identified : bool or None
        False when the 95 % interval runs into a bound or over decades; None when that was not computed.
    reason : str
        Why it is not identified, in words.
    """

    value: float
    ci68: tuple[float, float] | None = None
    ci95: tuple[float, float] | None = None
    identified: bool | None = None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain form for JSON."""
        plain: dict[str, Any] = {
            "value": _finite(self.value),
            "ci68": None if self.ci68 is None else [_finite(x) for x in self.ci68],
            "ci95": None if self.ci95 is None else [_finite(x) for x in self.ci95],
            "identified": self.identified,
        }
        return plain | ({"reason": self.reason} if self.reason else {})

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Estimate":
        """Inverse of ``to_dict``; a null stands for a number that is not finite."""

        def pair(values: Any) -> tuple[float, float] | None:
            return None if values is None else (_number(values[0]), _number(values[1]))

        return cls(
            _number(plain["value"]),
            pair(plain.get("ci68")),
            pair(plain.get("ci95")),
            plain.get("identified"),
            plain.get("reason", ""),
        )

    @classmethod
    def from_samples(cls, value: float, samples: FloatArray | None, reason: str = "") -> "Estimate":
        """Percentile intervals of ``samples`` about ``value``; a ``reason`` marks it as not identified."""
        if samples is None or not len(samples):
            return cls(float(value), identified=False if reason else None, reason=reason)
        intervals = {name: interval(samples, level) for name, level in LEVELS.items()}
        return cls(float(value), **intervals, identified=not reason, reason=reason)

    def __str__(self) -> str:
        text = f"{self.value:.4g}"
        if self.ci68 is not None:
            text += f" [{self.ci68[0]:.4g}, {self.ci68[1]:.4g}]"
        return text + (f" (not identified: {self.reason})" if self.identified is False else "")


def interval(samples: FloatArray, level: float) -> tuple[float, float]:
    """Central percentile interval; infinite samples keep their place in the order."""
    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    position = np.array([0.5 - level / 2, 0.5 + level / 2]) * (len(ordered) - 1)
    below, above = np.floor(position).astype(int), np.ceil(position).astype(int)
    with np.errstate(invalid="ignore"):
        mixed = ordered[below] + (position - below) * (ordered[above] - ordered[below])
    low, high = np.where(np.isfinite(mixed), mixed, ordered[above])
    return float(low), float(high)


@dataclass(frozen=True, eq=False)
class FitResult:
    """A fitted law (approach 3) with intervals, and everything needed to judge it.

    Attributes
    ----------
    law : Law
    approach : int
    params, derived : mapping of str to Estimate
        Constants of the law; compute-optimal exponents a, b, gamma where the law has N and D.
    objective, objective_kind : float, str
        Value at the optimum and its definition in words.
    status : Status
    starts, starts_at_optimum : int
    n_points : int
    bounds_hit : tuple of str
        Parameters on a bound at the optimum.
    data_window : mapping
        Range of each variable in the fitted points.
    samples : ndarray, shape (B, p), or None
        Bootstrap refits, natural parameters in the law's order.
    bootstrap_unit : str
        "points", "groups", "none", or "points of few groups", whose intervals are too short.
    loss : Objective
        What was minimised.
    flops_factor : float
        k of C = k N D.
    warnings : tuple of str
    """

    law: Law
    params: Mapping[str, Estimate]
    objective: float
    objective_kind: str
    status: Status
    starts: int
    starts_at_optimum: int
    n_points: int
    approach: int = 3
    derived: Mapping[str, Estimate] = field(default_factory=dict)
    bounds_hit: tuple[str, ...] = ()
    data_window: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    samples: FloatArray | None = None
    bootstrap_unit: str = "none"
    loss: Objective = field(default_factory=Objective)
    flops_factor: float = 6.0
    warnings: tuple[str, ...] = ()

    @property
    def values(self) -> FloatArray:
        """Fitted constants in the law's order, shape (p,)."""
        return np.array([self.params[name].value for name in self.law.names])

    def predict(
        self,
        N: ArrayLike | None = None,
        D: ArrayLike | None = None,
        *,
        C: ArrayLike | None = None,
        U: ArrayLike | None = None,
        L: ArrayLike | None = None,
    ) -> FloatArray:
        """Loss (or rejection) of the fitted law at the given variables, broadcast together."""
        return self.law.predict(self.values, **_given(N=N, D=D, C=C, U=U, L=L))

    def at(self, points: Points) -> FloatArray:
        """Fitted values at points, shape ``(n,)``."""
        with np.errstate(over="ignore"):
            return self.law.predict(
                self.values, **{name: points.variable(name) for name in self.law.variables}
            )

    @property
    def refits(self) -> FloatArray:
        """Constants of the best fit, then of every resample, shape ``(1 + bootstrap, p)``."""
        return self.values[None] if self.samples is None else np.vstack([self.values, self.samples])

    def predict_interval(self, level: float = 0.6827, **x: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Ends of the bootstrap's central interval of the fitted law at the given variables."""
        if self.samples is None:
            raise InputError("predict_interval: this fit has no bootstrap; fit with bootstrap > 0")
        all_values = self.law.predict(self.samples, **x)
        low, high = np.quantile(all_values, [0.5 - level / 2, 0.5 + level / 2], axis=0)
        return low, high

    def to_dict(self) -> dict[str, Any]:
        """Plain form; ``fit.json``'s contract plus what ``genscale plan`` needs."""
        plain: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "law": self.law.name,
            "formula": self.law.formula,
            "variables": list(self.law.variables),
            "approach": self.approach,
            "n_points": self.n_points,
            "objective": self.objective,
            "objective_kind": self.objective_kind,
            "loss": {"kind": self.loss.kind, "delta": self.loss.delta},
            "params": {name: estimate.to_dict() for name, estimate in self.params.items()},
            "derived": {name: estimate.to_dict() for name, estimate in self.derived.items()},
            "status": str(self.status),
            "starts": self.starts,
            "starts_at_optimum": self.starts_at_optimum,
            "bounds_hit": list(self.bounds_hit),
            "data_window": {name: list(ends) for name, ends in self.data_window.items()},
            "flops_factor": self.flops_factor,
            "bootstrap_unit": self.bootstrap_unit,
            "warnings": list(self.warnings),
        }
        if self.samples is not None:
            columns = zip(self.law.names, self.samples.T.tolist(), strict=True)
            plain["samples"] = dict(columns)
        return plain

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """JSON text; written to ``path`` where given (aside first, then renamed)."""
        return write_json(self.to_dict(), path)

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> "FitResult":
        """Read a ``fit.json`` of approach 3.

        Raises
        ------
        InputError
            No such file, not JSON, another schema, or a missing key.
        """
        plain = read_json(path)
        if plain.get("approach") != 3:
            raise InputError(
                f"{path}: approach must be 3 (a fitted law), found {plain.get('approach')!r}; fit with --approach 3"
            )
        try:
            variables = plain["variables"]
            law = get_law(plain["law"], variables[0] if len(variables) == 1 and variables != ["L"] else None)
            samples = plain.get("samples")
            return cls(
                law=law,
                params={name: Estimate.from_dict(plain["params"][name]) for name in law.names},
                derived={name: Estimate.from_dict(e) for name, e in plain["derived"].items()},
                objective=plain["objective"],
                objective_kind=plain["objective_kind"],
                status=Status(plain["status"]),
                starts=plain["starts"],
                starts_at_optimum=plain["starts_at_optimum"],
                n_points=plain["n_points"],
                bounds_hit=tuple(plain["bounds_hit"]),
                data_window={name: (ends[0], ends[1]) for name, ends in plain["data_window"].items()},
                samples=None if samples is None else np.array([samples[name] for name in law.names]).T,
                bootstrap_unit=plain["bootstrap_unit"],
                loss=Objective(**plain["loss"]),
                flops_factor=plain["flops_factor"],
                warnings=tuple(plain["warnings"]),
            )
        except KeyError as error:
            raise InputError(f"{path}: key {error.args[0]} is missing; is this a fit.json?") from None

    def __str__(self) -> str:
        lines = [
            f"{self.law.formula}   ({self.n_points} points, {self.objective_kind} = {self.objective:.8g}; "
            f"{self.status}, {self.starts_at_optimum} of {self.starts} starts at the optimum)"
        ]
        lines += [f"  {name:8s} {estimate}" for name, estimate in {**self.params, **self.derived}.items()]
        return "\n".join(lines + [f"  note: {text}" for text in self.warnings])


def _given(**x: ArrayLike | None) -> dict[str, ArrayLike]:
    return {name: values for name, values in x.items() if values is not None}


def _finite(x: float) -> float | None:
    # JSON has no infinity; null says "no finite number" in every reader.
    return float(x) if np.isfinite(x) else None


def _number(x: float | None) -> float:
    return float("nan") if x is None else float(x)


def write_json(plain: Mapping[str, Any], path: str | os.PathLike[str] | None) -> str:
    """JSON text of ``plain``, also written to ``path`` through a temporary neighbour."""
    text = json.dumps(plain, indent=1, allow_nan=False) + "\n"
    if path is not None:
        target = Path(path)
        aside = target.with_name(f".{target.name}.partial")
        aside.write_text(text, encoding="utf-8")
        aside.replace(target)
    return text


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """JSON object of this schema version, or InputError with the reason."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; write one with `genscale fit POINTS.csv --out {path.name}`")
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON ({error.msg} at line {error.lineno})") from None
    version = plain.get("schema_version") if isinstance(plain, dict) else None
    if version != SCHEMA_VERSION:
        raise InputError(f"{path}: schema_version must be {SCHEMA_VERSION}, found {version!r}")
    return plain
