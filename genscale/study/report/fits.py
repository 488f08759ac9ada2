"""The laws of a study's single-epoch runs: fits, learnable windows, and how far each can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
    class_levels,
    compare_laws,
    fit,
    misfit,
    sensitivity,
    window,
)
from eval.scaling.approaches.comparison import Comparison, compare_approaches
from genscale.inference.stores import token_levels
from genscale.study.report.study import TASKS, Study, attempt, available, once

Law = tuple[Points, FitResult]


@dataclass(frozen=True)
class TaskLaws:
    """Laws of one task; a result that the data do not allow is `Unavailable`.

    Attributes
    ----------
    kind : str
        Task of its runs, ``generator`` or ``tagger``.
    points : Points
        Those with enough jets seen to be fitted.
    laws : dict
        ``L(N,D)``, ``L(N)`` at the largest D, ``L(D)`` at the largest N that saw it, each with its points.
    approaches : Comparison
        Approaches 1, 2 and 3 to the compute-optimal size.
    window : WindowResult
    ranking : Ranking
        Laws of N and D by how well they predict the largest runs from the smaller ones.
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


@once
def task_laws(study: Study) -> dict[str, TaskLaws]:
    """Fit the laws of each task of a study: ``generation``, ``tagging``, or both."""
    return {task: _fit_task(study, kind) for task, kind in TASKS.items() if study.runs(kind)}


def windows(tasks: Mapping[str, TaskLaws]) -> dict[str, WindowResult]:
    """Learnable windows of the tasks that have one."""
    found = {task: available(laws.window) for task, laws in tasks.items()}
    return {task: result for task, result in found.items() if result is not None}


def _fit_task(study: Study, kind: str) -> TaskLaws:
    points, options = study.points(kind), study.options
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
        return window(_levels(study, kind), result, variants=sensitivity(points, "additive", **options))

    return TaskLaws(
        kind,
        points,
        laws,
        attempt("approaches not compared", lambda: compare_approaches(points, result, **options)),
        attempt("no window", learnable),
        attempt("laws not compared", lambda: compare_laws(points, seed=options["seed"])),
        misfit(points, result),
    )


def _levels(study: Study, kind: str) -> ReferenceLevels | Mapping[str, float]:
    """Losses of models that know nothing, or only the frequencies of tokens or classes."""
    if kind == "tagger":
        return class_levels([int(n) for n in np.bincount(study.jets("validation").labels()) if n])
    return token_levels(study.tokens)
