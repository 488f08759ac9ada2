"""The answer at the head of a report: does scaling help, and where does it stop?

Nothing is measured here. Sentences rest on the same steps, controls and verdicts as the sections below, and are never
stronger than these: what was not measured, not identified or not tested is said to be so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from eval.common.results import Unavailable
from eval.common.style import BLUE, GREY, VERMILION, styled
from eval.literature.claims import LEAST_POWER
from eval.literature.falls import falls_with_data, falls_with_size
from eval.literature.verdicts import Verdict
from eval.scaling import WindowResult
from eval.scaling.steps import SPAN
from genscale.pages import Answer, Finding, Number, Picture
from genscale.study.report.runs import with_most_jets
from genscale.study.report.window import refuted_floor, unknown_floor
from genscale.study.report.words import MARKS
from genscale.study.results.controls import Limit
from genscale.study.results.laws import TaskLaws
from genscale.study.results.study import TASKS, UNIT, Study

QUESTION: Final = "Does scaling help here, and where does it stop?"

#: Numbers at the head of the page.
MOST_NUMBERS: Final = 4

#: What a control says about the loss of a task; None without a control.
LIMITS: Final = {
    Limit.TRAINING: "training limits it, not data: a quarter of the jets, seen four times, does as well",
    Limit.DATA: "data limit it: fresh jets do better than repeated ones",
    Limit.UNKNOWN: "whether data or training limit it cannot be told",
    None: "what limits it was not tested",
}


def answer(study: Study) -> Answer:
    """Answer the question of a study with a sentence on each part, its main numbers and one figure."""
    findings = [
        _task(study, task) if task in study.sizes else _absent(task, f"this study trains no {kind}s")
        for task, kind in TASKS.items()
    ]
    pictures = []
    if study.sizes:
        caption = (
            "Held-out loss at the largest number of jets against model size, with the fitted floor L_inf where it is "
            "identified (68 % interval)"
        )
        if study.scores:
            caption += (
                "; and the distance of generated from reference jets, with the distance between two samples of the "
                "reference, below which nothing is resolved"
            )
        pictures.append(Picture("answer", "What a larger model brings", f"{caption}.", draw(study)))
    return Answer(QUESTION, [*findings, _samples(study)], list(_numbers(study))[:MOST_NUMBERS], pictures)


# -- sentences ------------------------------------------------------------------------------------------------


def _absent(topic: str, why: str) -> Finding:
    return Finding(topic.capitalize(), MARKS[Verdict.NOT_TESTED], f"not measured: {why}.")


def _task(study: Study, task: str) -> Finding:
    """Whether larger models help, what limits the loss, and where it stops."""
    verdict, size = _size(study, task)
    control = study.controls.get(task)
    limit = LIMITS[control.limit if control else None]
    return Finding(
        task.capitalize(),
        MARKS[verdict],
        f"{size}{_data(study, task)}. {_capital(limit)}; {_stop(study.laws[task])}.",
    )


def _size(study: Study, task: str) -> tuple[Verdict, str]:
    """The verdict on the fall of the loss with size, in words and with its number."""
    fall = _fall(study, task)
    if fall is None:
        return (
            Verdict.CANNOT_TELL,
            "only one size saw the largest number of jets, so that nothing shows what size does",
        )
    small, large, change, error = fall
    steps = study.laws[task].steps
    verdict = falls_with_size(steps).verdict
    power = study.power.get(f"{task}: N")
    if power is not None and power < LEAST_POWER:
        verdict = Verdict.NOT_TESTED
    numbers = (
        f"from {small:,.0f} to {large:,.0f} parameters the held-out loss {'falls' if change > 0 else 'rises'} by "
        f"{abs(change):.3f} ± {error:.3f} nats per {UNIT[TASKS[task]]}"
    )
    if verdict is Verdict.SUPPORTS:
        return verdict, f"larger models help: {numbers}"
    if verdict is Verdict.CONTRADICTS:
        return verdict, f"larger models do not help: {numbers}"
    if verdict is Verdict.NOT_TESTED:
        why = f"a study of this design decides it with probability {power:.2f} only"
    elif steps.span is None:
        why = f"the sizes that saw the most jets span less than {SPAN:g} decades"
    elif not steps.span.dof > 0:
        why = "no run was repeated with another seed"
    else:
        why = "the 95 % interval does not exclude a fall too small to matter"
    return verdict, f"whether larger models help cannot be told: {numbers}, but {why}"


def _fall(study: Study, task: str) -> tuple[float, float, float, float] | None:
    """Smaller and larger size, the fall of the loss between them, and its standard error; None for a single size.

    Where seeds were repeated, it is the step that the verdict rests on; elsewhere the error is that of the held-out
    jets.
    """
    span = study.laws[task].steps.span
    if span is not None and span.dof > 0:
        return span.low, span.high, -span.change, span.error
    compared = with_most_jets(study.sizes[task])
    small, large = compared[0], compared[-1]
    if small.parameters == large.parameters:
        return None
    error = float(np.hypot(small.error, large.error))
    return small.parameters, large.parameters, small.loss - large.loss, error


def _data(study: Study, task: str) -> str:
    """Whether the loss still falls in the last doubling of jets, where that is decided."""
    if (chance := study.power.get(f"{task}: D")) is not None and chance < LEAST_POWER:
        return ""
    verdict = falls_with_data(study.laws[task].steps).verdict
    return {
        Verdict.SUPPORTS: "; it still falls in the last doubling of jets",
        Verdict.CONTRADICTS: "; it no longer falls in the last doubling of jets",
    }.get(verdict, "")


def _stop(laws: TaskLaws) -> str:
    """Where the fitted law ends, if these runs identify that."""
    window = laws.window
    if isinstance(window, Unavailable):
        return "where it stops was not measured"
    if why := _no_floor(window):
        return f"where it stops is not identified ({why})"
    reached = window.main.reached
    learned = (
        ""
        if reached.identified is False
        else f", and the best run has learned {_percent(reached.value)} of the way"
    )
    return f"the fitted law stops at {window.floor.text()} nats per {UNIT[laws.kind]}{learned}"


def _no_floor(window: WindowResult) -> str:
    """Why the floor may not be quoted; empty if it may."""
    if why := unknown_floor(window):
        return why
    return (
        "with other choices of points the law stops above a loss that was measured"
        if refuted_floor(window)
        else ""
    )


def _samples(study: Study) -> Finding:
    """Whether the distance of samples follows the loss."""
    if not study.scores:
        return _absent("samples", "this study scores no generated jets")
    resolved = sum(score.joint.resolved for score in study.scores.values())
    differ = (
        f"jets of {resolved} of {len(study.scores)} generators differ from the reference beyond statistics"
    )
    relation = study.loss_fidelity
    if isinstance(relation, Unavailable):
        return Finding(
            "Samples",
            MARKS[Verdict.CANNOT_TELL],
            f"whether they follow the loss cannot be told ({relation}); {differ}.",
        )
    numbers = (
        f"Kendall's tau of distance and loss is {relation.kendall.value:.2f} over {relation.n_models} models"
    )
    chance = study.power.get("generation: SWD")
    if chance is not None and chance < LEAST_POWER:
        verdict, text = Verdict.NOT_TESTED, f"whether they follow the loss was not tested ({numbers})"
    elif relation.falls:
        verdict, text = Verdict.CONTRADICTS, f"a lower loss does not always mean better jets ({numbers})"
    elif relation.rises:
        verdict, text = (
            Verdict.SUPPORTS,
            f"they follow the loss: the lower it is, the closer the jets ({numbers})",
        )
    else:
        verdict = Verdict.CANNOT_TELL
        text = f"whether they follow the loss down to its lowest value cannot be told ({numbers})"
    return Finding("Samples", MARKS[verdict], f"{text}; {differ}.")


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


# -- numbers --------------------------------------------------------------------------------------------------


def _numbers(study: Study) -> Iterator[Number]:
    """Numbers for the head of the page, the most important first."""
    for task in study.sizes:
        if fall := _fall(study, task):
            small, large, change, error = fall
            repeated = any(size.spread is not None for size in study.sizes[task])
            yield Number(
                f"{change:.3f} ± {error:.3f}",
                f"nats per {UNIT[TASKS[task]]}: fall of the loss of {task} from {_short(small)} to {_short(large)} "
                "parameters",
                "" if repeated else "one seed; error of the held-out jets alone",
            )
    if study.scores:
        best = min(study.scores, key=lambda run: study.records[run].final.metrics["loss"])
        score = study.scores[best].joint
        yield Number(
            f"{score.value:.3f} ± {score.distance.standard_error:.3f}",
            f"distance of the jets of {best.split('/')[-1]}, the generator of the lowest loss, from the reference",
            f"{score.floor.mean:.3f} between samples of the reference",
        )
    for task, laws in study.laws.items():
        window = laws.window
        if isinstance(window, Unavailable) or _no_floor(window) or window.main.reached.identified is False:
            continue
        reached = window.main.reached
        ends = reached.ci68 or (reached.value, reached.value)
        yield Number(
            f"{_percent(reached.value)} [{100 * ends[0]:.0f}, {100 * ends[1]:.0f}]",
            f"of the learnable window of {task} learned by the best run",
            "68 % interval",
        )
    yield from _accuracy(study)


def _accuracy(study: Study) -> Iterator[Number]:
    found = study.tagging
    sizes = study.sizes.get("tagging", [])
    scored = [size for size in sizes if found is not None and all(run in found.scores for run in size.runs)]
    if found is None or not scored:
        return
    best = min(scored, key=lambda size: size.mean(lambda run: found.scores[run].loss)[0])
    accuracy, spread = best.mean(lambda run: found.scores[run].accuracy)
    error = best.mean(lambda run: found.scores[run].accuracy_error)[0]
    yield Number(
        f"{accuracy:.3f} ± {np.hypot(error, spread or 0):.3f}",
        f"accuracy of {best.name}, the best tagger, on test jets",
        "" if spread is not None else "one seed; error of the test jets alone",
    )


def _short(count: float) -> str:
    """14.7k for 14,720."""
    for scale, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= scale:
            return f"{count / scale:.3g}{suffix}"
    return f"{count:.0f}"


# -- the figure -----------------------------------------------------------------------------------------------


@styled
def draw(study: Study) -> Figure:
    """Loss of every size at the largest number of jets, by task, and the distance of samples, against model size."""
    panels = len(study.sizes) + bool(study.scores)
    figure = Figure(figsize=(max(3.9 * panels, 5.2), 3.5))
    axes = figure.subplots(1, panels, squeeze=False)[0]
    for ax, (task, sizes), colour in zip(axes, study.sizes.items(), (BLUE, VERMILION), strict=False):
        shown = with_most_jets(sizes)
        ax.errorbar(
            [s.parameters for s in shown],
            [s.loss for s in shown],
            [s.error for s in shown],
            fmt="o-",
            lw=1,
            color=colour,
        )
        window = study.laws[task].window
        if not isinstance(window, Unavailable) and not _no_floor(window):
            _level(ax, window.floor.value, window.floor.ci68, "$L_\\infty$")
        ax.set(title=task, ylabel=f"held-out loss [nats per {UNIT[TASKS[task]]}]")
    if study.scores:
        joint = [score.joint for score in study.scores.values()]
        axes[-1].errorbar(
            [study.records[run].parameters["total"] for run in study.scores],
            [j.value for j in joint],
            [j.distance.standard_error for j in joint],
            fmt="s",
            color=BLUE,
        )
        axes[-1].set(title="samples", ylabel="distance from reference jets", ylim=(0, None))
        _level(axes[-1], float(np.mean([j.floor.mean for j in joint])), None, "reference samples")
    for ax in axes:
        ax.set(xscale="log", xlabel="model size N [parameters]")
        ax.margins(x=0.1)
        low, high = ax.get_xlim()
        if high > 10 * low:
            ax.xaxis.set_minor_formatter(NullFormatter())  # labels of minor ticks would run into each other
    return figure


def _level(ax: Axes, value: float, ends: tuple[float, float] | None, name: str) -> None:
    """A dashed line with its name and interval."""
    ax.axhline(value, color=GREY, ls="--", lw=1)
    if ends is not None:
        ax.axhspan(*ends, color=GREY, alpha=0.15, lw=0)
    ax.annotate(
        name,
        (0.97, value),
        xycoords=("axes fraction", "data"),
        ha="right",
        va="bottom",
        fontsize=9,
        color=GREY,
    )
