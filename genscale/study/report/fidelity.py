"""Distances of generated from reference jets, and their relation to the held-out loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from eval.fidelity.figures import distance_vs_loss, significance_heatmap
from eval.fidelity.result import Score
from eval.fidelity.score import FidelityResult
from genscale.pages import Picture, Section, Table
from genscale.study.report.words import sentence
from genscale.study.results.sizes import Size
from genscale.study.results.study import Study

FIDELITY_FILE = "fidelity.json"


def section(study: Study) -> Section | None:
    """Scores of the generated jets; None for a study without any."""
    found = study.scores
    if not found:
        return None
    relation = study.loss_fidelity
    resolved = sum(score.joint.resolved for score in found.values())
    metrics = {run: study.records[run].final.metrics for run in found}
    best = min(found, key=lambda run: metrics[run]["loss"])
    name = best.split("/")[-1]
    observables = study.folder / "fidelity" / name / "observables.png"
    figures = _figures(found, metrics, [study.records[run].size for run in found])
    if observables.exists():
        figures.append(
            Picture(
                "observables",
                f"Observables of the jets of {name}",
                "Generated jets, jets that only passed through the tokenizer, and reference jets, with the ratio to "
                "the reference below each panel. No generator on these tokens can correct what the tokenizer distorts.",
                observables,
            )
        )
    return Section(
        "Fidelity",
        found=[
            sentence(f"Loss against fidelity: {getattr(relation, 'verdict', relation)}"),
            f"The jets of {resolved} of {len(found)} generators differ significantly from the reference in the joint "
            f"distance of five observables, with {study.config.samples.jets:,} jets each.",
        ],
        cautions=[f"Score of {best}: {warning}." for warning in found[best].warnings],
        figures=figures,
        tables=[_sizes(study.sizes["generation"], found), _table(found)],
        data={FIDELITY_FILE: found},
        summary=[
            "sliced Wasserstein distance of five observables (floor: between samples of the reference)",
            *(f"  {run:22s} {_distance(score.joint)}" for run, score in found.items()),
        ],
    )


def _distance(j: Score) -> str:
    return f"{j.value:.4f} ± {j.distance.standard_error:.4f}   floor {j.floor.mean:.4f}"


def _sizes(sizes: Sequence[Size], found: Mapping[str, FidelityResult]) -> Table:
    def distance(size: Size) -> str:
        value, spread = size.mean(lambda run: found[run].joint.value)
        error = size.mean(lambda run: found[run].joint.distance.standard_error)[0]
        return f"{value:.4f} ± {np.hypot(error, (spread or 0.0) / np.sqrt(len(size.runs))):.4f}"

    def spread(size: Size) -> str:
        value = size.mean(lambda run: found[run].joint.value)[1]
        return "" if value is None else f"{value:.4f}"

    return Table.of(
        "Joint distance by size",
        "Sliced Wasserstein distance over all observables, mean over seeds. Its error combines that over jets with "
        "that of the mean over seeds; the spread is the standard deviation over seeds.",
        [size for size in sizes if all(run in found for run in size.runs)],
        [
            ("size", lambda size: size.name),
            ("seeds", lambda size: str(len(size.runs))),
            ("held-out loss", lambda size: size.text),
            ("joint distance", distance),
            ("spread over seeds", spread),
            ("floor", lambda size: f"{size.mean(lambda run: found[run].joint.floor.mean)[0]:.4f}"),
        ],
    )


def _table(found: dict[str, FidelityResult]) -> Table:
    return Table.of(
        "Distances",
        "Distances between generated and reference jets: the sliced Wasserstein distance over all observables (joint) "
        "and the one-dimensional Wasserstein distance of each. The floor is the distance between two samples of the "
        "reference of the same size; the tokenizer alone causes the distance in its column.",
        [(run, name, score) for run, result in found.items() for name, score in result.scores.items()],
        [
            ("run", lambda row: row[0]),
            ("observable", lambda row: row[1]),
            ("distance", lambda row: f"{row[2].value:.4g} ± {row[2].distance.standard_error:.2g}"),
            ("unit", lambda row: row[2].unit),
            ("floor", lambda row: f"{row[2].floor.mean:.3g} ± {row[2].floor.spread:.2g}"),
            ("tokenizer", lambda row: "" if row[2].tokenizer is None else f"{row[2].tokenizer.value:.3g}"),
            ("verdict", lambda row: row[2].verdict),
        ],
    )


def _figures(
    found: Mapping[str, FidelityResult], metrics: Mapping[str, Mapping[str, float]], sizes: Sequence[str]
) -> list[Picture]:
    return [
        Picture(
            "loss-fidelity",
            "Loss against fidelity",
            "Sliced Wasserstein distance of five observables, which the model never sees, against its held-out loss; "
            "one point per run. The bands are the floors: the distance between two samples of the reference of the "
            "same size, and that of jets that only passed through the tokenizer. A distance on a floor is not "
            "resolved.",
            distance_vs_loss(
                [metrics[run]["loss"] for run in found],
                list(found.values()),
                list(sizes),
                [metrics[run]["loss_error"] for run in found],
            ),
        ),
        Picture(
            "significance",
            "What is still wrong with the generated jets",
            "By how many standard deviations of the floor each distance exceeds it, by observable and model. Grey: not "
            "resolved with this number of jets.",
            significance_heatmap({run.split("/")[-1]: score for run, score in found.items()}),
        ),
    ]
