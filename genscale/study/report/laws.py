"""Fitted laws: constants, compute-optimal exponents, and which law extrapolates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from eval.common.results import Unavailable
from eval.scaling.figures import fit_panels
from genscale.pages import Picture, Section, Table
from genscale.study.report.words import verdict
from genscale.study.results.laws import TaskLaws
from genscale.study.results.study import UNIT, Study

FITS_FILE = "fits.json"

APPROACHES = {1: "1 envelope", 2: "2 IsoFLOP", 3: "3 parametric"}


def section(study: Study) -> Section | None:
    """Laws of the tasks of a study; None for a study without grids."""
    tasks = study.laws
    return show(tasks, data={FITS_FILE: {laws.kind: laws for laws in tasks.values()}}) if tasks else None


def show(tasks: Mapping[str, TaskLaws], data: Mapping[str, object] | None = None) -> Section:
    """Laws of named tasks, of one study or several."""
    return Section(
        "Scaling laws",
        found=[line for name, laws in tasks.items() for line in _findings(name, laws)],
        figures=[picture for name, laws in tasks.items() for picture in _figures(name, laws)],
        tables=[_constants(tasks), _exponents(tasks), _ranking(tasks)],
        data=data or {},
        text=[line for name, laws in tasks.items() for line in _missing(name, laws)],
        summary="\n\n".join(_summary(laws) for laws in tasks.values()).split("\n"),
    )


def _findings(name: str, laws: TaskLaws) -> list[str]:
    name, surface = name.capitalize(), laws.surface
    if surface is None:
        return [f"{name}: no law of N and D could be fitted ({laws.laws['L(N,D)']})."]
    lines = [] if laws.misfit is None else [f"{name}, L(N, D): {laws.misfit}."]
    known = [f"{k} = {e.text()}" for k, e in surface.params.items() if e.identified]
    unknown = [k for k, e in surface.params.items() if e.identified is False]
    if known:
        formula = surface.law.formula.split("=")[-1].strip()
        lines.append(f"{name}, L = {formula}: {', '.join(known)} (68 % intervals).")
    if unknown:
        lines.append(
            f"{name}: {', '.join(unknown)} cannot be identified from these runs; a wider range of N or D is needed."
        )
    return lines


def _missing(name: str, laws: TaskLaws) -> list[str]:
    """What could not be measured, and why."""
    parts = {**laws.laws, "approaches": laws.approaches, "ranking": laws.ranking}
    reasons: dict[str, list[str]] = {}
    for part, result in parts.items():
        if isinstance(result, Unavailable):
            reasons.setdefault(result.reason, []).append(part)
    return [f"{name.capitalize()}, {', '.join(what)}: {reason}." for reason, what in reasons.items()]


def _summary(laws: TaskLaws) -> str:
    if laws.surface is None:
        return f"{laws.kind}: {laws.laws['L(N,D)']}"
    lines = [f"{laws.kind}: {laws.surface.law.formula}"]
    for name, e in laws.surface.params.items():
        lines.append(f"  {name:6s} {e.text()}{'' if e.identified else '   not identified: ' + e.reason}")
    return "\n".join(lines)


def _constants(tasks: Mapping[str, TaskLaws]) -> Table:
    def rows() -> Iterator[list[str]]:
        for task, laws in tasks.items():
            for name, law in laws.laws.items():
                if isinstance(law, Unavailable):
                    continue
                for constant, e in {**law[1].params, **law[1].derived}.items():
                    yield [task, name, law[1].law.formula, constant, e.text(), verdict(e)]

    return Table(
        "Constants",
        "Fitted constants with 68 % bootstrap intervals. A constant is not identified when it runs into a bound or "
        "when its 95 % interval is too wide; its value must then not be quoted. Whole runs are resampled, because the "
        "points of a run share its noise. With fewer than eight runs, points are resampled instead, and the intervals "
        "are too short.",
        ("task", "law", "formula", "constant", "value [68 %]", "identified"),
        list(rows()),
    )


def _exponents(tasks: Mapping[str, TaskLaws]) -> Table:
    def rows() -> Iterator[list[str]]:
        for task, laws in tasks.items():
            if isinstance(laws.approaches, Unavailable):
                continue
            exponents = laws.approaches.exponents()
            for number, result in laws.approaches.approaches.items():
                a = exponents.get(number)
                yield [task, APPROACHES[number], a.text() if a else "", verdict(a) if a else str(result)]
            for text in laws.approaches.warnings:
                yield [task, "note", "", text]

    return Table(
        "Compute-optimal exponents",
        "Exponent a of the compute-optimal size, N* = k C^a, by the three approaches of Hoffmann et al. In the "
        "literature they disagree by more than their errors, so that their range is the more realistic uncertainty.",
        ("task", "approach", "a [68 %]", "identified"),
        list(rows()),
    )


def _ranking(tasks: Mapping[str, TaskLaws]) -> Table:
    def rows() -> Iterator[list[str]]:
        for task, laws in tasks.items():
            if isinstance(laws.ranking, Unavailable):
                continue
            for s in laws.ranking.scores:
                best = "predicts best" if s.law == laws.ranking.best else ""
                fits = "fits best" if s.law == laws.ranking.best_fitting else ""
                note = ", ".join(filter(None, (best, fits)))
                yield [task, s.law, f"{s.rms_beyond:.4f}", f"{s.bias_beyond:+.4f}", f"{s.aicc:.1f}", note]

    return Table(
        "Which law predicts",
        "Laws fitted to the runs below a cut in compute, with their residuals of ln L above it. For extrapolations, "
        "the law that predicts best counts more than the one that fits best.",
        ("task", "law", "RMS above the cut", "bias above the cut", "AICc below the cut", ""),
        list(rows()),
    )


def _figures(name: str, laws: TaskLaws) -> list[Picture]:
    panels = {title: law for title, law in laws.laws.items() if not isinstance(law, Unavailable)}
    if not panels:
        return []
    return [
        Picture(
            f"laws-{name}",
            f"Laws of {name}",
            f"Held-out loss in nats per {UNIT[laws.kind]} against N and D together, against N at the largest D, and "
            "against D at the largest N that saw it, with the fitted laws. Bands are 68 % bootstrap intervals; "
            "constants marked n. i. are not identified by these runs and must not be quoted.",
            fit_panels(panels),
        )
    ]
