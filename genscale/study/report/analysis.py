"""From the runs of a study to its laws: points, fits, learnable windows, loss against fidelity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from eval.errors import InputError as EvalInputError
from eval.fidelity.loss import LossFidelity, loss_vs_fidelity
from eval.fidelity.score import FidelityResult
from eval.scaling import (
    FitResult,
    Misfit,
    Points,
    WindowResult,
    class_levels,
    compare_laws,
    entropies,
    fit,
    misfit,
    read_points,
    window,
)
from eval.scaling.selection import Ranking, Variant, sensitivity
from eval.scaling.side_by_side import Comparison, compare_approaches
from genscale.data.store import JetStore, TokenStore
from genscale.files import write_csv
from genscale.records import RECORD_FILE, RunRecord, points
from genscale.study.cells import study_cells
from genscale.study.config import StudyConfig

POINTS_FILE = "points.csv"

#: Folders of the runs that see no jet twice.
SINGLE_EPOCH = ("generator/", "tagger/")

#: Reference level that both tasks have: the entropy of a uniform choice, ln V or ln(classes).
COMMON_LEVEL = "uniform"


@dataclass(frozen=True)
class TaskLaws:
    """Laws of one task.

    Attributes
    ----------
    points : Points
        Within the fit window (at least ``min_jets`` jets seen).
    laws : dict
        ``L(N,D)``, ``L(N)`` at the largest D, ``L(D)`` at the largest N that saw it, each with its points, or
        the reason why there is none.
    comparison : Comparison or str
        Approaches 1, 2 and 3 side by side.
    window : WindowResult or str
    ranking : Ranking or str
        Laws of N and D by how well they predict the largest runs from the smaller ones.
    misfit : Misfit or None
        How well L(N, D) describes its points.
    """

    task: str
    points: Points
    laws: dict[str, tuple[Points, FitResult] | str]
    comparison: Comparison | str
    window: WindowResult | str
    ranking: Ranking | str
    misfit: Misfit | None = None

    @property
    def surface(self) -> FitResult | None:
        """The fitted L(N, D), if there is one."""
        found = self.laws["L(N,D)"]
        return None if isinstance(found, str) else found[1]

    def to_dict(self) -> dict[str, Any]:
        """Plain form for JSON; a text stands where something could not be done."""
        return {
            "laws": {
                name: law if isinstance(law, str) else law[1].to_dict() for name, law in self.laws.items()
            },
            "approaches": self.comparison if isinstance(self.comparison, str) else self.comparison.to_dict(),
            "window": self.window if isinstance(self.window, str) else self.window.to_dict(),
            "ranking": self.ranking if isinstance(self.ranking, str) else self.ranking.to_dict(),
            "misfit": None if self.misfit is None else asdict(self.misfit),
        }


@dataclass(frozen=True)
class Analysis:
    """Everything that the report says of single-epoch runs; a study may have one of the two tasks only.

    Attributes
    ----------
    records : dict
        Run id to its record, generators and taggers.
    tasks : dict
        ``generation`` and ``tagging``, those that the study has, to their laws.
    fidelity : dict
        Generator run id to the score of its samples.
    loss_fidelity : LossFidelity or str
    """

    records: Mapping[str, RunRecord]
    tasks: Mapping[str, TaskLaws]
    fidelity: Mapping[str, FidelityResult]
    loss_fidelity: LossFidelity | str

    def runs(self, task: str) -> list[tuple[str, RunRecord]]:
        """Runs of ``generator`` or ``tagger``, the smallest models first."""
        chosen = [(run, r) for run, r in self.records.items() if r.task == task]
        return sorted(chosen, key=lambda item: (item[1].parameters["total"], item[1].seed))


def analyse(folder: Path, config: StudyConfig) -> Analysis:
    """Read the finished single-epoch runs of a study, write ``points.csv`` and fit everything.

    Parameters
    ----------
    folder : Path
        The study's folder, with all cells but the report done.
    """
    records = {
        cell.id: RunRecord.load(folder / cell.id)
        for cell in study_cells(config)
        if cell.id.startswith(SINGLE_EPOCH) and (folder / cell.id / RECORD_FILE).exists()
    }
    if records:
        write_csv(folder / POINTS_FILE, points(records.items()))
    tasks = {}
    if config.generator.sizes:
        tokens = folder / (config.tokenizer.tokens or "tokens")
        levels = _token_levels(TokenStore.open(tokens / "validation", verify=False))
        tasks["generation"] = _laws(folder, "generator", levels, config)
    if config.tagger.widths:
        labels = JetStore.open(jet_folder(folder, config) / "validation", verify=False).labels()
        levels = class_levels([int(n) for n in np.bincount(labels) if n])
        tasks["tagging"] = _laws(folder, "tagger", levels, config)
    scores = {
        run: FidelityResult.from_json(path.read_text(), str(path))
        for run in records
        if (path := folder / "fidelity" / run.split("/")[-1] / "fidelity.json").exists()
    }
    return Analysis(records, tasks, scores, _loss_fidelity(records, scores))


def found_windows(tasks: Mapping[str, TaskLaws]) -> dict[str, WindowResult]:
    """Windows of the tasks that have one."""
    return {name: task.window for name, task in tasks.items() if not isinstance(task.window, str)}


def jet_folder(folder: Path, config: StudyConfig) -> Path:
    """Where the study's jet stores lie."""
    return folder / (config.jets.stores or "jets")


def _token_levels(tokens: TokenStore) -> Any:
    sequences = tokens.read(columns=["tokens"])["tokens"].layout
    offsets = sequences.offsets.data.astype(np.int64)
    flat = sequences.content.data[offsets[0] : offsets[-1]]
    vocabulary = int(tokens.manifest.meta["vocabulary_size"])
    return entropies(flat, offsets - offsets[0], vocabulary, start_token=0)


def _laws(folder: Path, task: str, levels: Any, config: StudyConfig) -> TaskLaws:
    options: dict[str, Any] = {"bootstrap": config.fit.bootstrap, "seed": config.fit.seed}
    everything = read_points(folder / POINTS_FILE, where={"task": task})
    # Messages end in the report: they name the file, not where this study happens to lie.
    everything = replace(everything, source=POINTS_FILE)
    n, d = everything.variable("N"), everything.variable("D")
    chosen = everything.select(d >= min(config.fit.min_jets, d.max()))
    n, d = chosen.variable("N"), chosen.variable("D")

    def attempt(select: np.ndarray, law: str, variable: str | None) -> tuple[Points, FitResult] | str:
        part = chosen.select(select)
        try:
            return part, fit(part, law, variable=variable, **options)
        except EvalInputError as error:
            return f"not fitted: {error}"

    laws = {
        "L(N,D)": attempt(np.ones(len(chosen), dtype=bool), "additive", None),
        "L(N)": attempt(d == d.max(), "power", "N"),
        "L(D)": attempt(n == n[d == d.max()].max(), "power", "D"),
    }
    surface = laws["L(N,D)"]
    if isinstance(surface, str):
        return TaskLaws(task, chosen, laws, surface, surface, surface)
    comparison = compare_approaches(chosen, surface[1], **options)
    try:
        variants: list[Variant] = sensitivity(chosen, "additive", **options)
        found: WindowResult | str = window(levels, surface[1], variants=variants)
    except EvalInputError as error:
        found = f"no window: {error}"
    try:
        ranking: Ranking | str = compare_laws(chosen, seed=config.fit.seed)
    except EvalInputError as error:
        ranking = f"laws not compared: {error}"
    return TaskLaws(task, chosen, laws, comparison, found, ranking, misfit(*surface))


def _loss_fidelity(
    records: Mapping[str, RunRecord], scores: Mapping[str, FidelityResult]
) -> LossFidelity | str:
    runs = list(scores)
    sizes = [records[run].size for run in runs]  # seeds of one size are one model
    if len(set(sizes)) < 3:
        return f"{len(set(sizes))} scored models: three are the least that can be ranked"
    joint = [scores[run].joint for run in runs]
    metrics = [records[run].final.metrics for run in runs]
    return loss_vs_fidelity(
        [m["loss"] for m in metrics],
        [j.value for j in joint],
        [j.distance.error_jets for j in joint],  # directions are common to all models
        float(np.mean([j.floor.mean for j in joint])),
        float(np.mean([j.floor.spread for j in joint])),
        [m["loss_error"] for m in metrics],
        models=sizes,
    )
