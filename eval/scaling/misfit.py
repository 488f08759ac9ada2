"""Does a fitted law describe its own points, or do its constants only average over what it cannot follow?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.scaling.points import Points
from eval.scaling.result import FitResult

#: A law that misses its points by more than so many times what seeds scatter does not describe them.
SCATTERS = 2.0

#: The same without repeated seeds: root mean square of ln L.
WITHOUT_SEEDS = 0.05


@dataclass(frozen=True)
class Misfit:
    """Residuals of a law beside the scatter of repeated runs.

    Attributes
    ----------
    rms : float
        Root mean square of ln(measured / fitted).
    seed_scatter : float or None
        Standard deviation of ln L over runs at equal variables of the law, pooled; None where none are repeated.
    describes : bool
        Whether ``rms`` is within `SCATTERS` of the scatter, or within `WITHOUT_SEEDS`.
    """

    rms: float
    seed_scatter: float | None

    @property
    def describes(self) -> bool:
        """Whether the law describes its points."""
        limit = WITHOUT_SEEDS if self.seed_scatter is None else SCATTERS * self.seed_scatter
        return self.rms <= limit

    def __str__(self) -> str:
        scatter = "" if self.seed_scatter is None else f", seeds scatter by {self.seed_scatter:.1%}"
        text = f"the law misses its points by {self.rms:.1%} (RMS of ln L){scatter}"
        if self.describes:
            return text
        return f"{text}; it does not describe them, and its constants depend on the window of the fit"


def misfit(points: Points, result: FitResult) -> Misfit:
    """Compare a law with the points that it was fitted to.

    Its intervals come from resampling and know nothing of this: a wrong law has constants, too, and they depend on
    the window of the fit.

    Parameters
    ----------
    points : Points
        Those of the fit.
    result : FitResult
    """
    rms = float(np.sqrt(np.mean(np.log(points.L / result.at(points)) ** 2)))
    variables = np.stack([points.variable(name) for name in result.law.variables])
    _, place, count = np.unique(variables, axis=1, return_inverse=True, return_counts=True)
    place = place.ravel()
    ln = np.log(points.L)
    deviation = ln - (np.bincount(place, ln) / count)[place]
    spare = len(ln) - len(count)
    scatter = float(np.sqrt(np.sum(deviation**2) / spare)) if spare else None
    return Misfit(rms, scatter)
