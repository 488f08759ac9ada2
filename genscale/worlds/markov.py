"""Markov chains with a stop probability, one for each class: floors by linear algebra."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from genscale.worlds.world import (
    MOST_CODES,
    Exact,
    Floats,
    Jets,
    World,
    draw,
    entropy,
    log,
    require_between,
    require_classes,
)


@dataclass(frozen=True)
class Markov(World):
    """Chains whose transitions differ between the classes.

    A finite table describes them completely, so that a student can reach the floors, and a fit must not find a slow
    power law. A student that is not told the class has to infer it from the beginning of the jet.

    Attributes
    ----------
    name : str
        Name of the world.
    about : str
        What it is, in one line.
    shown : str
        What a tagger is shown.
    symbols : int
        States of the chain.
    classes : int
        Classes, each equally probable.
    stop : float
        Probability to stop after each symbol.
    longest : int
        Symbols after which a jet stops in any case.
    concentration : float
        Of the Dirichlet distribution that the rows of the transition matrices are drawn from: small values give rows
        with few probable symbols.
    contrast : float
        Share of a class's own matrix in its transitions; the rest is common to all classes.
    seed : int
        Seed of the matrices.
    """

    name: ClassVar[str] = "markov"
    about: ClassVar[str] = (
        "class-conditional Markov chains with a stop probability; a finite table reaches the floors"
    )
    shown: ClassVar[str] = (
        "pairs of neighbouring symbols; the angles of a particle give its symbol, the energy the one before"
    )

    symbols: int = 8
    classes: int = 3
    stop: float = 0.08
    longest: int = 128
    concentration: float = 0.3
    contrast: float = 0.5
    seed: int = 1

    def __post_init__(self) -> None:
        require_between("symbols", self.symbols, 2, 4096)
        require_classes(self.classes)
        require_between("stop", self.stop, 0.001, 0.99)
        require_between("longest", self.longest, 1, MOST_CODES)
        require_between("concentration", self.concentration, 0.01, 100)
        require_between("contrast", self.contrast, 0, 1)
        require_between("seed", self.seed, 0, 2**31)

    @property
    def n_codes(self) -> int:
        """Number of symbols."""
        return self.symbols

    @property
    def max_codes(self) -> int:
        """Length of the longest jet."""
        return self.longest

    @property
    def prior(self) -> Floats:
        """Equal probabilities."""
        return np.full(self.classes, 1 / self.classes)

    @cached_property
    def transitions(self) -> Floats:
        """Probabilities of the next symbol if the chain goes on, shape (classes, symbols + 1, symbols).

        The last row of each class is the distribution of the first symbol.
        """
        rng = np.random.default_rng([self.seed, 1])
        rows = rng.dirichlet(np.full(self.symbols, self.concentration), (self.classes + 1, self.symbols + 1))
        # Small concentrations give probabilities that underflow to zero; a posterior could then be 0/0.
        rows = np.maximum(rows, 1e-12)
        rows /= rows.sum(-1, keepdims=True)
        return (1 - self.contrast) * rows[-1] + self.contrast * rows[:-1]

    def sample(self, n_jets: int, rng: np.random.Generator) -> Jets:
        """Draw labelled jets."""
        labels = rng.integers(self.classes, size=n_jets)
        lengths = np.minimum(rng.geometric(self.stop, n_jets), self.longest)
        cumulative = self.transitions.cumsum(-1)
        table = np.zeros((n_jets, int(lengths.max(initial=1))), dtype=np.int64)
        last = np.full(n_jets, self.symbols)
        for position in range(table.shape[1]):
            alive = np.flatnonzero(lengths > position)
            last[alive] = draw(cumulative[labels[alive], last[alive]], rng)
            table[alive, position] = last[alive]
        return Jets(table[np.arange(table.shape[1]) < lengths[:, None]], lengths, labels)

    def context(self, jets: Jets) -> Floats:
        """Energies that rise with the number of the preceding symbol; the least one is that of a first symbol."""
        number = np.where(jets.positions > 0, np.roll(jets.codes, 1) + 1, 0)
        return np.exp(-3 + 10 * number / self.symbols)

    def log_likelihood(self, jets: Jets) -> Floats:
        """Return ln p(x|y) of each jet for every class, shape (n_jets, n_classes)."""
        before = np.concatenate([[self.symbols], jets.codes[:-1]]) if len(jets.codes) else jets.codes
        before[jets.starts] = self.symbols
        symbols = jets.sums(log(self.transitions)[:, before, jets.codes].T)
        length = (jets.lengths - 1) * np.log1p(-self.stop)
        length += np.where(jets.lengths < self.longest, np.log(self.stop), 0.0)
        return symbols + length[:, None]

    def exact(self) -> Exact:
        """H(X|Y) and the mean length, from the expected visits of each state.

        The visits after t symbols are v_t = v_0 Q^t with Q = (1 - stop) P, so that without a longest jet their sum
        would be v_0 (I - Q)^-1 (Kemeny and Snell, Finite Markov Chains, 1960, theorem 3.2.4).
        """
        own = entropy(self.transitions)  # [classes, symbols + 1]
        going_on = float(entropy(np.array([self.stop, 1 - self.stop])))
        nats, tokens = own[:, -1].copy(), 1.0  # the first symbol, and the stop token
        visits = self.transitions[:, -1]
        for position in range(self.longest):
            tokens += float(visits[0].sum())
            if position < self.longest - 1:
                nats += (visits * (going_on + (1 - self.stop) * own[:, :-1])).sum(-1)
                visits = (1 - self.stop) * np.einsum("ci,cij->cj", visits, self.transitions[:, :-1])
        return Exact(given_class=float(nats @ self.prior), tokens=tokens)
