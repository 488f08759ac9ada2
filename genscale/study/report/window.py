"""The learnable window: what lies between a reference level and the floor, and how much of it is learned."""

from __future__ import annotations

from collections.abc import Mapping

from eval.common.results import Unavailable
from eval.scaling.figures import window_figure
from genscale.pages import Picture, Section, Table
from genscale.study.report.fits import TaskLaws, task_laws, windows
from genscale.study.report.study import Study, interval, verdict


def section(study: Study) -> Section | None:
    """Windows of the tasks of a study; None for a study that only varies runs."""
    tasks = task_laws(study)
    return show(tasks) if tasks else None


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
    if window.floor.identified is False:
        return [f"{name.capitalize()}: L_inf is not identified, and with it neither is the learnable window."]
    level = window.main
    return [
        f"{name.capitalize()}: the learnable window below the {level.name} level is {interval(level.window_per_jet)} "
        f"nats per jet, and the best run fills {level.reached.value:.0%} of it{_floor_range(laws)}."
    ]


def _floor_range(laws: TaskLaws) -> str:
    """How far the floor moves with the choice of points, where the law misses them."""
    window = laws.window
    if isinstance(window, Unavailable) or laws.misfit is None or not laws.misfit.model_error:
        return ""
    floors = [e.value for e in window.sensitivity.values() if e.identified]
    if not floors:
        return ""
    text = f"; with the choice of points its L_inf moves from {min(floors):.4g} to {max(floors):.4g}"
    if max(floors) > window.lowest_loss:
        text += f" (but L_inf cannot exceed the lowest loss measured, {window.lowest_loss:.4g})"
    return text


def _levels(tasks: Mapping[str, TaskLaws]) -> Table:
    levels = [(task, w, level) for task, w in windows(tasks).items() for level in w.levels.values()]
    scales = [
        next(s.scale for s in v.saturation if s.variable == "C" and s.occupancy == 0.9) for *_, v in levels
    ]
    return Table(
        "Windows",
        "The learnable window L_ref - L_inf below each reference level, in the unit of the loss and in nats per "
        "jet; how much of it the best run fills, and the compute at which a compute-optimal run fills 90 % (n. i.: not "
        "identified; the reason shows when the pointer rests on the row).",
        ("task", "reference", "L_ref", "L_inf", "window", "nats per jet", "filled", "C at 90 %"),
        [
            [
                task, level.name, f"{level.reference:.3f}", interval(window.floor), interval(level.window),
                interval(level.window_per_jet), f"{level.reached.value:.1%}",
                interval(scale) + (" n. i." if scale.identified is False else ""),
            ]
            for (task, window, level), scale in zip(levels, scales, strict=True)
        ],
        notes=[scale.reason for scale in scales],
    )  # fmt: skip


def _sensitivity(tasks: Mapping[str, TaskLaws]) -> Table:
    return Table(
        "Stability of the floor",
        "How the floor L_inf moves with the choice of points. It usually moves by more than its quoted interval.",
        ("task", "points", "L_inf [68 %]", "identified"),
        [
            [task, name, interval(e), verdict(e)]
            for task, window in windows(tasks).items()
            for name, e in window.sensitivity.items()
        ],
    )


def _figure(tasks: Mapping[str, TaskLaws]) -> Picture:
    found = windows(tasks)
    return Picture(
        "window",
        "The learnable window" + (f": {' beside '.join(found)}" if len(found) > 1 else ""),
        "Left: how much of each task's learnable window a compute-optimal run with C FLOPs fills, from the loss of a "
        "bigram table (generation) or the entropy of the class shares (tagging) at 0 to the fitted floor L_inf at 1; "
        "solid within the range of the runs, dashed beyond. Right: the window and what the best run has learned of it, "
        "in nats per jet. A wide band means that the runs do not constrain the floor (n. i.: not identified).",
        window_figure(found),
    )
