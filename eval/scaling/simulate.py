"""Points from a known law: the truth behind tests of recovery, of coverage and of bias."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval.errors import InputError
from eval.scaling.law import Law
from eval.scaling.points import FLOPS_PER_PARAMETER_AND_TOKEN, Points

FloatArray = NDArray[np.float64]


def simulate(
    law: Law, values: Mapping[str, float], *, noise: float = 0.0, seed: int = 0, **x: ArrayLike
) -> Points:
    """Points of ``law`` at variables ``x``, with log-normal noise of relative size ``noise``.

    Parameters
    ----------
    law : Law
    values : mapping
        Natural parameters by name.
    noise : float
        Standard deviation of ln L.
    seed : int
    **x : array-like
        ``N=..., D=...`` (and ``C``, ``U``), of one length.
    """
    if noise < 0:
        raise InputError(f"noise: must not be negative, found {noise}")
    arrays = {name: np.atleast_1d(np.asarray(v, dtype=np.float64)) for name, v in x.items()}
    loss = law.predict(values, **{name: arrays[name] for name in law.variables})
    loss = loss * np.exp(np.random.default_rng(seed).normal(0.0, noise, loss.shape) if noise else 0.0)
    return Points.from_arrays(L=loss, **{name: v for name, v in arrays.items() if name in "NDCU"})


def grid(N: ArrayLike, D: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """All pairs of model sizes and data: flat N and D."""
    n, d = np.meshgrid(np.asarray(N, dtype=np.float64), np.asarray(D, dtype=np.float64), indexing="ij")
    return n.ravel(), d.ravel()


def isoflop_grid(
    budgets: ArrayLike,
    centre: ArrayLike,
    *,
    sizes: int = 9,
    decades: float = 1.5,
    k: float = FLOPS_PER_PARAMETER_AND_TOKEN,
) -> tuple[FloatArray, FloatArray]:
    """IsoFLOP slices: ``sizes`` models over ``decades`` about ``centre`` (one a budget), D = C/(k N)."""
    c = np.atleast_1d(np.asarray(budgets, dtype=np.float64))
    middle = np.broadcast_to(np.asarray(centre, dtype=np.float64), c.shape)
    n = middle[:, None] * 10 ** np.linspace(-decades / 2, decades / 2, sizes)
    return n.ravel(), (c[:, None] / (k * n)).ravel()
