"""What a study found, in sentences that its numbers allow and no others."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from eval.results import Estimate
from genscale.records import RunRecord
from genscale.study.config import StudyConfig
from genscale.study.report.analysis import COMMON_LEVEL, Analysis, TaskLaws

#: Distances of decoded from original jets, in 68 % half-widths relative to one, beyond which to look twice.
COARSE_RESOLUTION = 0.1

#: What a loss is a mean over, by task.
UNIT = {"generator": "token", "tagger": "jet"}


def findings(analysis: Analysis, config: StudyConfig) -> list[str]:
    """Sentences for the head of the report, each with its numbers."""
    lines = []
    for name, task in analysis.tasks.items():
        lines += _of_task(analysis, name, task)
    lines += window_findings(analysis.tasks)
    relation = analysis.loss_fidelity
    resolved = [run for run, s in analysis.fidelity.items() if s.joint.resolved]
    if analysis.fidelity:
        lines.append(f"Loss against fidelity: {relation if isinstance(relation, str) else relation.verdict}")
        lines.append(
            f"Of {len(analysis.fidelity)} generators, {len(resolved)} make jets that are resolved from the reference "
            f"in the joint distance of five observables at n = {config.samples.jets:,}."
        )
    return lines


def _of_task(analysis: Analysis, name: str, task: TaskLaws) -> list[str]:
    # Sizes that saw fewer jets than others are no step on the way from small to large.
    records = _with_most_jets([r for _, r in analysis.runs(task.task)])
    small, large = records[0], records[-1]
    name, unit = name.capitalize(), UNIT[task.task]
    lines = [
        f"{name}: from {small.parameters['total']:,} to {large.parameters['total']:,} parameters at "
        f"{large.jets_seen:,} jets, the held-out loss goes from {small.final.metrics['loss']:.4f} to "
        f"{large.final.metrics['loss']:.4f} nats per {unit} (statistical error "
        f"{large.final.metrics['loss_error']:.4f})."
    ]
    surface = task.surface
    if surface is None:
        lines.append(f"{name}: no law of N and D could be fitted ({task.laws['L(N,D)']}).")
        return lines
    lines += misfit_findings(name, task)
    known = [f"{k} = {_interval(e)}" for k, e in surface.params.items() if e.identified]
    unknown = [k for k, e in surface.params.items() if e.identified is False]
    if known:
        lines.append(f"{name}, L = {surface.law.formula.split('=')[-1].strip()}: {', '.join(known)} (68 %).")
    if unknown:
        lines.append(
            f"{name}: these runs do not identify {', '.join(unknown)}; larger ones are needed for them."
        )
    return lines


def misfit_findings(name: str, task: TaskLaws) -> list[str]:
    """How well the law of a named task describes its points, if it has one."""
    return [] if task.misfit is None else [f"{name.capitalize()}, L(N, D): {task.misfit}."]


def _with_most_jets(records: list[RunRecord]) -> list[RunRecord]:
    most = max(r.jets_seen for r in records)
    return [r for r in records if r.jets_seen == most]


def window_findings(tasks: Mapping[str, TaskLaws]) -> list[str]:
    """The learnable windows of named tasks in one sentence."""
    parts = []
    for name, task in tasks.items():
        if isinstance(task.window, str):
            continue
        level = task.window.levels[COMMON_LEVEL]
        if task.window.floor.identified is False:
            parts.append(f"for {name} L_inf is not identified, so its window is not either")
        else:
            parts.append(
                f"for {name} the window below a uniform guess is {_interval(level.window)} nats, "
                f"{level.share.value:.0%} of the reference, and the best run occupies {level.reached.value:.0%} of it"
                + _floor_range(task)
            )
    return [f"The learnable window: {'; '.join(parts)}."] if parts else []


def _floor_range(task: TaskLaws) -> str:
    """Where the law misses its points: how far its floor moves with the choice of points."""
    if task.misfit is None or task.misfit.describes is not False or isinstance(task.window, str):
        return ""
    floors = [e.value for e in task.window.sensitivity.values() if e.identified]
    if not floors:
        return ""
    text = f", if the law holds; with the choice of points its L_inf moves from {min(floors):.4g} to {max(floors):.4g}"
    lowest = task.window.lowest_loss
    refuted = f" (a floor above the lowest loss measured, {lowest:.4g}, cannot be one)"
    return text + (refuted if max(floors) > lowest else "")


def _interval(e: Estimate) -> str:
    return f"{e.value:.3g}" + ("" if e.ci68 is None else f" [{e.ci68[0]:.3g}, {e.ci68[1]:.3g}]")


def oddities(analysis: Analysis, quality: dict[str, Any] | None, config: StudyConfig) -> list[str]:
    """What a careful reader should know before believing the rest; ``quality`` is the tokenizer's, if any."""
    lines = [] if quality is None else _of_tokenizer(quality)
    if analysis.fidelity:
        best = min(analysis.fidelity, key=lambda run: analysis.records[run].final.metrics["loss"])
        lines += [f"Score of {best}: {warning}." for warning in analysis.fidelity[best].warnings]
    for run, record in analysis.records.items():
        losses = [e.metrics["loss"] for e in record.evaluations]
        if losses[-1] > min(losses) + 3 * record.final.metrics["loss_error"]:
            lines.append(f"{run}: the loss rose again at the end; its learning rate may be too high.")
        if record.jets_seen > record.jets_unique:
            lines.append(
                f"{run}: saw {record.jets_unique:,} jets {record.jets_seen / record.jets_unique:.2g} times, though the "
                "laws of its task are those of a single pass."
            )
    for task in analysis.tasks.values():
        for a, b in pairwise(_with_most_jets([r for _, r in analysis.runs(task.task)])):
            error = 3 * (a.final.metrics["loss_error"] ** 2 + b.final.metrics["loss_error"] ** 2) ** 0.5
            if (
                b.parameters["total"] > a.parameters["total"]
                and b.final.metrics["loss"] > a.final.metrics["loss"] + error
            ):
                lines.append(f"{task.task}: the larger {b.size} ends above the smaller {a.size}.")
    alone = [
        name
        for name, task in analysis.tasks.items()
        if len({r.seed for _, r in analysis.runs(task.task)}) == 1
    ]
    lines.append(
        "Points of one training curve share their noise"
        + (
            f", and with one seed per size the spread between seeds is not in the intervals of {' and '.join(alone)}."
            if alone
            else "; the spread between seeds is in the points where a size has several."
        )
    )
    return lines


def _of_tokenizer(quality: dict[str, Any]) -> list[str]:
    lines = []
    for group in ("particle", "jet"):
        for name, r in quality[group].items():
            if "relative" in name and r["half_width_68"] > COARSE_RESOLUTION:
                lines.append(
                    f"The tokenizer resolves {group} {name.removesuffix('_relative')} to only "
                    f"{r['half_width_68']:.0%}: the floor under every generator here is its doing."
                )
    used = quality["codes_used"] / quality["codebook_size"]
    if used < 0.9:
        lines.append(f"Only {used:.0%} of the codebook is used.")
    return lines
