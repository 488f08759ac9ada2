"""Points simulated from a known law, for tests of recovery, coverage and bias, and for planning."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval.common.errors import InputError
from eval.scaling.laws.law import Law
from eval.scaling.points import FLOPS_PER_PARAMETER_AND_TOKEN, Points

FloatArray = NDArray[np.float64]


def simulate(
    law: Law, values: Mapping[str, float], *, noise: float = 0.0, seed: int = 0, **x: ArrayLike
) -> Points:
    """Simulate points of ``law`` at variables ``x``, with log-normal noise.

    Parameters
    ----------
    law : Law
        The law.
    values : mapping of str to float
        Natural parameters by name.
    noise : float
        Standard deviation of ln L.
    seed : int
        Seed of the noise.
    **x : array-like of float
        ``N=..., D=...`` (and ``C``, ``U``), of equal length.

    Returns
    -------
    Points

    Raises
    ------
    InputError
        The noise is negative.
    """
    if noise < 0:
        raise InputError(f"noise: must not be negative, found {noise}")
    arrays = {name: np.atleast_1d(np.asarray(v, dtype=np.float64)) for name, v in x.items()}
    loss = law.predict(values, **{name: arrays[name] for name in law.variables})
    loss = loss * np.exp(np.random.default_rng(seed).normal(0.0, noise, loss.shape) if noise else 0.0)
    return Points.from_arrays(L=loss, **{name: v for name, v in arrays.items() if name in "NDCU"})


def grid(N: ArrayLike, D: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return all pairs of model sizes and data as flat arrays N and D."""
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
    """Return IsoFLOP slices: ``sizes`` models over ``decades`` about ``centre`` (one per budget), D = C/(k N)."""
    c = np.atleast_1d(np.asarray(budgets, dtype=np.float64))
    middle = np.broadcast_to(np.asarray(centre, dtype=np.float64), c.shape)
    n = middle[:, None] * 10 ** np.linspace(-decades / 2, decades / 2, sizes)
    return n.ravel(), (c[:, None] / (k * n)).ravel()
