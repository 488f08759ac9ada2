"""All three approaches to the compute-optimal line side by side, with the bias of the second (arXiv:2603.22339)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.common.errors import InputError
from eval.common.results import SCHEMA_VERSION, Estimate, Unavailable, plain, plain_fields
from eval.scaling.approaches.envelope import envelope
from eval.scaling.approaches.frontier import FrontierFit
from eval.scaling.approaches.isoflop import IsoflopBias, isoflop, isoflop_bias
from eval.scaling.fitting.result import FitResult
from eval.scaling.points import Points


@dataclass(frozen=True, eq=False)
class Comparison:
    """The three approaches on one table of points.

    Attributes
    ----------
    approaches : mapping of int to FrontierFit, FitResult or Unavailable
        Results by approach; `Unavailable` where an approach does not apply to the points.
    bias : IsoflopBias or None
        Bias of approach 2 that the fitted law implies.
    warnings : tuple of str
        Caveats of the comparison.
    """

    approaches: Mapping[int, FrontierFit | FitResult | Unavailable]
    bias: IsoflopBias | None
    warnings: tuple[str, ...]

    def exponents(self) -> dict[int, Estimate]:
        """``a`` of N* ~ C^a by approach."""
        return {
            i: (r.params if isinstance(r, FrontierFit) else r.derived)["a"]
            for i, r in self.approaches.items()
            if not isinstance(r, Unavailable)
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return plain(
            {
                "schema_version": SCHEMA_VERSION,
                "approach": "all",
                "approaches": {
                    i: {"failed": r.reason} if isinstance(r, Unavailable) else r
                    for i, r in self.approaches.items()
                },
                "isoflop_bias": None
                if self.bias is None
                else {**plain_fields(self.bias), "bias": self.bias.bias},
                "warnings": self.warnings,
            }
        )

    def __str__(self) -> str:
        exponents = self.exponents()
        lines = [f"  approach {i}: {exponents.get(i, r)}" for i, r in self.approaches.items()]
        return "\n".join(["N* ~ C^a", *lines, *(f"  note: {text}" for text in self.warnings)])


def compare_approaches(
    points: Points, parametric: FitResult, *, bootstrap: int = 200, seed: int = 0
) -> Comparison:
    """Compare approaches 1 and 2 with a fitted additive law, and give the bias of approach 2 that the law implies.

    Parameters
    ----------
    points : Points
        The fitted points.
    parametric : FitResult
        Approach 3: the additive law that was fitted to them.
    bootstrap : int
        Number of resamples for the intervals of approaches 1 and 2.
    seed : int
        Seed of these resamples.

    Returns
    -------
    Comparison
    """
    found: dict[int, FrontierFit | FitResult | Unavailable] = {}
    for number, method in ((1, envelope), (2, isoflop)):
        try:
            found[number] = method(points, bootstrap=bootstrap, seed=seed)
        except InputError as error:
            found[number] = Unavailable(f"does not apply: {error}")
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
