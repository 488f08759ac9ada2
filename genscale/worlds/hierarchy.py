"""A random hierarchy model whose rules overlap, so that neither strings nor classes are unambiguous.

Cagnetta et al., "How deep neural networks learn compositional data" (arXiv:2307.02129); next-token prediction in this
model: arXiv:2406.00048. There all productions of a level are different, so that the class follows from the string.
Here every symbol draws its productions by itself, and likelihoods are sums over all trees (inside algorithm).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from scipy.special import logsumexp

from genscale.errors import require
from genscale.worlds.world import (
    MOST_CODES,
    Exact,
    Floats,
    Ints,
    Jets,
    World,
    entropy,
    log,
    require_between,
    require_classes,
)


@dataclass(frozen=True)
class Hierarchy(World):
    """Strings of symbols at the leaves of a tree; each node chooses one of its symbol's productions at random.

    Attributes
    ----------
    name : str
        Name of the world.
    about : str
        What it is, in one line.
    shown : str
        What a tagger is shown.
    floor_jets : int
        Jets that floors are averaged over by default.
    symbols : int
        Symbols of each level, v.
    classes : int
        Classes, the symbols of the root, n.
    rules : int
        Productions of each symbol, equally probable, m.
    branches : int
        Children of each node, s.
    depth : int
        Levels of productions, L: a jet has branches^depth symbols.
    distinct : bool
        No two productions of a level are the same, as in the original model: the tagging floor is zero and entropies
        have closed forms. Otherwise each symbol draws its productions by itself.
    seed : int
        Seed of the productions.
    """

    name: ClassVar[str] = "hierarchy"
    about: ClassVar[str] = "random hierarchy model with overlapping rules: compositional, floors by position"
    shown: ClassVar[str] = (
        "all symbols with their positions; the pT of a particle gives its position, the angles its symbol"
    )
    floor_jets: ClassVar[int] = 300_000

    symbols: int = 6
    classes: int = 4
    rules: int = 4
    branches: int = 2
    depth: int = 3
    distinct: bool = False
    seed: int = 1

    def __post_init__(self) -> None:
        require_between("symbols", self.symbols, 2, 256)
        require_classes(self.classes)
        require_between("rules", self.rules, 1, 256)
        require_between("branches", self.branches, 2, 8)
        require_between("depth", self.depth, 1, 6)
        require_between("seed", self.seed, 0, 2**31)
        require(
            self.max_codes <= MOST_CODES,
            f"depth: {self.branches}^{self.depth} symbols are more than the {MOST_CODES} of the longest jet",
        )
        tuples = self.symbols**self.branches
        needed = self.rules * (max(self.symbols, self.classes) if self.distinct else 1)
        require(needed <= tuples, f"rules: {needed} different productions needed, there are {tuples}")
        require(tuples <= 2**20, f"branches: {tuples} productions are more than 2^20")

    @property
    def n_codes(self) -> int:
        """Number of symbols."""
        return self.symbols

    @property
    def max_codes(self) -> int:
        """Length of every jet."""
        return self.branches**self.depth

    @property
    def prior(self) -> Floats:
        """Equal probabilities."""
        return np.full(self.classes, 1 / self.classes)

    @cached_property
    def productions(self) -> list[Ints]:
        """Productions of each level from the root down: arrays of shape (symbols or classes, rules, branches)."""
        rng = np.random.default_rng([self.seed, 3])
        n_tuples, found = self.symbols**self.branches, []
        for level in range(self.depth):
            parents = self.symbols if level else self.classes
            if self.distinct:
                chosen = rng.permutation(n_tuples)[: parents * self.rules].reshape(parents, self.rules)
            else:
                chosen = np.stack([rng.permutation(n_tuples)[: self.rules] for _ in range(parents)])
            found.append(chosen[..., None] // self.symbols ** np.arange(self.branches) % self.symbols)
        return found

    def sample(self, n_jets: int, rng: np.random.Generator) -> Jets:
        """Draw labelled jets."""
        labels = rng.integers(self.classes, size=n_jets)
        nodes = labels[:, None]
        for rules in self.productions:
            nodes = rules[nodes, rng.integers(self.rules, size=nodes.shape)].reshape(n_jets, -1)
        return Jets(nodes.ravel(), np.full(n_jets, self.max_codes), labels)

    def log_likelihood(self, jets: Jets) -> Floats:
        """Return ln p(x|y) of each jet for every class, shape (n_jets, n_classes)."""
        found = np.empty((len(jets), self.classes))
        codes = jets.codes.reshape(len(jets), self.max_codes)
        for low in range(0, len(jets), 10_000):
            leaves = np.eye(self.symbols)[codes[low : low + 10_000]]
            found[low : low + 10_000] = log(self._inside(leaves))
        return found

    def _inside(self, leaves: Floats) -> Floats:
        """Probability of the leaves for each class, given that of each leaf and symbol, ``[n, leaves, symbols]``."""
        below = leaves
        for rules in reversed(self.productions):
            below = below.reshape(len(below), -1, self.branches, self.symbols)
            product = np.ones(())
            for branch in range(self.branches):
                product = product * below[:, :, branch][..., rules[..., branch]]
            below = product.mean(-1)
        return below[:, 0]

    def predictive_entropies(self, jets: Jets) -> tuple[Floats, Floats] | None:
        """Entropies of the next symbol at each position; see `World.predictive_entropies`."""
        codes = jets.codes.reshape(len(jets), self.max_codes)
        blind, given = np.zeros((2, len(jets), self.max_codes + 1))
        for low in range(0, len(jets), 4_000):
            part = slice(low, low + 4_000)
            known = np.eye(self.symbols)[codes[part]]
            rows = np.arange(len(known))
            for position in range(self.max_codes):
                leaves = known.copy()
                leaves[:, position + 1 :] = 1.0
                joint = np.empty((len(known), self.classes, self.symbols))
                for symbol in range(self.symbols):
                    leaves[:, position] = np.eye(self.symbols)[symbol]
                    joint[..., symbol] = self._inside(leaves)
                own = joint[rows, jets.labels[part]]
                mixed = self.prior @ joint
                given[part, position] = entropy(own / own.sum(-1, keepdims=True))
                blind[part, position] = entropy(mixed / mixed.sum(-1, keepdims=True))
        return blind, given

    def exact(self) -> Exact:
        """The length; with distinct productions also H(X|Y) = ln m (s^L - 1) / (s - 1), and H(Y|X) = 0."""
        tokens = self.max_codes + 1.0
        if not self.distinct:
            return Exact(tokens=tokens)
        nodes = (self.max_codes - 1) // (self.branches - 1)
        given_class = nodes * float(np.log(self.rules))
        return Exact(given_class + float(np.log(self.classes)), given_class, 0.0, tokens)

    def enumerated(self) -> Exact:
        """All floors as sums over all strings, for small worlds.

        Returns
        -------
        Exact

        Raises
        ------
        InputError
            There are more than 2^22 strings.
        """
        n = self.symbols**self.max_codes
        require(n <= 2**22, f"{n} strings are too many to enumerate")
        codes = np.arange(n)[:, None] // self.symbols ** np.arange(self.max_codes) % self.symbols
        jets = Jets(codes.ravel(), np.full(n, self.max_codes), np.zeros(n, dtype=np.int64))
        given = self.log_likelihood(jets)
        joint = given + log(self.prior)
        marginal = logsumexp(joint, axis=1)
        x = float(entropy(np.exp(marginal)))
        given_class = float(self.prior @ entropy(np.exp(given).T))
        return Exact(x, given_class, given_class + float(entropy(self.prior)) - x, self.max_codes + 1.0)
