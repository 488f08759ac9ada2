"""Which of several generators is nearest to one reference, with the errors of the differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from eval.common.errors import InputError
from eval.fidelity.distances import location_scale, random_directions, transport_potentials

FloatArray = NDArray[np.float64]

#: Standard errors from which on a difference counts as resolved.
RESOLVED_AT = 3.0


@dataclass(frozen=True)
class Difference:
    """How much nearer the first of two samples is to the reference.

    Attributes
    ----------
    first : str
        The sample with the smaller distance.
    second : str
        The other.
    value : float
        Distance of the second less that of the first, in standard deviations of the reference.
    standard_error : float
        Of `value`, with what both distances owe to the same reference taken once.
    """

    first: str
    second: str
    value: float
    standard_error: float

    @property
    def significance(self) -> float:
        """Standard errors between the two."""
        return self.value / self.standard_error if self.standard_error > 0 else np.inf

    @property
    def verdict(self) -> str:
        """One sentence."""
        found = f"{self.value:.3g} ± {self.standard_error:.2g} ({self.significance:.1f} standard errors)"
        if self.significance < RESOLVED_AT:
            return f"{self.first} and {self.second} are not told apart at this number of jets: {found}"
        return f"{self.first} is nearer to the reference than {self.second} by {found}"


@dataclass(frozen=True)
class Ranking:
    """Samples in order of their distances from one reference.

    Attributes
    ----------
    distances : dict of str to float
        Joint sliced Wasserstein distances of order 1, the smallest first, in standard deviations of the reference.
    errors : dict of str to float
        Standard error of each distance from the finite samples.
    differences : tuple of Difference
        Of all pairs.
    n_jets : int
        Jets of each sample.
    n_reference : int
        Jets of the reference.
    """

    distances: dict[str, float]
    errors: dict[str, float]
    differences: tuple[Difference, ...]
    n_jets: int
    n_reference: int

    def neighbours(self) -> list[Difference]:
        """The differences between each sample and the next."""
        names = list(self.distances)
        pairs = set(pairwise(names))
        return [d for d in self.differences if (d.first, d.second) in pairs]


def rank(
    samples: Mapping[str, FloatArray], reference: FloatArray, *, n_directions: int = 200, seed: int = 0
) -> Ranking:
    """Rank samples by their sliced Wasserstein distance of order 1 from one reference.

    All distances use the same directions, the same reference and the same number of jets, so that the noise and the
    finite-sample floor that they share drop out of their differences. The variance of a difference is Var(phi_a)/n +
    Var(phi_b)/n + Var(psi_a - psi_b)/m, with the dual potentials phi of a sample and psi of the reference, averaged
    over directions (del Barrio and Loubes, arXiv:1705.01299, applied to both costs at once).

    Parameters
    ----------
    samples : mapping of str to array of float, shape (n, d)
        Observables of each sample; n must be the same for all.
    reference : array of float, shape (m, d)
        Those of the reference.
    n_directions : int
        Random directions.
    seed : int
        Their seed.

    Returns
    -------
    Ranking

    Raises
    ------
    InputError
        There are fewer than two samples, or their shapes differ.
    """
    if len(samples) < 2:
        raise InputError(f"{len(samples)} samples: at least two can be ranked")
    shapes = {name: np.shape(sample) for name, sample in samples.items()}
    if len(set(shapes.values())) > 1:
        raise InputError(
            f"samples have the shapes {shapes}: the floor of a distance depends on the number of jets"
        )
    centre, scale = location_scale(reference)
    y = (reference - centre) / scale
    directions = random_directions(n_directions, y.shape[1], seed)
    values, own, shared = {}, {}, {}
    for name, sample in samples.items():
        x = (sample - centre) / scale
        cost, phi, psi = 0.0, np.zeros(len(x)), np.zeros(len(y))
        for direction in directions:
            one = transport_potentials(x @ direction, y @ direction)
            cost, phi, psi = cost + one[0], phi + one[1], psi + one[2]
        values[name], own[name], shared[name] = cost / n_directions, phi / n_directions, psi / n_directions
    order = sorted(values, key=lambda name: values[name])
    n, m = shapes[order[0]][0], len(y)

    def error(variance_of_samples: float, potential: FloatArray) -> float:
        return float(np.sqrt(variance_of_samples / n + np.var(potential) / m))

    differences = tuple(
        Difference(
            a, b, values[b] - values[a],
            error(float(np.var(own[a]) + np.var(own[b])), shared[a] - shared[b]),
        )
        for a, b in combinations(order, 2)
    )  # fmt: skip
    errors = {name: error(float(np.var(own[name])), shared[name]) for name in order}
    return Ranking({name: values[name] for name in order}, errors, differences, n, m)
