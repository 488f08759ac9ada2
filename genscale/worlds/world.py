"""What every world has: jets with labels, exact likelihoods, and what is known of its entropies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr, logsumexp

from genscale.data.schema import CLASSES
from genscale.errors import require

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: The longest jet of any world: the default generator takes 129 tokens, the start token among them.
MOST_CODES = 128


@dataclass(frozen=True)
class Jets:
    """Jets as sequences of codes, one after another; start and stop tokens are implied.

    Attributes
    ----------
    codes : array of int64, shape (n_codes_of_all_jets,)
        Codes 0..K-1; code k is token k + 1.
    lengths : array of int64, shape (n_jets,)
        Codes of each jet.
    labels : array of int64, shape (n_jets,)
        Class of each jet, as its number within the world.
    """

    codes: Ints
    lengths: Ints
    labels: Ints

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def starts(self) -> Ints:
        """Place of each jet's first code."""
        return np.cumsum(self.lengths) - self.lengths

    @property
    def positions(self) -> Ints:
        """Position of each code within its jet, from 0."""
        return np.arange(len(self.codes)) - np.repeat(self.starts, self.lengths)

    def sums(self, values: Floats) -> Floats:
        """Sums over the codes of each jet, ``[n_jets, ...]``, of values ``[n_codes, ...]``."""
        total = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])
        return total[self.starts + self.lengths] - total[self.starts]


@dataclass(frozen=True)
class Exact:
    """What is known of a world without sampling, in nats; None where only sampling tells.

    Attributes
    ----------
    generation : float, optional
        Entropy of a jet, H(X), the decision to stop included.
    given_class : float, optional
        The same if the class is known, H(X|Y).
    tagging : float, optional
        Cross-entropy of the Bayes classifier, H(Y|X).
    tokens : float, optional
        Mean number of tokens of a jet, the stop token included.
    """

    generation: float | None = None
    given_class: float | None = None
    tagging: float | None = None
    tokens: float | None = None


class World(ABC):
    """A source of labelled jets with an exact likelihood. Worlds are frozen dataclasses; the fields are parameters.

    Attributes
    ----------
    name : str
        Name for the commands.
    about : str
        What the world is, in one line.
    shown : str
        What a jet's class depends on, and how the particles of the jet store carry it.
    floor_jets : int
        Jets to sample for floors that are not known exactly, with errors of 0.001 nats or less.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    shown: ClassVar[str]
    floor_jets: ClassVar[int] = 200_000

    @property
    @abstractmethod
    def n_codes(self) -> int:
        """Number of codes K; the vocabulary has K + 2 tokens."""

    @property
    @abstractmethod
    def max_codes(self) -> int:
        """Length of the longest jet."""

    @property
    @abstractmethod
    def prior(self) -> Floats:
        """Probability of each class, shape (n_classes,)."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name under which the stores have each class; a name alone means nothing here."""
        return CLASSES[: len(self.prior)]

    @abstractmethod
    def sample(self, n_jets: int, rng: np.random.Generator) -> Jets:
        """Draw labelled jets."""

    @abstractmethod
    def log_likelihood(self, jets: Jets) -> Floats:
        """Return ln p(x|y) of each jet for every class, the stop token included, in nats, shape (n_jets, n_classes)."""

    @abstractmethod
    def exact(self) -> Exact:
        """Floors that are known without sampling."""

    def context(self, jets: Jets) -> Floats | None:
        """Energy (GeV) of each particle of the jet store if it tells what precedes its token; None: the token's own.

        A small tagger did not learn relations between particles of neighbouring positions (docs/log.md), and a world
        whose classes differ by nothing else might test little but that. The energy is a function of the jet, and
        changes no floor.
        """
        return None

    def exponents(self) -> dict[str, float]:
        """Exponents alpha of size and beta of data of an ideal learner, where they are known."""
        return {}

    def predictive_entropies(self, jets: Jets) -> tuple[Floats, Floats] | None:
        """Entropies of the next token after each prefix, or None if this world does not need them for its floors.

        Their sums over a jet have the expectations H(X) and H(X|Y), and a smaller variance than -ln p
        (Rao-Blackwell).

        Parameters
        ----------
        jets : Jets

        Returns
        -------
        blind, given_class : array of float64, shape (n_jets, max_codes + 1)
            Without and with knowledge of the class, in nats; zero after the stop token.
        """
        return None

    def bayes(self, log_likelihood: Floats) -> tuple[Floats, Floats]:
        """Posterior and evidence from the likelihoods of `log_likelihood`.

        Parameters
        ----------
        log_likelihood : array of float64, shape (n_jets, n_classes)
            ln p(x|y).

        Returns
        -------
        posterior : array of float64, shape (n_jets, n_classes)
            p(y|x).
        log_marginal : array of float64, shape (n_jets,)
            ln p(x), in nats.
        """
        joint = log_likelihood + log(self.prior)
        log_marginal = logsumexp(joint, axis=1)
        return np.exp(joint - log_marginal[:, None]), log_marginal


def log(p: Floats) -> Floats:
    """Natural logarithm, -inf at zero without a warning."""
    with np.errstate(divide="ignore"):
        return np.log(p)


def entropy(p: Floats) -> Floats:
    """Entropy in nats over the last axis of probabilities."""
    return entr(p).sum(-1)


def draw(cumulative: Floats, rng: np.random.Generator) -> Ints:
    """Draw one index from each row of cumulative probabilities ``[n, k]``."""
    return (rng.random((len(cumulative), 1)) * cumulative[:, -1:] >= cumulative[:, :-1]).sum(1)


def require_between(name: str, value: float, low: float, high: float) -> None:
    """Raise InputError unless ``low <= value <= high``."""
    require(low <= value <= high, f"{name}: {value:g} is not between {low:g} and {high:g}")


def require_classes(n_classes: int) -> None:
    """Raise InputError unless the stores have names for so many classes, at least two."""
    require_between("classes", n_classes, 2, len(CLASSES))
