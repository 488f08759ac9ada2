"""Trainings that show what limits the losses of a grid: on repeated jets, and with other recipes at its corners."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from genscale.models.ladder import learning_rate, tagger_learning_rate
from genscale.study.config import CONTROL_EPOCHS, Grid, StudyConfig
from genscale.training.task import TrainingConfig

#: Changes of the recipe at the corners of a grid: key of the training, and factor on its value.
CHANGES: Final = {
    "half-batch": ("batch_jets", 0.5),
    "twice-batch": ("batch_jets", 2.0),
    "half-rate": ("learning_rate", 0.5),
    "twice-rate": ("learning_rate", 2.0),
}


def repeated_trainings(grid: Grid, name: str) -> Iterator[TrainingConfig]:
    """Trainings of a size like those of its grid, one per seed, on a quarter of the jets seen four times.

    They are evaluated at their end only, which does not change them.
    """
    for seed in grid.seeds_for(name):
        training = grid.trained(name)
        unique = training.jets // CONTROL_EPOCHS
        yield replace(training, seed=seed, jets_unique=unique, evaluations=1, keep_weights_at=[])


@dataclass(frozen=True)
class Corner:
    """One corner of a grid: one of its sizes at the least or the most of its jets that are fitted.

    Attributes
    ----------
    task : "generator" or "tagger"
    name : str
        Of the size.
    training : TrainingConfig
        A run of its own to these jets, evaluated at their end only, with the recipe of the grid.
    """

    task: str
    name: str
    training: TrainingConfig

    @property
    def grid_run(self) -> str:
        """The run of the grid with the same size and seed, which has a held-out loss at this number of jets."""
        return f"{self.task}/{self.name}-s{self.training.seed}"

    def cell(self, change: str) -> str:
        """Id of the run with a change of `CHANGES`."""
        return f"control/{self.task}/{self.name}-d{self.training.jets}-{change}"

    def changed(self, change: str) -> TrainingConfig:
        """The training with a change of `CHANGES`."""
        key, factor = CHANGES[change]
        if key == "batch_jets":
            return replace(self.training, batch_jets=max(1, int(self.training.batch_jets * factor)))
        return replace(self.training, learning_rate=self.training.learning_rate * factor)


def recipe_corners(config: StudyConfig) -> list[Corner]:
    """Corners of all grids of a study at which other recipes are tried."""
    corners = []
    for task, grid in config.grids.items():
        for name in config.control.corners(grid.names):
            training = replace(grid.trained(name), seed=grid.seeds_for(name)[0], keep_weights_at=[])
            if training.learning_rate == 0:
                rate = learning_rate(name) if task == "generator" else tagger_learning_rate(int(name[1:]))
                training = replace(training, learning_rate=rate)
            fitted = [jets for jets in training.evaluated_at if jets >= config.fit.min_jets]
            for jets in dict.fromkeys((fitted[0], fitted[-1]) if fitted else training.evaluated_at[-1:]):
                corners.append(Corner(task, name, replace(training, jets=jets, evaluations=1)))
    return corners
