"""All three approaches to the compute-optimal line, and the bias of the second (arXiv:2603.22339)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.common.errors import InputError
from eval.common.results import SCHEMA_VERSION, Estimate, write_json
from eval.scaling.approaches import FrontierFit, envelope, isoflop
from eval.scaling.plan import Frontier
from eval.scaling.points import Points
from eval.scaling.result import FitResult


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
    if result.law.name not in ("additive", "additive-tied"):
        raise InputError(f"law {result.law.name}: the bias of approach 2 is defined for the additive laws")
    n, d = points.variable("N"), points.variable("D")
    clean = Points.from_arrays(N=n, D=d, C=points.C, L=result.predict(N=n, D=d))
    found = isoflop(clean, bootstrap=0)
    line = Frontier.of(result)
    extent = 10 * float(points.compute.max())
    a, log_k = found.params["a"].value, np.log(found.params["k_N"].value)
    values = {name: e.value for name, e in result.params.items()}
    offsets = [np.mean(o.x) - np.log(line.size(o.C)[0]) for o in found.used]
    widths = [np.ptp(o.x) / np.log(10) for o in found.used]
    return IsoflopBias(
        a_true=float(line.a[0]),
        a_found=a,
        factor=float(np.exp(log_k + a * np.log(extent)) / line.size(extent)[0]),
        at_compute=extent,
        asymmetry=values["alpha"] / values.get("beta", values["alpha"]),
        off_centre=float(np.mean(offsets)),
        width=float(np.mean(widths)),
    )


@dataclass(frozen=True, eq=False)
class Comparison:
    """The three approaches on one table of points.

    Attributes
    ----------
    approaches : mapping of int to FrontierFit, FitResult or str
        Results by approach; a text says why an approach does not apply to the points.
    bias : IsoflopBias or None
        Bias of approach 2 that the fitted law implies.
    warnings : tuple of str
        Caveats of the comparison.
    """

    approaches: Mapping[int, "FrontierFit | FitResult | str"]
    bias: IsoflopBias | None
    warnings: tuple[str, ...]

    def exponents(self) -> dict[int, Estimate]:
        """``a`` of N* ~ C^a by approach."""
        return {
            i: (r.params if isinstance(r, FrontierFit) else r.derived)["a"]
            for i, r in self.approaches.items()
            if not isinstance(r, str)
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "schema_version": SCHEMA_VERSION,
            "approach": "all",
            "approaches": {
                str(i): {"failed": r} if isinstance(r, str) else r.to_dict()
                for i, r in self.approaches.items()
            },
            "isoflop_bias": None if self.bias is None else {**self.bias.__dict__, "bias": self.bias.bias},
            "warnings": list(self.warnings),
        }

    def to_json(self, path: Any = None) -> str:
        """Return the JSON text, and write it to ``path`` if given."""
        return write_json(self.to_dict(), path)

    def __str__(self) -> str:
        lines = ["N* ~ C^a"]
        for i, r in self.approaches.items():
            lines.append(
                f"  approach {i}: {r}" if isinstance(r, str) else f"  approach {i}: {self.exponents()[i]}"
            )
        return "\n".join(lines + [f"  note: {text}" for text in self.warnings])


def compare_approaches(
    points: Points, parametric: FitResult, *, bootstrap: int = 200, seed: int = 0
) -> Comparison:
    """Compare approaches 1 and 2 with a fitted additive law, and give the bias of approach 2 that the law implies."""
    found: dict[int, FrontierFit | FitResult | str] = {}
    for number, method in ((1, envelope), (2, isoflop)):
        try:
            found[number] = method(points, bootstrap=bootstrap, seed=seed)
        except InputError as error:
            found[number] = f"does not apply: {error}"
    found[3] = parametric
    notes, bias = [], None
    second = found[2]
    if isinstance(second, FrontierFit):
        try:
            bias = isoflop_bias(points, parametric)
        except InputError as error:
            notes.append(f"the bias of approach 2 could not be computed: {error}")
        else:
            ends = second.params["a"].ci68
            error_a = 0.0 if ends is None else 0.5 * (ends[1] - ends[0])
            if abs(bias.bias) > max(0.01, error_a) or abs(np.log(bias.factor)) > 0.1:
                notes.append(f"approach 2 is biased here: {bias}")
    values = [e.value for e in Comparison(found, bias, ()).exponents().values()]
    if len(values) > 1:
        notes.append(f"the approaches' a spread over {max(values) - min(values):.3f}")
    return Comparison(found, bias, tuple(notes))
