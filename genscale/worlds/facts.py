"""Facts whose frequencies follow a power law: the one world whose exponents of data and of size are known, too.

After Hutter, "Learning curve theory" (arXiv:2102.04074): fact k occurs with probability p_k ~ k^-(1+a), and its answer
is random but fixed. A learner that remembers what it has seen does not know the share sum p_k (1 - p_k)^D ~ D^-a/(1+a)
of all jets after D of them; one that has room for the N most frequent facts misses sum_{k>N} p_k ~ N^-a.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

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
class Facts(World):
    """Jets that state one fact each: its number, in digits, and its answer.

    Each token of the answer, and the class, has a fixed value for each fact, and is replaced by a random one with
    probability ``noise``. Numbers of facts are assigned to frequencies at random, so that each has to be learned by
    itself.

    Attributes
    ----------
    name : str
        Name of the world.
    about : str
        What it is, in one line.
    shown : str
        What a tagger is shown.
    base : int
        Symbols; facts are numbered with digits in this base.
    digits : int
        Digits of a number: there are base^digits facts.
    answer : int
        Tokens of an answer.
    classes : int
        Classes that facts belong to.
    exponent : float
        a; the probability of the k-th most frequent fact falls as k^-(1+a).
    noise : float
        Probability that a token of an answer, or the class, is replaced by a random one (perhaps the same).
    seed : int
        Seed of answers, classes and numbers.
    """

    name: ClassVar[str] = "facts"
    about: ClassVar[str] = (
        "facts of Zipf-distributed frequency, with noisy answers; exponents of N and D are known, too"
    )
    shown: ClassVar[str] = (
        "the number of the fact, not the answer; the pT of a particle gives its position, the angles its symbol"
    )

    base: int = 16
    digits: int = 3
    answer: int = 8
    classes: int = 4
    exponent: float = 0.5
    noise: float = 0.1
    seed: int = 1

    def __post_init__(self) -> None:
        require_between("base", self.base, 2, 1024)
        require_between("digits", self.digits, 1, 20)
        require(
            self.base**self.digits <= 2**20,
            f"digits: {self.base}^{self.digits} facts are more than 2^20",
        )
        require_between("answer", self.answer, 0, MOST_CODES - self.digits)
        require_classes(self.classes)
        require_between("exponent", self.exponent, 0.01, 10)
        require_between("noise", self.noise, 0, 1)
        require_between("seed", self.seed, 0, 2**31)

    @property
    def n_facts(self) -> int:
        """Number of facts."""
        return self.base**self.digits

    @property
    def n_codes(self) -> int:
        """Number of symbols."""
        return self.base

    @property
    def max_codes(self) -> int:
        """Length of every jet."""
        return self.digits + self.answer

    @cached_property
    def probabilities(self) -> Floats:
        """Probability of each fact, the most frequent one first, shape (n_facts,)."""
        p = np.arange(1, self.n_facts + 1, dtype=np.float64) ** -(1 + self.exponent)
        return p / p.sum()

    @cached_property
    def _tables(self) -> tuple[Ints, Ints, Ints]:
        """Digits ``[n_facts, digits]``, answers ``[n_facts, answer]`` and classes ``[n_facts]``, by frequency."""
        rng = np.random.default_rng([self.seed, 2])
        numbers = rng.permutation(self.n_facts)
        digits = numbers[:, None] // self.base ** np.arange(self.digits)[::-1] % self.base
        answers = rng.integers(self.base, size=(self.n_facts, self.answer))
        return digits, answers, rng.integers(self.classes, size=self.n_facts)

    @cached_property
    def _by_number(self) -> Ints:
        """Rank by frequency of the fact with each number."""
        ranks = np.empty(self.n_facts, dtype=np.int64)
        ranks[self._numbers(self._tables[0])] = np.arange(self.n_facts)
        return ranks

    def _numbers(self, digits: Ints) -> Ints:
        return digits @ self.base ** np.arange(self.digits)[::-1]

    def _noisy(self, symbols: int) -> Floats:
        """Probability of each difference (modulo the symbols) between what is stated and what is true."""
        p = np.full(symbols, self.noise / symbols)
        p[0] += 1 - self.noise
        return p

    @cached_property
    def prior(self) -> Floats:
        """Probability of each class: that of the facts that belong to it, with noise."""
        true: Floats = np.bincount(self._tables[2], self.probabilities, self.classes).astype(np.float64)
        return (1 - self.noise) * true + self.noise / self.classes

    def sample(self, n_jets: int, rng: np.random.Generator) -> Jets:
        """Draw labelled jets."""
        facts = np.searchsorted(self.probabilities.cumsum(), rng.random(n_jets))
        facts = np.minimum(facts, self.n_facts - 1)  # rounding of the last cumulative probability
        digits, answers, classes = (table[facts] for table in self._tables)

        def noisy(values: Ints, symbols: int) -> Ints:
            replaced = rng.random(values.shape) < self.noise
            return np.where(replaced, rng.integers(symbols, size=values.shape), values)

        codes = np.concatenate([digits, noisy(answers, self.base)], axis=1)
        lengths = np.full(n_jets, self.max_codes)
        return Jets(codes.ravel(), lengths, noisy(classes, self.classes))

    def log_likelihood(self, jets: Jets) -> Floats:
        """Return ln p(x|y) of each jet for every class, shape (n_jets, n_classes)."""
        _, answers, classes = self._tables
        codes = jets.codes.reshape(len(jets), self.max_codes)
        facts = self._by_number[self._numbers(codes[:, : self.digits])]
        difference = (codes[:, self.digits :] - answers[facts]) % self.base
        x = log(self.probabilities)[facts] + log(self._noisy(self.base))[difference].sum(1)
        class_difference = (np.arange(self.classes) - classes[facts, None]) % self.classes
        return x[:, None] + log(self._noisy(self.classes))[class_difference] - log(self.prior)

    def exact(self) -> Exact:
        """All floors: H(X) = H(fact) + answer * H(noise), and H(Y|X) is the entropy of the noise of the class."""
        x = float(entropy(self.probabilities) + self.answer * entropy(self._noisy(self.base)))
        tagging = float(entropy(self._noisy(self.classes)))
        given_class = x + tagging - float(entropy(self.prior))
        return Exact(x, given_class, tagging, self.max_codes + 1.0)

    def exponents(self) -> dict[str, float]:
        """Exponents of a memory of the N most frequent facts, and of one that has seen D jets."""
        return {"alpha": self.exponent, "beta": self.exponent / (1 + self.exponent)}

    def unseen(self, jets: Floats) -> Floats:
        """Share of jets whose fact did not occur among so many earlier ones, the excess of a perfect memory.

        Parameters
        ----------
        jets : array of float, shape (m,)

        Returns
        -------
        array of float64, shape (m,)
            sum_k p_k (1 - p_k)^D, which falls as D^-a/(1+a) as long as facts remain.
        """
        p = self.probabilities
        return np.array(
            [(p * np.exp(d * np.log1p(-np.minimum(p, 1 - 1e-16)))).sum() for d in np.atleast_1d(jets)]
        )

    def beyond(self, facts: Ints) -> Floats:
        """Share of jets whose fact is not among the so many most frequent ones, the excess of a limited memory.

        Parameters
        ----------
        facts : array of int, shape (m,)

        Returns
        -------
        array of float64, shape (m,)
            sum_{k>N} p_k, which falls as N^-a.
        """
        tail = np.append(self.probabilities[::-1].cumsum()[::-1], 0.0)
        return tail[np.minimum(np.atleast_1d(facts), self.n_facts)]


@dataclass(frozen=True)
class FactsControl(Facts):
    """Facts without noise, with long answers: the negative control, whose floor of tagging is exactly zero.

    Classes follow from the facts, so that H(Y|X) = 0, and every token of an answer has entropy zero. Only the choice of
    the fact is random, so that the entropy per token falls as the answers become longer. It cannot be exactly zero: all
    jets would be the same one. Fits that find floors away from these invent them.
    """

    name: ClassVar[str] = "facts_control"
    about: ClassVar[str] = (
        "facts with long answers and no noise: tagging floor exactly zero, entropy per token near zero"
    )

    answer: int = 40
    exponent: float = 1.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.noise == 0, f"noise: {self.noise:g} is not 0; the world facts has noise")
