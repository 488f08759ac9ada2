"""How well a grid could determine the published exponents at best: a bound that needs no simulation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from eval.literature.design import Design, Noise
from eval.literature.values import published
from eval.literature.worlds import World, tagging_law
from eval.scaling.laws.registry import get_law

FloatArray = NDArray[np.float64]

#: Margins of the claims about the exponents of a single pass of taggers.
MARGINS: Mapping[str, float] = {"alpha": 0.11, "beta": 0.055, "a": 0.1}


@dataclass(frozen=True)
class Bound:
    """What an ideal fit knows about an exponent.

    Attributes
    ----------
    key : str
    half_width : float
        Half of the shortest 95 % interval that an unbiased fit can have (Cramer and Rao).
    margin : float
    power : float
        Largest probability to support the published exponent where it is true.
    """

    key: str
    half_width: float
    margin: float
    power: float


def ideal_bounds(design: Design, noise: Noise) -> list[Bound]:
    """Bounds on alpha, beta and a from the runs of taggers, in the world of the published law.

    The Fisher information of E, A, alpha, B and beta for losses whose deviations are Gaussian in ln L, independent
    between runs and correlated along them as ``noise`` says. Real fits do worse: they do not know the correlation, and
    their intervals hold the choice of window, objective and definition of N as well.
    """
    true = tagging_law(design, World())
    law = get_law("additive")
    values = {"E": true.floor, "A": true.a, "alpha": true.alpha, "B": true.b, "beta": true.beta}
    information = np.zeros((5, 5))
    for run in design.tagging:
        n = np.full(len(run.jets), run.size)
        slopes = law.gradient(values, N=n, D=run.jets) / law.predict(values, N=n, D=run.jets)
        information += slopes @ np.linalg.solve(noise.covariance(run.jets), slopes.T)
    scale = 1 / np.sqrt(np.diag(information))
    covariance = np.linalg.pinv(information * np.outer(scale, scale)) * np.outer(scale, scale)
    names = list(law.names)
    total = true.alpha + true.beta
    towards = {name: np.eye(5)[names.index(name)] for name in ("alpha", "beta")}
    towards["a"] = (true.alpha * towards["beta"] - true.beta * towards["alpha"]) / total**2
    return [_bound(key, towards[key], covariance) for key in MARGINS]


def _bound(key: str, direction: FloatArray, covariance: FloatArray) -> Bound:
    error = float(np.sqrt(direction @ covariance @ direction))
    theirs = published(key)
    assert theirs.low is not None
    assert theirs.high is not None
    half = float(np.hypot(1.96 * error, (theirs.high - theirs.low) / 2))
    room = MARGINS[key] - half
    return Bound(key, 1.96 * error, MARGINS[key], float(2 * norm.cdf(room / error) - 1) if room > 0 else 0.0)
