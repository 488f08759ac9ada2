"""Approach 1 to the compute-optimal line: the envelope of training curves (Hoffmann et al., arXiv:2203.15556)."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from eval.common.errors import InputError
from eval.scaling.approaches.frontier import FrontierFit, Optimum, power_laws
from eval.scaling.points import Points

FloatArray = NDArray[np.float64]


def envelope(points: Points, *, bootstrap: int = 200, seed: int = 0) -> FrontierFit:
    """Approach 1: where the training curves of neighbouring sizes cross, their geometric mean is optimal.

    For L = E + A/N^alpha + B/D^beta the curves of N e^-h and N e^h cross at a compute at which N is optimal up to a
    factor that depends on h alone. For sizes of constant ratio the exponent ``a`` is therefore unbiased.

    Parameters
    ----------
    points : Points
        Losses along the training of at least three sizes.
    bootstrap : int
        Number of resamples for the intervals.
    seed : int
        Seed of the resamples.

    Returns
    -------
    FrontierFit

    Raises
    ------
    InputError
        There are fewer than three sizes with two points each, or fewer than two crossings.
    """
    curves = training_curves(points, least=2)
    if len(curves) < 3:
        raise InputError(
            f"{points.source}: approach 1 needs training curves of three sizes, found {len(curves)}"
        )
    sizes = sorted(curves)
    k, _ = points.flops_factor
    found = [_crossing(curves, small, large, k) for small, large in pairwise(sizes)]
    return power_laws(1, points, found, False, bootstrap, seed, ())


def training_curves(points: Points, least: int) -> dict[float, tuple[FloatArray, FloatArray]]:
    """Return the training curve of each size: ln D in increasing order, and the mean loss at each."""
    n, d = points.variable("N"), points.variable("D")
    curves = {}
    rounded = np.exp(np.round(np.log(n), 6))  # sizes that differ by rounding are one model
    for size in np.unique(rounded):
        here = rounded == size
        data, index = np.unique(d[here], return_inverse=True)
        loss = np.bincount(index, weights=points.L[here]) / np.bincount(index)
        if len(data) >= least:
            curves[float(size)] = (np.log(data), loss)
    return curves


def _crossing(
    curves: Mapping[float, tuple[FloatArray, FloatArray]], small: float, large: float, k: float
) -> Optimum:
    def loss(size: float, log_c: FloatArray) -> FloatArray:
        log_d, values = curves[size]
        return np.interp(log_c - np.log(k * size), log_d, values, left=np.nan, right=np.nan)

    low = np.log(k * large) + curves[large][0][0]
    high = np.log(k * small) + curves[small][0][-1]
    middle = float(np.exp(0.5 * (low + high)))
    pair = f"N = {small:.3g} and {large:.3g}"
    if low >= high:
        return Optimum(middle, reason=f"curves of {pair} share no compute")
    # Without the ends, where rounding decides whether a curve is defined: a loss that is not would pass for a crossing.
    log_c = np.linspace(low, high, 2001)[1:-1]
    ahead = loss(small, log_c) - loss(large, log_c) > 0
    switches = np.flatnonzero(ahead[1:] & ~ahead[:-1])
    if not switches.size:
        which = "larger" if ahead[0] else "smaller"
        return Optimum(middle, reason=f"curves of {pair} do not cross: the {which} is better throughout")
    # Noise makes curves cross more than once; the middle crossing is the most robust one.
    at = log_c[switches[len(switches) // 2]]
    best = float(loss(small, np.array([at]))[0])
    others = [float(loss(size, np.array([at]))[0]) for size in curves if size not in (small, large)]
    n = float(np.sqrt(small * large))
    c = float(np.exp(at))
    reason = f"a third size is better where {pair} cross" if any(x < best for x in others) else ""
    return Optimum(c, n, c / (k * n), best, reason=reason)
