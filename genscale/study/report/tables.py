"""The tables of a study's report: plain rows of text, for the page, the terminal and Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.results import Estimate
from genscale.study.report.analysis import Analysis, TaskLaws


@dataclass(frozen=True)
class Table:
    """A table of the report."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def text(self) -> list[str]:
        """Lines for a terminal, without the caption."""
        lines = [self.header, *self.rows]
        widths = [max(len(row[i]) for row in lines) for i in range(len(self.header))]
        return [
            "  ".join(
                cell.ljust(w) if i == 0 else cell.rjust(w)
                for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
            for row in lines
        ]


def run_table(analysis: Analysis) -> Table:
    """One row per training run."""
    rows = []
    for name, r in [run for task in analysis.tasks.values() for run in analysis.runs(task.task)]:
        metrics = r.final.metrics
        rows.append(
            [
                name, f"{r.parameters['total']:,}", f"{r.parameters['blocks']:,}", f"{r.jets_seen:,}",
                f"{r.flops:.2e}", f"{metrics['loss']:.4f} ± {metrics['loss_error']:.4f}",
                f"{r.jets_seen / max(r.wall_s, 1e-9):,.0f}", f"{r.wall_s:.0f}",
            ]
        )  # fmt: skip
    return Table(
        "Training runs. N counts parameters, C is counted from the architecture; the loss is that of held-out "
        "jets, in nats per token (generators) or per jet (taggers), with its statistical error.",
        ("run", "N", "N of blocks", "D (jets)", "C (FLOPs)", "held-out loss", "jets/s", "seconds"),
        rows,
    )


def law_table(tasks: Mapping[str, TaskLaws]) -> Table:
    """One row per fitted constant."""
    rows = []
    for task, laws in tasks.items():
        for name, law in laws.laws.items():
            if isinstance(law, str):
                rows.append([task, name, law, "", "", ""])
                continue
            result = law[1]
            for constant, e in {**result.params, **result.derived}.items():
                rows.append([task, name, result.law.formula, constant, interval(e), verdict(e)])
    return Table(
        "Fitted constants with 68 % bootstrap intervals. A constant is not identified when its 95 % interval runs "
        "into a bound or over decades: then its value must not be quoted. Whole runs are resampled, for the points of "
        "one share its noise; where there are fewer than eight, points are, and intervals come out too short.",
        ("task", "law", "formula", "constant", "value [68 %]", "identified"),
        rows,
    )


def exponent_table(tasks: Mapping[str, TaskLaws]) -> Table:
    """Compute-optimal exponents by approach, side by side."""
    rows = []
    for task, laws in tasks.items():
        if isinstance(laws.comparison, str):
            rows.append([task, "", "", laws.comparison])
            continue
        exponents = laws.comparison.exponents()
        for number, result in laws.comparison.approaches.items():
            failed = isinstance(result, str)
            rows.append(
                [
                    task, f"{number} {('', 'envelope', 'IsoFLOP', 'parametric')[number]}",
                    "" if failed else interval(exponents[number]),
                    result if isinstance(result, str) else verdict(exponents[number]),
                ]
            )  # fmt: skip
        rows += [[task, "note", "", text] for text in laws.comparison.warnings]
    return Table(
        "Exponent a of the compute-optimal size, N* = k C^a, by the three approaches of Hoffmann et al. They "
        "disagree by more than their errors everywhere in the literature; their range is the honest error.",
        ("task", "approach", "a [68 %]", "identified"),
        rows,
    )


def ranking_table(analysis: Analysis) -> Table:
    """Laws by how well they extrapolate."""
    rows = []
    for task in analysis.tasks.values():
        if isinstance(task.ranking, str):
            rows.append([task.task, task.ranking, "", "", "", ""])
            continue
        for s in task.ranking.scores:
            best = "predicts best" if s.law == task.ranking.best else ""
            fits = "fits best" if s.law == task.ranking.best_fitting else ""
            rows.append(
                [
                    task.task, s.law, f"{s.rms_beyond:.4f}", f"{s.bias_beyond:+.4f}", f"{s.aicc:.1f}",
                    ", ".join(filter(None, (best, fits))),
                ]
            )  # fmt: skip
    return Table(
        "Laws fitted to the runs below a compute cut and judged by their residuals of ln L above it. The law to "
        "trust is the one that predicts, not the one that fits.",
        ("task", "law", "RMS beyond the cut", "bias", "AICc", ""),
        rows,
    )


def sensitivity_table(tasks: Mapping[str, TaskLaws]) -> Table:
    """The floor under other choices of points."""
    rows = [
        [task, name, interval(e), verdict(e)]
        for task, laws in tasks.items()
        if not isinstance(laws.window, str)
        for name, e in laws.window.sensitivity.items()
    ]
    return Table(
        "How the floor L_inf moves with the choice of points; it usually moves by more than its quoted interval.",
        ("task", "points", "L_inf [68 %]", "identified"),
        rows,
    )


def window_table(tasks: Mapping[str, TaskLaws]) -> Table:
    """One row per reference level."""
    rows = []
    for task, laws in tasks.items():
        if isinstance(laws.window, str):
            rows.append([task, laws.window, "", "", "", "", "", ""])
            continue
        for level in laws.window.levels.values():
            scale = next(s.scale for s in level.saturation if s.variable == "C" and s.occupancy == 0.9)
            rows.append(
                [
                    task, level.name, f"{level.reference:.3f}", interval(laws.window.floor),
                    interval(level.window), interval(level.share), interval(level.reached),
                    f"{interval(scale)}{'' if scale.identified else ' (not identified)'}",
                ]
            )  # fmt: skip
    return Table(
        "The learnable window L_ref - L_inf below each reference level, its share of the reference, the occupancy "
        "w reached by the best run, and the compute at which w = 0.9 on the compute-optimal path.",
        ("task", "reference", "L_ref", "L_inf", "window", "share", "reached w", "C at w = 0.9"),
        rows,
    )


def fidelity_table(analysis: Analysis) -> Table:
    """One row per generator and distance."""
    rows = []
    for run, result in analysis.fidelity.items():
        for name, s in result.scores.items():
            rows.append(
                [
                    run, name, f"{s.value:.4g} ± {s.distance.standard_error:.2g}", s.unit,
                    f"{s.floor.mean:.3g} ± {s.floor.spread:.2g}",
                    "" if s.tokenizer is None else f"{s.tokenizer.value:.3g}", s.verdict,
                ]
            )  # fmt: skip
    return Table(
        "Distances of generated from reference jets: sliced Wasserstein over all observables (joint) and "
        "one-dimensional for each alone, with the reference-against-reference floor at the same size and the "
        "distance that the tokenizer alone makes.",
        ("run", "observable", "distance", "unit", "floor", "tokenizer", "verdict"),
        rows,
    )


def quality_table(quality: dict[str, Any]) -> Table:
    """Resolutions of the tokenizer."""
    rows = [
        [group, name, f"{r['bias']:+.4f}", f"{r['half_width_68']:.4f}", f"{r['rms']:.4f}"]
        for group in ("particle", "jet")
        for name, r in quality[group].items()
    ]
    return Table(
        f"Tokenizer: {quality['codes_used']} of {quality['codebook_size']} codes used, perplexity "
        f"{quality['perplexity']:.0f}, {quality['bits_per_particle']:.2f} bits per particle, "
        f"{quality['bits_per_jet']:.0f} bits per jet. Decoded minus original; relative for pT and mass, "
        "radians for angles.",
        ("of", "feature", "bias", "68 % half-width", "RMS"),
        rows,
    )


def interval(e: Estimate) -> str:
    """A value with its 68 % interval."""
    return f"{e.value:.4g}" + ("" if e.ci68 is None else f" [{e.ci68[0]:.3g}, {e.ci68[1]:.3g}]")


def verdict(e: Estimate) -> str:
    """Whether a constant may be quoted."""
    return "yes" if e.identified else "no: " + e.reason if e.identified is False else ""
