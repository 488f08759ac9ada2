"""Do the samples follow the loss: distances of generated from reference jets, and their relation to the loss."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from eval.common.results import Unavailable
from eval.fidelity.figures import distance_vs_loss, significance_heatmap
from eval.fidelity.loss import LossFidelity, loss_vs_fidelity
from eval.fidelity.result import Score
from eval.fidelity.score import FidelityResult
from genscale.pages import Picture, Section, Table
from genscale.study.cells import sample_name
from genscale.study.report.study import Size, Study, once, sentence

FIDELITY_FILE = "fidelity.json"


@once
def stages(study: Study) -> dict[tuple[str, int | None], FidelityResult]:
    """Scores of samples by generator run and jets seen (None: at the end of the run), in the order of the study."""
    found = {}
    for run in (run for run in study.records if run.startswith("generator/")):
        for jets in (*study.config.samples.at, None):
            file = study.folder / "fidelity" / sample_name(run, jets) / FIDELITY_FILE
            if file.exists():
                found[run, jets] = FidelityResult.from_json(file.read_text(), str(file))
    return found


def scores(study: Study) -> dict[str, FidelityResult]:
    """Generator run id to the score of its samples at the end of the run, in the order of the study."""
    return {run: score for (run, jets), score in stages(study).items() if jets is None}


@once
def loss_fidelity(study: Study) -> LossFidelity | Unavailable:
    """Relation between the held-out loss and the joint distance; seeds of one size count as one model."""
    found = scores(study)
    sizes = [study.records[run].size for run in found]
    if len(set(sizes)) < 3:
        return Unavailable(f"{len(set(sizes))} scored models; ranking needs at least three")
    joint = [score.joint for score in found.values()]
    metrics = [study.records[run].final.metrics for run in found]
    return loss_vs_fidelity(
        [m["loss"] for m in metrics],
        [j.value for j in joint],
        [j.distance.error_generated for j in joint],  # reference and directions are common to all models
        float(np.mean([j.floor.mean for j in joint])),
        float(np.mean([j.floor.spread for j in joint])),
        models=sizes,  # losses on the same held-out jets have no errors relative to each other
    )


def section(study: Study) -> Section | None:
    """Scores of the generated jets; None for a study without any."""
    found = scores(study)
    if not found:
        return None
    relation = loss_fidelity(study)
    resolved = sum(score.joint.resolved for score in found.values())
    best = min(found, key=lambda run: study.records[run].final.metrics["loss"])
    return Section(
        "Fidelity",
        found=[
            sentence(f"Loss against fidelity: {getattr(relation, 'verdict', relation)}"),
            f"{resolved} of {len(found)} trained generators make jets that differ measurably from the reference in "
            f"the joint distance of five observables, at n = {study.config.samples.jets:,} jets.",
        ],
        cautions=[f"Score of {best}: {warning}." for warning in found[best].warnings],
        figures=_figures(study, found, best.split("/")[-1]),
        tables=[_sizes(study, found), _table(found)],
        data={FIDELITY_FILE: found},
        summary=[
            "sliced Wasserstein distance of five observables (floor: reference against reference)",
            *(f"  {run:22s} {_distance(score.joint)}" for run, score in found.items()),
        ],
    )


def _distance(j: Score) -> str:
    return f"{j.value:.4f} ± {j.distance.standard_error:.4f}   floor {j.floor.mean:.4f}"


def _sizes(study: Study, found: Mapping[str, FidelityResult]) -> Table:
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
        [size for size in study.sizes("generator") if all(run in found for run in size.runs)],
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
        "Generated against reference jets: sliced Wasserstein distance over all observables (joint) and "
        "one-dimensional Wasserstein distance for each alone, with the floor that reference against reference gives "
        "at the same size, and the distance that the tokenizer alone causes.",
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


def _figures(study: Study, found: dict[str, FidelityResult], best: str) -> list[Picture]:
    metrics = [study.records[run].final.metrics for run in found]
    return [
        Picture(
            "loss-fidelity",
            "Loss against fidelity",
            "Sliced Wasserstein distance of five observables that the model never sees, against its held-out loss; "
            "one point per run. The bands are the floors: reference against reference at the same number of jets, and "
            "jets that only went through the tokenizer. A distance on a floor is not resolved.",
            distance_vs_loss(
                [m["loss"] for m in metrics],
                list(found.values()),
                [study.records[run].size for run in found],
                [m["loss_error"] for m in metrics],
            ),
        ),
        Picture(
            "significance",
            "What is still wrong with the generated jets",
            "By how many spreads of the floor each distance exceeds it, by observable and model. Grey: not resolved "
            "with this number of jets.",
            significance_heatmap({run.split("/")[-1]: score for run, score in found.items()}),
        ),
        Picture(
            "observables",
            f"Observables of the jets of {best}",
            "Generated, tokenizer-only and reference jets, with the ratio to the reference below each panel. What the "
            "tokenizer-only jets already miss, no generator on these tokens can get right.",
            study.folder / "fidelity" / best / "observables.png",
        ),
    ]
