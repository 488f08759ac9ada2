"""The floors of a world: what no generator and no tagger can do better than, with their Monte Carlo errors."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genscale.config import to_mapping
from genscale.errors import require
from genscale.files import write_json
from genscale.records import git_commit, package_versions
from genscale.worlds.world import Floats, World, entropy

FLOORS_VERSION = 1

#: Jets that are drawn and scored at a time; the results depend on it, because each part has random numbers of its own.
PART_JETS = 20_000


@dataclass(frozen=True)
class Floor:
    """A number and its standard error, zero if it is known without sampling."""

    value: float
    error: float


@dataclass(frozen=True)
class Floors:
    """Floors of a world.

    Attributes
    ----------
    generation_nats_per_jet : Floor
        H(X): cross-entropy of the best generator that is not told the class, the stop token included.
    generation_given_class_nats_per_jet : Floor
        H(X|Y), of the best class-conditional generator.
    class_entropy_nats : Floor
        H(Y): cross-entropy of a tagger that sees nothing.
    tagging_nats : Floor
        H(Y|X): cross-entropy of the Bayes classifier.
    generation_nats_per_token : Floor
        H(X) / E[tokens], a ratio of means as in the records of generators.
    generation_given_class_nats_per_token : Floor
        H(X|Y) / E[tokens].
    tokens_per_jet : Floor
        Mean number of tokens, the stop token included.
    closure_nats : Floor
        H(X|Y) + H(Y) - H(X) - H(Y|X), from estimates that share no identity: zero within its error.
    generation_nats_by_position : list of Floor
        Contributions of each position to H(X), the first one first, where entropies by position are computed.
    """

    generation_nats_per_jet: Floor
    generation_given_class_nats_per_jet: Floor
    class_entropy_nats: Floor
    tagging_nats: Floor
    generation_nats_per_token: Floor
    generation_given_class_nats_per_token: Floor
    tokens_per_jet: Floor
    closure_nats: Floor
    generation_nats_by_position: list[Floor]


def estimate_floors(world: World, n_jets: int = 200_000, seed: int = 1) -> Floors:
    """Compute the floors of a world: exactly where it can, otherwise from sampled jets.

    Entropies of posteriors and of next tokens are averaged instead of logarithms of likelihoods, which has the same
    expectation and a smaller variance (Rao-Blackwell). Where a world knows H(X|Y), H(X) follows from
    H(X) = H(X|Y) + H(Y) - H(Y|X), because H(Y|X) has by far the smallest error.

    Parameters
    ----------
    world : World
    n_jets : int
        Jets to sample.
    seed : int
        Seed of these jets.

    Returns
    -------
    Floors

    Raises
    ------
    InputError
        Fewer than two jets are asked for.
    """
    require(n_jets >= 2, f"jets: {n_jets} are too few for an error; give at least 2")
    means = _Means()
    for part in range(-(-n_jets // PART_JETS)):
        rng = np.random.default_rng([seed, part])
        jets = world.sample(min(PART_JETS, n_jets - part * PART_JETS), rng)
        likelihood = world.log_likelihood(jets)
        posterior, log_marginal = world.bayes(likelihood)
        shared = entropy(posterior), jets.lengths + 1.0
        entropies = world.predictive_entropies(jets)
        if entropies is None:
            means.add(*shared, -log_marginal, -likelihood[np.arange(len(jets)), jets.labels])
        else:
            blind, given = entropies
            means.add(*shared, blind.sum(1), given.sum(1), by_position=blind)
    return _floors(world, means)


def _floors(world: World, means: _Means) -> Floors:
    """Combine what is exact with what was sampled; columns are H(Y|X), tokens, H(X), H(X|Y)."""
    known, class_entropy = world.exact(), float(entropy(world.prior))
    tagging = means.exact(0, known.tagging)
    tokens = means.exact(1, known.tokens)
    given = means.exact(3, known.given_class)
    blind = means.exact(2, known.generation)
    if known.generation is None and known.given_class is not None:
        blind = given + _constant(class_entropy) - tagging
    if known.given_class is None and known.generation is not None:
        given = blind + tagging - _constant(class_entropy)
    closure = given + _constant(class_entropy) - means.exact(2, None) - tagging
    return Floors(
        means.floor(blind), means.floor(given), Floor(class_entropy, 0.0), means.floor(tagging),
        means.ratio(blind, tokens), means.ratio(given, tokens), means.floor(tokens), means.floor(closure),
        means.by_position(),
    )  # fmt: skip


_COLUMNS = 4


def _constant(value: float) -> Floats:
    """A known number as coefficients: none of the sampled columns, and itself."""
    return np.append(np.zeros(_COLUMNS), value)


class _Means:
    """Means and covariances of what was sampled, from which linear combinations have errors.

    A quantity is an array of coefficients of the columns, and a constant at the end.
    """

    def __init__(self) -> None:
        self.n = 0
        self.sums, self.products = np.zeros(_COLUMNS), np.zeros((_COLUMNS, _COLUMNS))
        self.positions: list[Floats] = []

    def add(self, *columns: NDArray[np.floating], by_position: Floats | None = None) -> None:
        """Add the columns of some jets, ``[n]`` each, and the entropies of each position, ``[n, positions]``."""
        values = np.stack(columns)
        self.n += values.shape[1]
        self.sums += values.sum(1)
        self.products += values @ values.T
        if by_position is not None:
            self.positions.append(np.stack([by_position.sum(0), (by_position**2).sum(0)]))

    def exact(self, column: int, value: float | None) -> Floats:
        """Return a known value, or otherwise the mean of a column."""
        return np.append(np.eye(_COLUMNS)[column], 0.0) if value is None else _constant(value)

    def _value(self, quantity: Floats) -> float:
        return float(quantity[:-1] @ self.sums / self.n + quantity[-1])

    def _error(self, coefficients: Floats) -> float:
        mean = self.sums / self.n
        covariance = (self.products / self.n - np.outer(mean, mean)) / (self.n - 1)
        return float(max(0.0, float(coefficients @ covariance @ coefficients)) ** 0.5)

    def floor(self, quantity: Floats) -> Floor:
        """Value and standard error of a quantity."""
        return Floor(self._value(quantity), self._error(quantity[:-1]))

    def ratio(self, above: Floats, below: Floats) -> Floor:
        """Value and standard error of a ratio of means (delta method)."""
        ratio = self._value(above) / self._value(below)
        return Floor(ratio, self._error(above[:-1] - ratio * below[:-1]) / self._value(below))

    def by_position(self) -> list[Floor]:
        """Mean of each position's entropy over all jets; it is zero after a jet's end."""
        if not self.positions:
            return []
        sums, squares = np.add.reduce(self.positions)
        mean = sums / self.n
        errors = np.sqrt(np.maximum(squares / self.n - mean**2, 0) / (self.n - 1))
        return [Floor(float(m), float(e)) for m, e in zip(mean, errors, strict=True)]


def write_floors(world: World, out: Path, n_jets: int = 200_000, seed: int = 1) -> Floors:
    """Compute the floors of a world and write them as JSON, with the world's parameters.

    Parameters
    ----------
    world : World
    out : Path
        JSON file.
    n_jets : int
        Jets to sample.
    seed : int
        Seed of these jets.

    Returns
    -------
    Floors
    """
    floors = estimate_floors(world, n_jets, seed)
    write_json(out, {**asdict(floors), **provenance(world), "jets": n_jets, "seed": seed})
    return floors


def provenance(world: World) -> dict[str, Any]:
    """What a file says of the world that it is about."""
    return {
        "version": FLOORS_VERSION,
        "world": world.name,
        "parameters": to_mapping(world),
        "exponents": world.exponents(),
        "shown": world.shown,
        "classes": list(world.class_names),
        "packages": package_versions(),
        "git_commit": git_commit(),
    }
