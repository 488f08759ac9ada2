"""The design of a study, which is the list of its runs, and the scatter of runs about a law."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from eval.common.errors import InputError
from eval.literature.values import FULL_INPUTS
from eval.scaling.points import Points

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Run:
    """A planned training.

    Attributes
    ----------
    size : float
        N, all parameters.
    blocks : float
        N without input and output layers.
    seed : int
    jets : ndarray
        Jets seen at each held-out evaluation that will be fitted.
    unique : float
        Different jets of a run on repeated data; 0 for a single pass.
    inputs : str
        What a tagger sees, as `eval.literature.values` names it.
    """

    size: float
    blocks: float
    seed: int
    jets: FloatArray
    unique: float = 0.0
    inputs: str = FULL_INPUTS


@dataclass(frozen=True, eq=False)
class Design:
    """The runs of a study.

    Attributes
    ----------
    tagging : tuple of Run
        Single-pass runs of taggers.
    generation : tuple of Run
        Single-pass runs of generators.
    repetition : tuple of Run
        Taggers on repeated data with the study's own inputs.
    inputs : mapping of str to tuple of Run
        Taggers of one width on repeated data, by inputs.
    background : int
        Test jets of the class that taggers reject.
    """

    tagging: tuple[Run, ...] = ()
    generation: tuple[Run, ...] = ()
    repetition: tuple[Run, ...] = ()
    inputs: Mapping[str, tuple[Run, ...]] = field(default_factory=dict)
    background: int = 0


@dataclass(frozen=True)
class Noise:
    """How runs scatter about a law.

    Attributes
    ----------
    scatter : float
        Standard deviation of ln L between seeds.
    length : float
        e-folds of D over which the deviation of one run changes: the correlation of ln L at two D is
        exp(-|difference of ln D|/length).
    """

    scatter: float
    length: float = 0.85

    def covariance(self, jets: FloatArray) -> FloatArray:
        """Covariance of ln L along one run, evaluated after ``jets`` (n,) jets; shape (n, n)."""
        x = np.log(jets)
        correlation = np.exp(-np.abs(np.subtract.outer(x, x)) / self.length) + 1e-9 * np.eye(len(x))
        return np.asarray(self.scatter**2 * correlation, dtype=np.float64)

    def path(self, jets: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Factors on the losses of one run."""
        root = np.linalg.cholesky(self.covariance(jets))
        return np.asarray(np.exp(root @ rng.standard_normal(len(jets))), dtype=np.float64)


def noise_of(points: Points) -> Noise:
    """Measure the scatter between seeds at equal N and D, and its correlation along a run.

    Parameters
    ----------
    points : Points
        Losses of runs that were repeated with other seeds.

    Returns
    -------
    Noise

    Raises
    ------
    InputError
        No run was repeated with another seed.
    """
    n, d, log = points.variable("N"), points.variable("D"), np.log(points.L)
    _, cell, count = np.unique(np.stack([n, d]), axis=1, return_inverse=True, return_counts=True)
    cell = cell.ravel()
    repeated = count[cell] > 1
    spare = int(repeated.sum()) - int((count > 1).sum())
    if spare < 1:
        raise InputError(f"{points.source}: no run was repeated with another seed, so its scatter is unknown")
    deviation = log - (np.bincount(cell, log) / count)[cell]
    scatter = float(np.sqrt(np.sum(deviation[repeated] ** 2) / spare))
    labels = points.group if points.group is not None else points.seed
    products, squares, gaps = 0.0, 0.0, []
    for run in () if labels is None else np.unique(labels):
        here = np.flatnonzero((labels == run) & repeated)
        here = here[np.argsort(d[here])]
        along = deviation[here]
        products += float(along[1:] @ along[:-1])
        squares += 0.5 * float(along[1:] @ along[1:] + along[:-1] @ along[:-1])
        gaps += list(np.diff(np.log(d[here])))
    if not squares > 0 or not products > 0:
        return Noise(scatter)
    return Noise(scatter, float(-np.mean(gaps) / np.log(min(products / squares, 0.99))))
