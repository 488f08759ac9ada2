"""Laws of the single-pass runs of a task: fits, learnable windows, and how well each law describes its points."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from eval.common.results import Unavailable
from eval.scaling import (
    FitResult,
    Misfit,
    Points,
    Ranking,
    ReferenceLevels,
    WindowResult,
    compare_laws,
    fit,
    misfit,
    sensitivity,
    window,
)
from eval.scaling.approaches.comparison import Comparison, compare_approaches
from eval.scaling.steps import PairedSteps, paired_steps
from genscale.study.results.absence import attempt, available

Law = tuple[Points, FitResult]


@dataclass(frozen=True)
class TaskLaws:
    """Laws of one task; a result that the data do not allow is `Unavailable`.

    Attributes
    ----------
    kind : str
        Task of its runs, ``generator`` or ``tagger``.
    points : Points
        Held-out losses with enough jets seen to be fitted.
    laws : dict
        ``L(N,D)``, ``L(N)`` at the largest D, and ``L(D)`` at the largest N that saw it, each with its points.
    approaches : Comparison
        Approaches 1, 2 and 3 to the compute-optimal size.
    window : WindowResult
        The learnable window.
    ranking : Ranking
        Laws of N and D, ordered by how well they predict the largest runs from the smaller ones.
    misfit : Misfit or None
        How well L(N, D) describes its points.
    """

    kind: str
    points: Points
    laws: Mapping[str, Law | Unavailable]
    approaches: Comparison | Unavailable
    window: WindowResult | Unavailable
    ranking: Ranking | Unavailable
    misfit: Misfit | None = None

    @cached_property
    def steps(self) -> PairedSteps:
        """Differences of the losses between neighbouring sizes and amounts of data, without a law."""
        return paired_steps(self.points)

    @property
    def surface(self) -> FitResult | None:
        """The fitted L(N, D), if there is one."""
        law = available(self.laws["L(N,D)"])
        return None if law is None else law[1]

    def to_dict(self) -> dict[str, Any]:
        """Results by the names that they have in ``fits.json``."""
        fits = {name: law if isinstance(law, Unavailable) else law[1] for name, law in self.laws.items()}
        return {"laws": fits} | {
            name: getattr(self, name) for name in ("approaches", "window", "ranking", "misfit")
        }


def windows(tasks: Mapping[str, TaskLaws]) -> dict[str, WindowResult]:
    """Learnable windows of the tasks that have one."""
    found = {task: available(laws.window) for task, laws in tasks.items()}
    return {task: result for task, result in found.items() if result is not None}


def fit_task(
    kind: str,
    points: Points,
    levels: Callable[[], ReferenceLevels | Mapping[str, float]],
    options: Mapping[str, Any],
) -> TaskLaws:
    """Fit the laws of one task.

    Parameters
    ----------
    kind : str
        Task of the runs, ``generator`` or ``tagger``.
    points : Points
        Held-out losses with enough jets seen.
    levels : callable
        Returns the losses of models that know nothing, or only the frequencies of tokens or classes; it is called
        where a law of N and D could be fitted.
    options : mapping of str to Any
        ``bootstrap`` and ``seed`` of all fits.

    Returns
    -------
    TaskLaws
    """
    n, d = points.variable("N"), points.variable("D")

    def law(select: np.ndarray, form: str, variable: str | None) -> Law | Unavailable:
        part = points.select(select)
        return attempt("not fitted", lambda: (part, fit(part, form, variable=variable, **options)))

    laws = {
        "L(N,D)": law(np.ones(len(points), dtype=bool), "additive", None),
        "L(N)": law(d == d.max(), "power", "N"),
        "L(D)": law(n == n[d == d.max()].max(), "power", "D"),
    }
    surface = laws["L(N,D)"]
    if isinstance(surface, Unavailable):
        return TaskLaws(kind, points, laws, surface, surface, surface)
    result = surface[1]

    def learnable() -> WindowResult:
        return window(levels(), result, variants=sensitivity(points, "additive", **options))

    return TaskLaws(
        kind,
        points,
        laws,
        attempt("approaches not compared", lambda: compare_approaches(points, result, **options)),
        attempt("no window", learnable),
        attempt("laws not compared", lambda: compare_laws(points, seed=options["seed"])),
        misfit(points, result),
    )
