"""Controls of a study: repeated jets beside fresh ones, and how far its recipe lies from the best at the corners."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, Final

import numpy as np
from scipy.stats import norm, t

from genscale.pages import Section, Table
from genscale.records import RunRecord
from genscale.study.config import CONTROL_EPOCHS
from genscale.study.controls import CHANGES, Corner, recipe_corners, repeated_trainings
from genscale.study.report.study import TASKS, UNIT, Size, Study, once

CONTROL_FILE: Final = "control.json"


class Limit(StrEnum):
    """What limits the losses of a grid."""

    TRAINING = "training"
    DATA = "data"
    UNKNOWN = "cannot tell"


@dataclass(frozen=True)
class RepetitionControl:
    """Losses of one size on D/4 unique jets seen four times, beside those of the grid's own runs on D fresh jets.

    Attributes
    ----------
    size : str
        Size of the runs.
    jets : int
        Number of jets D seen by all runs.
    unique : int
        Number of different jets in the repeated runs.
    fresh : sequence of float
        Held-out losses at D of the runs on fresh jets, by seed.
    repeated : sequence of float
        Held-out losses at D of the runs on repeated jets, by seed.
    before : sequence of float
        Losses of the runs on fresh jets when they had seen as many as ``unique``, interpolated in ln D.
    scatter : float
        Standard deviation of the difference of one pair, from the pairs and the seeds of all sizes of the grid, pooled.
        Without a second seed anywhere: the errors of the held-out jets, as if both runs had others.
    degrees : int
        Degrees of freedom of ``scatter``; 0 without a second seed anywhere.
    """

    size: str
    jets: int
    unique: int
    fresh: Sequence[float]
    repeated: Sequence[float]
    before: Sequence[float]
    scatter: float
    degrees: int

    @cached_property
    def difference(self) -> float:
        """Loss on repeated jets minus loss on fresh ones, mean over seeds."""
        return float(np.mean(self.repeated) - np.mean(self.fresh))

    @property
    def error(self) -> float:
        """Standard error of the difference."""
        return self.scatter / len(self.fresh) ** 0.5

    @property
    def margin(self) -> float:
        """Half the width of the 95 % interval of the difference."""
        return float((t.ppf(0.975, self.degrees) if self.degrees else norm.ppf(0.975)) * self.error)

    @property
    def gain(self) -> float:
        """Fall of the loss on fresh jets from D/4 to D."""
        return float(np.mean(self.before) - np.mean(self.fresh))

    @property
    def limit(self) -> Limit:
        """What limits the loss: training, if repeated jets do as well and a lack of half the gain would have shown."""
        if self.difference > self.margin:
            return Limit.DATA
        resolved = self.margin < self.gain / 2
        return Limit.TRAINING if resolved else Limit.UNKNOWN

    def sentence(self, task: str) -> str:
        """What was found, with its numbers."""
        measured = (
            f"{self.size} on {self.unique:,} jets seen {CONTROL_EPOCHS} times against {self.jets:,} fresh ones: "
            f"{self.difference:+.4f} ± {self.error:.4f} nats, where the fresh jets beyond {self.unique:,} gain "
            f"{self.gain:.4f}"
        )
        name = task.capitalize()
        if self.limit is Limit.TRAINING:
            return (
                f"{name} is limited by training, not by data ({measured}). What a single pass over more jets gives is "
                "a law of training here, not one of data."
            )
        if self.limit is Limit.DATA:
            share = 100 * self.difference / self.gain if self.gain > 0 else float("inf")
            part = (
                f"about {share:.0f} % of the gain needs new jets"
                if share < 100
                else "the gain needs new jets"
            )
            return f"{name} is limited by data: {part} ({measured})."
        return f"{name}: whether data or training limit the loss cannot be told ({measured})."

    def to_dict(self) -> dict[str, Any]:
        """Plain form for JSON."""
        names = ("size", "jets", "unique", "difference", "error", "margin", "degrees", "gain")
        losses = {name: list(getattr(self, name)) for name in ("fresh", "repeated", "before")}
        return {"limit": str(self.limit)} | {name: getattr(self, name) for name in names} | losses


@dataclass(frozen=True)
class RecipeDistance:
    """Losses at one corner of a grid with its recipe and with others.

    Attributes
    ----------
    task : str
        "generator" or "tagger".
    size : str
        Size of the runs.
    jets : int
        Number of jets seen.
    loss : float
        Loss with the recipe of the grid.
    others : mapping of str to float
        Losses with half and twice the batch and the rate, by the names of `CHANGES`.
    """

    task: str
    size: str
    jets: int
    loss: float
    others: Mapping[str, float]

    @property
    def best(self) -> str:
        """Change that has the lowest loss; empty for the recipe of the grid."""
        change = min(self.others, key=self.others.__getitem__)
        return change if self.others[change] < self.loss else ""

    @property
    def distance(self) -> float:
        """By how much the loss lies above the best, relative to it."""
        return self.loss / min(self.loss, *self.others.values()) - 1

    def to_dict(self) -> dict[str, Any]:
        """Plain form for JSON."""
        names = ("task", "size", "jets", "loss", "best", "distance")
        return {name: getattr(self, name) for name in names} | {"others": dict(self.others)}


@once
def repetition_controls(study: Study) -> dict[str, RepetitionControl]:
    """Repeated jets beside fresh ones, by task: ``generation`` and ``tagging``, those that have the control."""
    found = {}
    for task, kind in TASKS.items():
        name = study.config.controlled.get(kind)
        if name is None:
            continue
        seeds = [training.seed for training in repeated_trainings(study.config.grids[kind], name)]
        fresh = [study.records[f"{kind}/{name}-s{seed}"] for seed in seeds]
        repeated = [RunRecord.load(study.folder / f"control/{kind}/{name}-s{seed}") for seed in seeds]
        found[task] = compare(name, fresh, repeated, study.sizes(kind))
    return found


def compare(
    name: str, fresh: Sequence[RunRecord], repeated: Sequence[RunRecord], grid: Sequence[Size]
) -> RepetitionControl:
    """Compare runs on fresh jets with those on repeated jets, seed by seed; the grid tells how far seeds scatter."""
    unique = repeated[0].jets_unique
    losses = [[run.final.metrics["loss"] for run in runs] for runs in (fresh, repeated)]
    before = [
        np.interp(
            np.log(unique),
            np.log([e.jets_seen for e in run.evaluations]),
            [e.metrics["loss"] for e in run.evaluations],
        )
        for run in fresh
    ]
    pairs = np.subtract(losses[1], losses[0])
    squares, degrees = float(((pairs - pairs.mean()) ** 2).sum()), len(pairs) - 1
    for size in grid:
        if size.spread is not None:
            squares += 2 * (len(size.runs) - 1) * size.spread**2  # two runs differ
            degrees += len(size.runs) - 1
    if degrees:
        scatter = (squares / degrees) ** 0.5
    else:
        scatter = math.hypot(*(run.final.metrics["loss_error"] for run in (fresh[0], repeated[0])))
    return RepetitionControl(
        name, fresh[0].jets_seen, unique, losses[0], losses[1], [float(b) for b in before], scatter, degrees
    )


@once
def recipe_distances(study: Study) -> list[RecipeDistance]:
    """Distance of the recipe from the best at every corner; none where other recipes were not tried."""
    return [_distance(study, corner) for corner in recipe_corners(study.config)]


def _distance(study: Study, corner: Corner) -> RecipeDistance:
    jets = corner.training.jets
    passed = min(study.records[corner.grid_run].evaluations, key=lambda e: abs(e.jets_seen - jets))
    others = {
        change: RunRecord.load(study.folder / corner.cell(change)).final.metrics["loss"] for change in CHANGES
    }
    return RecipeDistance(corner.task, corner.name, jets, passed.metrics["loss"], others)


def section(study: Study) -> Section | None:
    """What limits the losses of the grids; None for a study without controls."""
    repeats, recipes = repetition_controls(study), recipe_distances(study)
    if not repeats and not recipes:
        return None
    tables = [_repeats(repeats)] if repeats else []
    tables += [_recipes(recipes)] if recipes else []
    return Section(
        "Controls",
        found=[
            *(control.sentence(task) for task, control in repeats.items()),
            *_recipe_sentences(recipes),
        ],
        cautions=[
            f"{task.capitalize()}: no size has a second seed, so the error of the repetition control knows only the "
            "held-out jets, and not by how much runs scatter."
            for task, control in repeats.items()
            if not control.degrees
        ],
        tables=tables,
        data={
            CONTROL_FILE: {"repetition": {TASKS[task]: c for task, c in repeats.items()}, "recipe": recipes}
        },
    )


def _recipe_sentences(recipes: Sequence[RecipeDistance]) -> list[str]:
    lines = []
    for kind in dict.fromkeys(r.task for r in recipes):
        worst = max((r for r in recipes if r.task == kind), key=lambda r: r.distance)
        better = f", where {worst.best.replace('-', ' the ')} is best" if worst.best else ""
        lines.append(
            f"At the corners of the {kind} grid its recipe lies at most {100 * worst.distance:.2f} % above the best of "
            f"half and twice the batch and the rate ({worst.size} at {worst.jets:,} jets{better})."
        )
    return lines


def _repeats(repeats: Mapping[str, RepetitionControl]) -> Table:
    return Table.of(
        "Repeated jets beside fresh ones",
        "One size on a quarter of the jets, each seen four times, beside the grid's own runs on fresh jets, with equal "
        "steps, recipe and seeds. The gain is what the fresh jets beyond the first quarter bring. Losses are in nats "
        "per token (generation) or per jet (tagging); the error of the difference is that of seeds.",
        repeats.items(),
        [
            ("task", lambda item: item[0]),
            ("size", lambda item: item[1].size),
            ("unique jets", lambda item: f"{item[1].unique:,}"),
            ("jets seen", lambda item: f"{item[1].jets:,}"),
            ("seeds", lambda item: str(len(item[1].fresh))),
            ("loss on repeated jets", lambda item: f"{np.mean(item[1].repeated):.4f}"),
            ("on fresh jets", lambda item: f"{np.mean(item[1].fresh):.4f}"),
            ("difference", lambda item: f"{item[1].difference:+.4f} ± {item[1].error:.4f}"),
            ("gain", lambda item: f"{item[1].gain:.4f}"),
            ("limited by", lambda item: str(item[1].limit)),
        ],
    )


def _recipes(recipes: Sequence[RecipeDistance]) -> Table:
    return Table.of(
        "Other recipes at the corners of the grid",
        f"Held-out losses with half and twice the batch and the learning rate of the grid, one seed each, in nats per "
        f"{UNIT['generator']} (generator) or {UNIT['tagger']} (tagger). Differences within the scatter of seeds mean "
        "nothing.",
        recipes,
        [
            ("task", lambda r: r.task),
            ("size", lambda r: r.size),
            ("jets", lambda r: f"{r.jets:,}"),
            ("recipe of the grid", lambda r: f"{r.loss:.4f}"),
            *((change.replace("-", " "), lambda r, c=change: f"{r.others[c]:.4f}") for change in CHANGES),
            ("above the best", lambda r: f"{100 * r.distance:.2f} %"),
        ],
    )
