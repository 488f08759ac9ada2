"""Does a fitted law describe its own points, or do its constants only average over what it cannot follow?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.scaling.points import Points
from eval.scaling.result import FitResult

#: A law that misses its points by more than so many times what seeds scatter does not describe them.
SCATTERS = 2.0

#: Share of the spread of ln L that a law may always miss: seeds may agree better than any simple law.
LEAST_SHARE = 0.02


@dataclass(frozen=True)
class Misfit:
    """Residuals of a law beside the scatter of repeated runs.

    Attributes
    ----------
    rms : float
        Root mean square of ln(measured / fitted).
    seed_scatter : float or None
        Standard deviation of ln L over runs at equal variables of the law, pooled; None where none are repeated.
    spread : float
        Standard deviation of ln L over all points: what there is to describe.
    """

    rms: float
    seed_scatter: float | None
    spread: float

    @property
    def describes(self) -> bool | None:
        """Whether ``rms`` is within `SCATTERS` of the scatter, or `LEAST_SHARE` of the spread; None without seeds.

        Without them it is unknown: where the loss hardly changes, a law without N misses little, too.
        """
        if self.seed_scatter is None:
            return None
        return self.rms <= max(SCATTERS * self.seed_scatter, LEAST_SHARE * self.spread)

    def __str__(self) -> str:
        scatter = "" if self.seed_scatter is None else f", seeds scatter by {self.seed_scatter:.1%}"
        text = f"the law misses its points by {self.rms:.1%} (RMS of ln L){scatter}"
        if self.describes is None:
            return f"{text}; no run was repeated with another seed, so nothing says whether that is more than noise"
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
    return Misfit(rms, scatter, float(ln.std()))
