"""The result of a fit, and its JSON form (``fit.json``)."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval.common.errors import InputError
from eval.common.results import SCHEMA_VERSION, Estimate, plain, read_json, write_json
from eval.scaling.fitting.objective import Objective
from eval.scaling.laws.law import Law
from eval.scaling.laws.registry import get_law
from eval.scaling.points import Points

FloatArray = NDArray[np.float64]


class Status(StrEnum):
    """How a fit ended."""

    CONVERGED = "converged"
    AT_BOUND = "at-bound"
    NOT_CONVERGED = "not-converged"


@dataclass(frozen=True, eq=False)
class FitResult:
    """A fitted law (approach 3) with intervals, and everything that is needed to judge it.

    Attributes
    ----------
    law : Law
        The law that was fitted.
    params : mapping of str to Estimate
        Constants of the law.
    objective : float
        Value of the objective at the optimum.
    objective_kind : str
        Definition of the objective in words.
    status : Status
        How the fit ended.
    starts : int
        Number of starts of the global search.
    starts_at_optimum : int
        Number of starts that ended at the optimum.
    n_points : int
        Number of fitted points.
    approach : int
        3.
    derived : mapping of str to Estimate
        Compute-optimal exponents a, b and gamma, for laws of N and D.
    bounds_hit : tuple of str
        Constants that lie on a bound at the optimum.
    data_window : mapping of str to tuple of float
        Range of each variable in the fitted points.
    samples : array of float, shape (B, p), or None
        Constants of the bootstrap refits, in the law's order.
    bootstrap_unit : str
        "points", "groups", "none", or "points of few groups", whose intervals are too short.
    loss : Objective
        The objective that was minimised.
    model_error : float or None
        Deviation of the law from the losses beyond the scatter of repeated runs, in ln L; it is part of ``samples`` and
        of all intervals. None if no run was repeated.
    flops_factor : float
        The factor k of C = k N D.
    warnings : tuple of str
        Caveats of the fit.
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
    model_error: float | None = None
    flops_factor: float = 6.0
    warnings: tuple[str, ...] = ()

    @property
    def values(self) -> FloatArray:
        """Fitted constants in the law's order, shape (p,)."""
        return np.array([self.params[name].value for name in self.law.names])

    def __getattr__(self, name: str) -> Estimate:
        """Constants and derived exponents by name: ``result.alpha``, ``result.a``."""
        if name in ("params", "derived"):  # not set yet, while a copy is being made
            raise AttributeError(name)
        for estimates in (self.params, self.derived):
            if name in estimates:
                return estimates[name]
        known = ", ".join((*self.params, *self.derived))
        raise AttributeError(f"{type(self).__name__}: {name} is neither an attribute nor one of {known}")

    def predict(
        self,
        N: ArrayLike | None = None,
        D: ArrayLike | None = None,
        *,
        C: ArrayLike | None = None,
        U: ArrayLike | None = None,
        L: ArrayLike | None = None,
    ) -> FloatArray:
        """Return the loss (or rejection) of the fitted law at the given variables, which are broadcast."""
        return self.law.predict(self.values, **_given(N=N, D=D, C=C, U=U, L=L))

    def at(self, points: Points) -> FloatArray:
        """Return the fitted values at points, shape ``(n,)``."""
        with np.errstate(over="ignore"):
            return self.law.predict(
                self.values, **{name: points.variable(name) for name in self.law.variables}
            )

    @property
    def refits(self) -> FloatArray:
        """Constants of the best fit, followed by those of every resample, shape ``(1 + bootstrap, p)``."""
        return self.values[None] if self.samples is None else np.vstack([self.values, self.samples])

    def predict_interval(self, level: float = 0.6827, **x: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return the ends of the central bootstrap interval of the fitted law at the given variables."""
        if self.samples is None:
            raise InputError("predict_interval: this fit has no bootstrap; fit with bootstrap > 0")
        all_values = self.law.predict(self.samples, **x)
        low, high = np.quantile(all_values, [0.5 - level / 2, 0.5 + level / 2], axis=0)
        return low, high

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for ``fit.json``, including those that ``genscale plan`` needs."""
        values: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "law": self.law.name,
            "formula": self.law.formula,
            "variables": self.law.variables,
            "approach": self.approach,
            "n_points": self.n_points,
            "objective": self.objective,
            "objective_kind": self.objective_kind,
            "loss": {"kind": self.loss.kind, "delta": self.loss.delta},
            "params": self.params,
            "derived": self.derived,
            "status": self.status,
            "starts": self.starts,
            "starts_at_optimum": self.starts_at_optimum,
            "bounds_hit": self.bounds_hit,
            "data_window": self.data_window,
            "model_error": self.model_error,
            "flops_factor": self.flops_factor,
            "bootstrap_unit": self.bootstrap_unit,
            "warnings": self.warnings,
        }
        if self.samples is not None:
            values["samples"] = dict(zip(self.law.names, self.samples.T, strict=True))
        return plain(values)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the JSON text, and write it to ``path`` if given (through a temporary file)."""
        return write_json(self.to_dict(), path)

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> "FitResult":
        """Read a ``fit.json`` of approach 3.

        Parameters
        ----------
        path : str or path-like
            The file.

        Returns
        -------
        FitResult

        Raises
        ------
        InputError
            There is no such file, it is not JSON, has another schema, or lacks a key.
        """
        found = read_json(path)
        if found.get("approach") != 3:
            raise InputError(
                f"{path}: approach must be 3 (a fitted law), found {found.get('approach')!r}; fit with --approach 3"
            )
        try:
            variables = found["variables"]
            law = get_law(found["law"], variables[0] if len(variables) == 1 and variables != ["L"] else None)
            samples = found.get("samples")
            same = (
                "objective",
                "objective_kind",
                "starts",
                "starts_at_optimum",
                "n_points",
                "bootstrap_unit",
            )
            return cls(
                law=law,
                params={name: Estimate.from_dict(found["params"][name]) for name in law.names},
                derived={name: Estimate.from_dict(e) for name, e in found["derived"].items()},
                status=Status(found["status"]),
                bounds_hit=tuple(found["bounds_hit"]),
                data_window={name: (ends[0], ends[1]) for name, ends in found["data_window"].items()},
                samples=None if samples is None else np.array([samples[name] for name in law.names]).T,
                loss=Objective(**found["loss"]),
                model_error=found.get("model_error"),
                flops_factor=found["flops_factor"],
                warnings=tuple(found["warnings"]),
                **{key: found[key] for key in same},
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
