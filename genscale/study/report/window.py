"""The learnable window: what lies between a reference level and the floor, and how much of it is learned."""

from __future__ import annotations

from collections.abc import Mapping

from eval.common.results import Unavailable
from eval.scaling import WindowResult
from eval.scaling.figures import window_figure
from eval.scaling.fitting.uncertainty import MIN_GROUPS, POINTS_OF_FEW_GROUPS
from genscale.pages import Picture, Section, Table
from genscale.study.report.words import verdict
from genscale.study.results.laws import TaskLaws, windows
from genscale.study.results.study import Study


def section(study: Study) -> Section | None:
    """Windows of the tasks of a study; None for a study without grids."""
    return show(study.laws) if study.laws else None


def show(tasks: Mapping[str, TaskLaws], data: Mapping[str, object] | None = None) -> Section:
    """Windows of named tasks, of one study or several, on one axis of compute."""
    found = windows(tasks)
    return Section(
        "Learnable window",
        found=[line for name, laws in tasks.items() for line in findings(name, laws)],
        figures=[_figure(tasks)] if found else [],
        tables=[_levels(tasks), _sensitivity(tasks)] if found else [],
        data=data or {},
        text=[f"{name.capitalize()}: {laws.window}." for name, laws in tasks.items()
              if isinstance(laws.window, Unavailable)],
    )  # fmt: skip


def findings(name: str, laws: TaskLaws) -> list[str]:
    """Say how large the window of a named task is, and how much of it is learned."""
    window = laws.window
    if isinstance(window, Unavailable):
        return []
    if why := unknown_floor(window):
        return [
            f"{name.capitalize()}: L_inf is not identified ({why}), and with it neither is the learnable window."
        ]
    level = window.main
    return [
        f"{name.capitalize()}: the learnable window below the {level.name} level is {level.window_per_jet.text()} "
        f"nats per jet, of which the best run has learned {100 * level.reached.value:.0f} %{_floor_range(laws)}."
    ]


def unknown_floor(window: WindowResult) -> str:
    """Why the fit does not identify the floor; empty if it does."""
    if window.floor.identified is False:
        return window.floor.reason
    if window.fit.bootstrap_unit == POINTS_OF_FEW_GROUPS:
        return f"fewer than {MIN_GROUPS} runs make intervals that are too short"
    return ""


def refuted_floor(window: WindowResult) -> bool:
    """Whether another choice of points gives a floor above a loss that was measured."""
    return any(e.identified and e.value > window.lowest_loss for e in window.sensitivity.values())


def _floor_range(laws: TaskLaws) -> str:
    """How far the floor moves with the choice of points, where the law misses them."""
    window = laws.window
    if isinstance(window, Unavailable) or laws.misfit is None or not laws.misfit.model_error:
        return ""
    floors = [e.value for e in window.sensitivity.values() if e.identified]
    if not floors:
        return ""
    text = (
        f"; depending on the choice of points, its L_inf varies from {min(floors):.4g} to {max(floors):.4g}"
    )
    if refuted_floor(window):
        text += f" (but L_inf cannot exceed the lowest loss measured, {window.lowest_loss:.4g})"
    return text


def _levels(tasks: Mapping[str, TaskLaws]) -> Table:
    levels = [(task, w, level) for task, w in windows(tasks).items() for level in w.levels.values()]
    scales = [
        next(s.scale for s in v.saturation if s.variable == "C" and s.occupancy == 0.9) for *_, v in levels
    ]
    return Table(
        "Windows",
        "The learnable window L_ref - L_inf below each reference level, in the unit of the loss and in nats per jet; "
        "the fraction of it that the best run has learned (filled); and the compute at which a compute-optimal run "
        "learns 90 % (n. i.: not identified; the reason is shown when the pointer rests on the row).",
        ("task", "reference", "L_ref", "L_inf", "window", "nats per jet", "filled", "C at 90 %"),
        [
            [
                task, level.name, f"{level.reference:.3f}", window.floor.text(), level.window.text(),
                level.window_per_jet.text(), f"{level.reached.value:.1%}",
                scale.text() + (" n. i." if scale.identified is False else ""),
            ]
            for (task, window, level), scale in zip(levels, scales, strict=True)
        ],
        notes=[scale.reason for scale in scales],
    )  # fmt: skip


def _sensitivity(tasks: Mapping[str, TaskLaws]) -> Table:
    return Table(
        "Stability of the floor",
        "Dependence of the floor L_inf on the choice of points, which is usually larger than its quoted interval.",
        ("task", "points", "L_inf [68 %]", "identified"),
        [
            [task, name, e.text(), verdict(e)]
            for task, window in windows(tasks).items()
            for name, e in window.sensitivity.items()
        ],
    )


def _figure(tasks: Mapping[str, TaskLaws]) -> Picture:
    found = windows(tasks)
    return Picture(
        "window",
        "The learnable window" + (f": {' beside '.join(found)}" if len(found) > 1 else ""),
        "Left: the fraction of each task's learnable window that a compute-optimal run with C FLOPs learns, from 0 at "
        "the loss of a bigram table (generation) or the entropy of the class frequencies (tagging) to 1 at the fitted "
        "floor L_inf; solid within the range of the runs, dashed beyond. Right: the window, and the part of it that "
        "the best run has learned, in nats per jet. A wide band means that the runs do not constrain the floor (n. i.: "
        "not identified).",
        window_figure(found),
    )
