"""The results of a study in its folder: read when they are asked for, and computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from eval.common.results import Unavailable
from eval.fidelity.loss import LossFidelity, loss_vs_fidelity
from eval.fidelity.score import FidelityResult
from eval.scaling import ReferenceLevels, class_levels
from eval.scaling.points import Points, read_points
from genscale.config import load_config
from genscale.data.store import JetStore
from genscale.errors import InputError
from genscale.files import write_csv
from genscale.inference.prediction import load_predictions
from genscale.inference.stores import token_levels
from genscale.records import RunRecord, early_stopped_points, points
from genscale.study.cells import Cell, sample_name, splits_read, study_cells
from genscale.study.config import StudyConfig
from genscale.study.controls import CHANGES, recipe_corners
from genscale.study.jobs import Predict, Train
from genscale.study.power import load_power
from genscale.study.results.absence import attempt
from genscale.study.results.controls import RecipeDistance, RepetitionControl, compare
from genscale.study.results.laws import TaskLaws, fit_task
from genscale.study.results.repetition import Repetition, fit_repetition, inputs_name
from genscale.study.results.sizes import Size
from genscale.study.results.tagging import Physics, score_taggers
from genscale.worlds import make_world
from genscale.worlds.closure import Closure, Truth, close
from genscale.worlds.stores import held_out_floors

#: Tables of points in the folder of a study.
POINTS_FILE: Final = "points.csv"
REPETITION_POINTS: Final = "repetition.csv"

#: Tasks of a study: the kind of their runs, and what their loss is a mean over.
TASKS: Final = {"generation": "generator", "tagging": "tagger"}
UNIT: Final = {"generator": "token", "tagger": "jet"}

#: The floor of each kind of model in a world: generators of a study are not told the class.
FLOOR_OF: Final = {"generator": "generation_nats_per_token", "tagger": "tagging_nats"}


def read_config(folder: Path) -> StudyConfig:
    """Read the resolved configuration of a study from the folder of its results.

    Parameters
    ----------
    folder : Path
        Folder of the study.

    Returns
    -------
    StudyConfig

    Raises
    ------
    InputError
        The folder holds no study, or one that this version cannot read; the message names the file.
    """
    file = folder / "study.yaml"
    try:
        return load_config(StudyConfig, file)
    except InputError as error:
        raise error if str(file) in str(error) else InputError(f"{file}: {error}") from error


@dataclass(frozen=True, eq=False)
class Study:
    """The results of a study, or of what is done of it.

    Attributes
    ----------
    folder : Path
        Folder of the results.
    config : StudyConfig
        The study.
    """

    folder: Path
    config: StudyConfig

    @property
    def options(self) -> dict[str, Any]:
        """Settings that all fits share."""
        return {"bootstrap": self.config.fit.bootstrap, "seed": self.config.fit.seed}

    @cached_property
    def cells(self) -> list[Cell]:
        """All cells but that of the report."""
        return study_cells(self.config)

    @cached_property
    def done(self) -> list[Cell]:
        """The cells whose output is there."""
        return [cell for cell in self.cells if cell.done(self.folder)]

    @property
    def missing(self) -> list[Cell]:
        """The cells whose output is not there."""
        return [cell for cell in self.cells if cell not in self.done]

    @cached_property
    def records(self) -> dict[str, RunRecord]:
        """Run id to record of every finished training, in the order of the study."""
        trained = [cell.id for cell in self.done if isinstance(cell.job, Train)]
        return {run: RunRecord.load(self.folder / run) for run in trained}

    def runs(self, kind: str) -> dict[str, RunRecord]:
        """Single-pass runs of ``generator`` or ``tagger``, the smallest models first."""
        chosen = [(run, r) for run, r in self.records.items() if run.startswith(f"{kind}/")]
        return dict(sorted(chosen, key=lambda item: (item[1].parameters["total"], item[1].seed)))

    @cached_property
    def sizes(self) -> dict[str, list[Size]]:
        """Sizes of each task that has single-pass runs (``generation``, ``tagging``), the smallest models first."""
        found = {}
        for task, kind in TASKS.items():
            grouped: dict[str, dict[str, RunRecord]] = {}
            for run, record in self.runs(kind).items():
                grouped.setdefault(record.size, {})[run] = record
            if grouped:
                found[task] = [Size.of(runs) for runs in grouped.values()]
        return found

    @cached_property
    def points_file(self) -> Path:
        """``points.csv``, written anew from the records: one row per evaluation of every single-pass run."""
        single = [(run, r) for run, r in self.records.items() if run.startswith(("generator/", "tagger/"))]
        write_csv(self.folder / POINTS_FILE, points(single))
        return self.folder / POINTS_FILE

    def points(self, kind: str) -> Points:
        """Points of ``generator`` or ``tagger`` with at least ``fit.min_jets`` jets seen."""
        # Messages end in the report: they name the file, not where this study happens to lie.
        everything = replace(read_points(self.points_file, where={"task": kind}), source=POINTS_FILE)
        jets = everything.variable("D")
        return everything.select(jets >= min(self.config.fit.min_jets, jets.max()))

    def jets(self, split: str) -> JetStore:
        """The jets of a split, unverified: training has read them all."""
        return JetStore.open(self._jets / split, verify=False)

    @cached_property
    def splits(self) -> list[str]:
        """Splits of the jets that the study reads, as far as they are there."""
        return [split for split in splits_read(self.config, self.cells) if (self._jets / split).is_dir()]

    @property
    def _jets(self) -> Path:
        return self.folder / self.config.jets.folder

    @property
    def _tokens(self) -> Path:
        return self.folder / self.config.tokens

    @cached_property
    def laws(self) -> dict[str, TaskLaws]:
        """Laws of each task with single-pass runs: ``generation``, ``tagging``, or both."""
        levels: dict[str, Callable[[], ReferenceLevels | Mapping[str, float]]] = {
            "generator": lambda: token_levels(self._tokens),
            "tagger": lambda: class_levels(
                [int(n) for n in np.bincount(self.jets("validation").labels()) if n]
            ),
        }
        return {
            task: fit_task(TASKS[task], self.points(TASKS[task]), levels[TASKS[task]], self.options)
            for task in self.sizes
        }

    @cached_property
    def power(self) -> dict[str, float]:
        """Power of the study by claim, as far as it was computed for its design."""
        return load_power(self.folder, self.config)

    @cached_property
    def closures(self) -> dict[str, Closure | Unavailable]:
        """Fits beside what is true in the study's world, by task; empty for jets that are of no world."""
        if not self.config.jets.world:
            return {}
        world = make_world(self.config.jets.world, self.config.jets.parameters)

        def measured(kind: str) -> Closure:
            held_out = self.config.grids[kind].training.validation_jets
            floors = held_out_floors(world, self._tokens / "validation", held_out)
            truth = Truth(floors[FLOOR_OF[kind]], 0.0, **world.exponents())
            return close(self.points(kind), truth, seed=self.config.fit.seed)

        what = "not compared with the truth"
        return {task: attempt(what, partial(measured, TASKS[task])) for task in self.sizes}

    @cached_property
    def controls(self) -> dict[str, RepetitionControl]:
        """Repeated jets beside fresh ones, by task; those of which both were trained."""
        found = {}
        for task, kind in TASKS.items():
            name = self.config.controlled.get(kind)
            seeds = self.config.grids[kind].seeds_for(name) if name else []
            pairs = [(f"{kind}/{name}-s{seed}", f"control/{kind}/{name}-s{seed}") for seed in seeds]
            trained = [(self.records[a], self.records[b]) for a, b in pairs if {a, b} <= self.records.keys()]
            if trained:
                fresh, repeated = zip(*trained, strict=True)
                found[task] = compare(str(name), fresh, repeated, self.sizes[task])
        return found

    @cached_property
    def recipes(self) -> list[RecipeDistance]:
        """Distance of the recipe from the best at every corner at which all other recipes were trained."""
        found = []
        for corner in recipe_corners(self.config):
            others = {change: corner.cell(change) for change in CHANGES}
            if not {corner.grid_run, *others.values()} <= self.records.keys():
                continue
            jets = corner.training.jets
            passed = min(self.records[corner.grid_run].evaluations, key=lambda e: abs(e.jets_seen - jets))
            losses = {change: self.records[cell].final.metrics["loss"] for change, cell in others.items()}
            found.append(RecipeDistance(corner.task, corner.name, jets, passed.metrics["loss"], losses))
        return found

    @cached_property
    def samples(self) -> dict[tuple[str, int | None], FidelityResult]:
        """Scores of samples by generator run and jets seen (None: at the end of the run), in the order of the study."""
        found = {}
        for run in (run for run in self.records if run.startswith("generator/")):
            for jets in (*self.config.samples.at, None):
                file = self.folder / "fidelity" / sample_name(run, jets) / "fidelity.json"
                if file.exists():
                    found[run, jets] = FidelityResult.from_json(file.read_text(), str(file))
        return found

    @property
    def scores(self) -> dict[str, FidelityResult]:
        """Generator run id to the score of its samples at the end of the run, in the order of the study."""
        return {run: score for (run, jets), score in self.samples.items() if jets is None}

    @cached_property
    def loss_fidelity(self) -> LossFidelity | Unavailable:
        """Relation between the held-out loss and the joint distance; seeds of one size count as one model."""
        sizes = [self.records[run].size for run in self.scores]
        if len(set(sizes)) < 3:
            return Unavailable(f"{len(set(sizes))} scored models; ranking needs at least three")
        joint = [score.joint for score in self.scores.values()]
        return loss_vs_fidelity(
            [self.records[run].final.metrics["loss"] for run in self.scores],
            [j.value for j in joint],
            [j.distance.error_generated for j in joint],  # reference and directions are common to all models
            float(np.mean([j.floor.mean for j in joint])),
            float(np.mean([j.floor.spread for j in joint])),
            models=sizes,  # losses on the same held-out jets have no errors relative to each other
        )

    @cached_property
    def tagging(self) -> Physics | None:
        """What the taggers are worth on the test jets; None for a study without predictions."""
        found = {
            cell.id.replace("predictions/", "tagger/"): load_predictions(
                self.folder / cell.id / cell.job.done_file
            )
            for cell in self.done
            if isinstance(cell.job, Predict)
        }
        if not found or "tagging" not in self.laws:
            return None
        widest = f"tagger/d{max(self.config.tagger.widths)}-"
        largest = next((run for run in found if run.startswith(widest) and run in self.records), "")
        laws = self.laws["tagging"]
        most_jets = float(laws.points.variable("D").max())
        return score_taggers(found, largest, laws.surface, most_jets, self.options)

    @cached_property
    def repetitions(self) -> dict[str, Repetition]:
        """Laws of repeated data of each task that repeats data; their points are written to ``repetition.csv``."""
        records = {run: r for run, r in self.records.items() if run.startswith(("repetition/", "inputs/"))}
        if not records:
            return {}
        write_csv(self.folder / REPETITION_POINTS, early_stopped_points(records.items()))
        found = {}
        for task, kind in TASKS.items():
            runs = [run for run, record in records.items() if record.task == kind]
            names = self._inputs if task == "tagging" else {"repetition": "tokens"}
            if not any(run.startswith("repetition/") for run in runs) or task not in self.laws:
                continue
            table = replace(
                read_points(self.folder / REPETITION_POINTS, where={"task": kind}), source=REPETITION_POINTS
            )
            columns = [run.rsplit("/", 1)[0] for run in runs]
            points = {
                name: table.select([c == column for c in columns])
                for column, name in names.items()
                if column in columns
            }
            evaluations = [records[run].evaluations for run in runs if run.startswith("repetition/")]
            curves = [([e.metrics["loss"] for e in run], [e.step for e in run]) for run in evaluations]
            width = self.config.inputs.width if task == "tagging" else 0
            single = self.laws[task].surface
            compared = f"d{width}" if width else ""
            found[task] = fit_repetition(points, names["repetition"], curves, single, self.options, compared)
        return found

    @property
    def _inputs(self) -> dict[str, str]:
        """Folder of early-stopped taggers to what they see."""
        tagger, inputs = self.config.tagger, self.config.inputs
        names = {"repetition": inputs_name(tagger.features, tagger.max_particles)}
        for key, other in inputs.others.items() if inputs.width else ():
            names[f"inputs/{key}"] = inputs_name(other.features, other.max_particles)
        return names
