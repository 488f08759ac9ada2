"""Model sizes of a study: what all seeds of one size came to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from genscale.records import RunRecord


class Curve(NamedTuple):
    """A learning curve: the mean loss over seeds at numbers of jets that all of them have seen.

    Attributes
    ----------
    jets : array of int, shape (n,)
        Jets seen.
    loss : array of float, shape (n,)
        Held-out loss, mean over seeds.
    band : array of float, shape (n,)
        Standard deviation over seeds; with one seed, the statistical error of the held-out loss.
    """

    jets: NDArray[np.int64]
    loss: NDArray[np.float64]
    band: NDArray[np.float64]


@dataclass(frozen=True)
class Size:
    """All seeds of one model size, with their held-out losses at the end of training.

    Attributes
    ----------
    name : str
        Rung of the ladder, or ``d<width>``.
    kind : str
        ``generator`` or ``tagger``.
    runs : tuple of str
        Run ids, one per seed.
    parameters : int
        Number of parameters.
    jets_seen : int
        Jets that each run has seen.
    flops : float
        FLOPs of one run.
    losses : tuple of float
        Held-out loss of every seed.
    loss_errors : tuple of float
        Statistical error of each of them.
    curve : Curve
        The learning curve.
    """

    name: str
    kind: str
    runs: tuple[str, ...]
    parameters: int
    jets_seen: int
    flops: float
    losses: tuple[float, ...]
    loss_errors: tuple[float, ...]
    curve: Curve

    @classmethod
    def of(cls, runs: Mapping[str, RunRecord]) -> Size:
        """Summarise the records of all seeds of one size, by run id."""
        first = next(iter(runs.values()))
        final = [record.final.metrics for record in runs.values()]
        steps = [{e.jets_seen: e.metrics for e in record.evaluations} for record in runs.values()]
        jets = sorted(set.intersection(*map(set, steps)))
        loss, error = (
            np.array([[run[d][key] for d in jets] for run in steps]) for key in ("loss", "loss_error")
        )
        curve = Curve(
            np.array(jets), loss.mean(axis=0), loss.std(axis=0, ddof=1) if len(steps) > 1 else error[0]
        )
        return cls(
            first.size, first.task, tuple(runs), first.parameters["total"], first.jets_seen, first.flops,
            tuple(m["loss"] for m in final), tuple(m["loss_error"] for m in final), curve,
        )  # fmt: skip

    def mean(self, value: Callable[[str], float]) -> tuple[float, float | None]:
        """Mean over seeds of a function of the run id, and its standard deviation; None with one seed."""
        return mean_and_spread([value(run) for run in self.runs])

    @property
    def loss(self) -> float:
        """Mean held-out loss."""
        return mean_and_spread(self.losses)[0]

    @property
    def spread(self) -> float | None:
        """Standard deviation of the held-out loss over seeds; None with one seed."""
        return mean_and_spread(self.losses)[1]

    @property
    def error(self) -> float:
        """Standard error of the mean loss: that of the held-out jets, which all seeds share, and that of the seeds."""
        held_out = mean_and_spread(self.loss_errors)[0]
        return float(np.hypot(held_out, (self.spread or 0.0) / np.sqrt(len(self.runs))))

    @property
    def text(self) -> str:
        """The mean loss with its error."""
        return f"{self.loss:.4f} ± {self.error:.4f}"


def mean_and_spread(values: list[float] | tuple[float, ...]) -> tuple[float, float | None]:
    """Mean and standard deviation of a value over seeds; None with one seed."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None
