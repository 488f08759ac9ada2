"""Controls of a study: repeated jets beside fresh ones, and how far its recipe lies from the best at the corners."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
from scipy.stats import norm, t

from genscale.records import RunRecord
from genscale.study.results.sizes import Size


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
