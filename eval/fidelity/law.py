"""Scaling laws of the distance between generated and reference jets: d = E + A/N^alpha + B/D^beta.

The distance that is due to finite samples alone depends on the number of jets, not on the model: it is subtracted first
(``Floor.corrected``). What remains at any model size and any amount of data is the law's own floor E, which is to be
compared with the distance that the tokenizer alone causes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from eval.common.errors import InputError
from eval.common.results import Unavailable
from eval.fidelity.result import Score
from eval.scaling.fitting.fit import fit
from eval.scaling.fitting.result import FitResult
from eval.scaling.points import Points

#: The laws by name: form and variable.
LAWS: Final = {"N,D": ("additive", None), "N": ("power", "N"), "D": ("power", "D")}


@dataclass(frozen=True)
class DistanceLaws:
    """Laws of a distance after subtraction of its finite-sample floor.

    Attributes
    ----------
    points : Points or Unavailable
        The resolved distances, as ``L``, weighted with their errors.
    parts : mapping of str to Points
        The points that each law is fitted to.
    laws : mapping of str to FitResult or Unavailable
        ``N,D`` over all points, with the exponent of compute among its derived constants; ``N`` at the largest D and
        ``D`` at the largest N that saw it.
    n_unresolved : int
        Number of distances that are not resolved from their floor, which are not fitted.
    """

    points: Points | Unavailable
    parts: Mapping[str, Points]
    laws: Mapping[str, FitResult | Unavailable]
    n_unresolved: int


def distance_row(score: Score) -> dict[str, Any]:
    """Columns of a score in a table of points: the distance with its errors and floors.

    Parameters
    ----------
    score : Score

    Returns
    -------
    dict
        ``corrected`` is the distance after subtraction of the floor, and ``weight`` its squared relative precision with
        the error that the generated sample alone makes, because the reference is common to all points.
    """
    corrected = score.corrected
    error = score.distance.error_generated * score.value / corrected if corrected > 0 else np.inf
    return {
        "distance": score.value,
        "distance_error": score.distance.standard_error,
        "floor": score.floor.mean,
        "floor_spread": score.floor.spread,
        "corrected": corrected,
        "corrected_error": error,
        "weight": (corrected / error) ** 2,
        "tokenizer": "" if score.tokenizer is None else score.tokenizer.corrected,
        "resolved": int(score.resolved),
    }


def distance_laws(rows: Sequence[Mapping[str, Any]], *, bootstrap: int = 200, seed: int = 0) -> DistanceLaws:
    """Fit the laws of a distance in N and D.

    Parameters
    ----------
    rows : sequence of mapping
        One for each sample: ``N``, ``D``, ``C``, ``run`` and the columns of `distance_row`.
    bootstrap : int
        Resamples behind the intervals: whole runs, where there are enough.
    seed : int
        Seed of the resamples.

    Returns
    -------
    DistanceLaws
    """
    resolved = [row for row in rows if row["resolved"]]
    n_unresolved = len(rows) - len(resolved)
    if not resolved:
        nothing = Unavailable(f"none of {len(rows)} distances is resolved from its floor")
        return DistanceLaws(nothing, {}, dict.fromkeys(LAWS, nothing), n_unresolved)

    def column(name: str) -> np.ndarray:
        return np.array([row[name] for row in resolved])

    points = Points.from_arrays(
        N=column("N"), D=column("D"), L=column("corrected"), C=column("C"), weight=column("weight"),
        group=column("run"),
    )  # fmt: skip
    n, d = points.variable("N"), points.variable("D")
    longest = d == d.max()
    largest = n == n[longest].max()
    parts = {"N,D": points, "N": points.select(longest), "D": points.select(largest)}

    def attempt(name: str) -> FitResult | Unavailable:
        law, variable = LAWS[name]
        try:
            return fit(parts[name], law, variable=variable, loss="mse-log", bootstrap=bootstrap, seed=seed)
        except InputError as error:
            return Unavailable(f"not fitted: {error}")

    return DistanceLaws(points, parts, {name: attempt(name) for name in LAWS}, n_unresolved)
