"""Reference levels: the losses of models that know little or nothing about a token sequence.

A generator is judged by how far its loss lies below that of such models, which are tables of counts. The level of a
table is the loss that it would have if it were counted on infinitely many jets: a conditional entropy. It is estimated
from the counts of the training sequences with Grassberger's correction (arXiv:physics/0307138), which is slightly too
low where many events are rare. The table itself, scored on held-out sequences as a generator is, lies above. The two
numbers bracket the truth.

For the held-out loss each table is smoothed by absolute discounting (Ney, Essen and Kneser, Computer Speech and
Language 8 (1994) 1): a share of every count goes to the next simpler table, so that no event has probability zero and
nothing is tuned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import digamma

from eval.common.errors import InputError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

#: Tables that condition on something, by name; the unigram table is what they fall back on.
CONDITIONAL = ("position", "bigram")


class Sequences(NamedTuple):
    """Token sequences one after another: sequence i is ``tokens[offsets[i]:offsets[i + 1]]``.

    Every token is an event that a model has to predict: pass sequences with their stop token, without padding.
    """

    tokens: ArrayLike
    offsets: ArrayLike


@dataclass(frozen=True)
class ReferenceLevels:
    """Losses of reference models, in nats per token (for a tagger: per jet).

    Attributes
    ----------
    levels : mapping of str to float
        ``uniform`` (ln V), ``unigram``, ``position`` (unigram given the position: independent particles) and
        ``bigram`` (given the token before), as tables from infinitely many jets have them. For a tagger ``uniform``
        and ``prior``.
    held_out : mapping of str to float
        Losses of the tables from the training sequences on held-out ones: the level lies between the two numbers.
    errors : mapping of str to float
        Standard errors of ``held_out``, with whole sequences as the independent units.
    tokens_per_jet : float
        Mean number of predicted tokens in a held-out jet, which turns nats per token into nats per jet.
    n_tokens : int
        Predicted tokens of the held-out sequences.
    n_jets : int
        Held-out sequences.
    """

    levels: Mapping[str, float]
    held_out: Mapping[str, float] = field(default_factory=dict)
    errors: Mapping[str, float] = field(default_factory=dict)
    tokens_per_jet: float = 1.0
    n_tokens: int = 0
    n_jets: int = 0


class ReferenceModels:
    """Smoothed tables of counts: unigram, position-conditional unigram, and bigram.

    Parameters
    ----------
    train : Sequences
        Sequences to count. The attribute ``entropies`` has the levels of tables from infinitely many, by name.
    vocab_size : int
        Number of tokens that a model can choose from.
    start_token : int, optional
        Token that is left out where it opens a sequence, because it is given and not predicted.

    Raises
    ------
    InputError
        Offsets that do not delimit the tokens, a token outside the vocabulary, or nothing to predict.
    """

    def __init__(self, train: Sequences, vocab_size: int, *, start_token: int | None = None) -> None:
        self.vocab_size, self.start_token = vocab_size, start_token
        events = _events(train, vocab_size, start_token)
        token = events.token
        uniform = np.full(vocab_size, 1 / vocab_size)
        unigram = _Table(token, np.zeros_like(token), uniform)
        everything = np.arange(vocab_size)
        known = unigram.probability(everything, np.zeros_like(everything))
        self._tables = {"unigram": unigram} | {
            name: _Table(token, getattr(events, name), known) for name in CONDITIONAL
        }
        self.entropies = {"uniform": float(np.log(vocab_size))} | {
            name: table.entropy for name, table in self._tables.items()
        }

    def nats(self, sequences: Sequences) -> dict[str, FloatArray]:
        """Negative log-likelihood of every sequence in nats by reference model, each of shape (n_sequences,)."""
        events = _events(sequences, self.vocab_size, self.start_token)
        context = {"unigram": np.zeros_like(events.token)} | {n: getattr(events, n) for n in CONDITIONAL}
        surprise = {"uniform": np.full(len(events.token), np.log(self.vocab_size))} | {
            name: -np.log(table.probability(events.token, context[name]))
            for name, table in self._tables.items()
        }
        sums = {name: np.bincount(events.sequence, s, events.n_sequences) for name, s in surprise.items()}
        return {name: s.astype(np.float64) for name, s in sums.items()}

    def levels(self, held_out: Sequences) -> ReferenceLevels:
        """Return the levels, and the losses of the tables on held-out sequences with their errors."""
        counts = _events(held_out, self.vocab_size, self.start_token).lengths
        n_tokens, n_jets = int(counts.sum()), int(np.count_nonzero(counts))
        losses, errors = {}, {}
        for name, nats in self.nats(held_out).items():
            losses[name] = float(nats.sum() / n_tokens)
            errors[name] = float(np.sqrt(np.sum((nats - losses[name] * counts) ** 2)) / n_tokens)
        return ReferenceLevels(self.entropies, losses, errors, n_tokens / n_jets, n_tokens, n_jets)


def reference_levels(
    train: Sequences, held_out: Sequences, vocab_size: int, *, start_token: int | None = None
) -> ReferenceLevels:
    """Levels of the reference models, counted on some sequences and checked on others.

    Parameters
    ----------
    train : Sequences
        Sequences to count.
    held_out : Sequences
        Other sequences: a table scored on those that it was counted on would seem to know more than it does.
    vocab_size : int
        Number of tokens that a model can choose from.
    start_token : int, optional
        Token that is left out where it opens a sequence, because it is given and not predicted.

    Returns
    -------
    ReferenceLevels

    Raises
    ------
    InputError
        As for `ReferenceModels`.
    """
    return ReferenceModels(Sequences(*train), vocab_size, start_token=start_token).levels(
        Sequences(*held_out)
    )


def class_levels(counts: Sequence[int]) -> ReferenceLevels:
    """Reference levels of a tagger in nats per jet: ln(number of classes), and the entropy of the class shares.

    Parameters
    ----------
    counts : sequence of int
        Jets of each class.

    Returns
    -------
    ReferenceLevels

    Raises
    ------
    InputError
        For fewer than two classes, negative counts, or no jets.
    """
    n = np.asarray(counts, dtype=np.int64)
    if n.ndim != 1 or len(n) < 2 or (n < 0).any() or not n.any():
        raise InputError(f"counts: expected the jets of two or more classes, found {counts!r}")
    total = int(n.sum())
    labels = np.repeat(np.arange(len(n)), n)
    prior, surprise = conditional_entropy(labels, np.zeros(total, dtype=np.int64))
    levels = {"uniform": float(np.log(len(n))), "prior": prior}
    errors = {"uniform": 0.0, "prior": float(surprise.std() / np.sqrt(total))}
    return ReferenceLevels(levels, levels, errors, n_tokens=total, n_jets=total)


def conditional_entropy(x: IntArray, context: IntArray) -> tuple[float, FloatArray]:
    """Entropy H(x | context) in nats with Grassberger's correction, and the plug-in surprise -ln p of every event.

    In each context the estimate is ln n - (1/n) sum_i n_i G(n_i) (arXiv:physics/0307138); contexts are
    averaged with their shares.

    Parameters
    ----------
    x : ndarray of int, shape (n,)
        Events, not negative.
    context : ndarray of int, shape (n,)
        What each event is conditioned on, not negative.

    Returns
    -------
    entropy : float
        In nats per event.
    surprise : ndarray of float, shape (n,)
    """
    width = int(x.max()) + 1
    _, event, counts = np.unique(context * width + x, return_inverse=True, return_counts=True)
    _, group, totals = np.unique(context, return_inverse=True, return_counts=True)
    surprise = np.log(totals[group]) - np.log(counts[event])
    return _corrected_entropy(counts, totals), surprise


def _corrected_entropy(counts: IntArray, totals: IntArray) -> float:
    """Corrected conditional entropy from the counts of events and of contexts."""
    return float((np.sum(totals * np.log(totals)) - np.sum(counts * _grassberger(counts))) / counts.sum())


def _grassberger(n: IntArray) -> FloatArray:
    """G(n) = psi(n) + (-1)^n/2 (psi((n+1)/2) - psi(n/2)): replaces ln n so that small counts do not bias."""
    sign = np.where(n % 2 == 0, 1.0, -1.0)
    return digamma(n) + 0.5 * sign * (digamma((n + 1) / 2) - digamma(n / 2))


class _Table:
    """Probabilities of tokens by context, discounted in favour of a simpler model ``fallback``, shape (V,)."""

    def __init__(self, token: IntArray, context: IntArray, fallback: FloatArray) -> None:
        self._fallback = fallback
        self._keys, self._counts = np.unique(context * len(fallback) + token, return_counts=True)
        self._contexts, first = np.unique(self._keys // len(fallback), return_index=True)
        self._totals = np.add.reduceat(self._counts, first)
        self._kinds = np.diff(np.append(first, len(self._keys)))
        # The discount n_1 / (n_1 + 2 n_2) maximises the leave-one-out likelihood to first order (Ney et al.);
        # the added counts keep it between 0 and 1 where no event was seen once or twice.
        once, twice = (int(np.count_nonzero(self._counts == n)) for n in (1, 2))
        self._discount = (once + 1) / (once + 2 * twice + 2)
        self.entropy = _corrected_entropy(self._counts, self._totals)

    def probability(self, token: IntArray, context: IntArray) -> FloatArray:
        """Probability of tokens in their contexts; a context never seen has that of the fallback."""
        count, _ = _look_up(self._keys, self._counts, context * len(self._fallback) + token)
        total, seen = _look_up(self._contexts, self._totals, context)
        kinds, _ = _look_up(self._contexts, self._kinds, context)
        freed = self._discount * kinds * self._fallback[token]
        kept = np.maximum(count - self._discount, 0.0)
        return np.where(seen, (kept + freed) / np.maximum(total, 1), self._fallback[token])


def _look_up(keys: IntArray, values: IntArray, wanted: IntArray) -> tuple[IntArray, NDArray[np.bool_]]:
    """Values of sorted keys, 0 for a key that is missing; and which are there."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    found = keys[place] == wanted
    return np.where(found, values[place], 0), found


class _Events(NamedTuple):
    """Predicted tokens with what the tables condition on; ``bigram`` is the token before, V at the beginning."""

    token: IntArray
    sequence: IntArray
    position: IntArray
    bigram: IntArray
    n_sequences: int

    @property
    def lengths(self) -> IntArray:
        return np.bincount(self.sequence, minlength=self.n_sequences)


def _events(sequences: Sequences, vocab_size: int, start_token: int | None) -> _Events:
    flat, edges = _checked(*sequences, vocab_size)
    lengths = np.diff(edges)
    sequence = np.repeat(np.arange(len(lengths)), lengths)
    position = np.arange(len(flat)) - np.repeat(edges[:-1], lengths)
    previous = np.where(position == 0, vocab_size, np.roll(flat, 1))
    if start_token is not None:
        opening = (position == 0) & (flat == start_token)
        shifted = np.repeat(np.bincount(sequence[opening], minlength=len(lengths)), lengths)
        previous = np.where(shifted.astype(bool) & (position == 1), vocab_size, previous)
        position = position - shifted
        flat, sequence, position, previous = (a[~opening] for a in (flat, sequence, position, previous))
    if not len(flat):
        raise InputError("tokens: no token is left to predict")
    return _Events(flat, sequence, position, previous, len(lengths))


def _checked(tokens: ArrayLike, offsets: ArrayLike, vocab_size: int) -> tuple[IntArray, IntArray]:
    flat, edges = np.asarray(tokens), np.asarray(offsets)
    for name, values in {"tokens": flat, "offsets": edges}.items():
        if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
            raise InputError(f"{name}: expected a one-dimensional array of integers, found {values.dtype}")
    if len(edges) < 2 or edges[0] != 0 or edges[-1] != len(flat) or (np.diff(edges) < 0).any():
        raise InputError(f"offsets: must rise from 0 to the number of tokens, {len(flat)}")
    if not len(flat):
        raise InputError("tokens: there are none")
    if flat.min() < 0 or flat.max() >= vocab_size:
        worst = flat.max() if flat.max() >= vocab_size else flat.min()
        raise InputError(f"tokens: found {worst}, outside the vocabulary 0..{vocab_size - 1}")
    return flat.astype(np.int64), edges.astype(np.int64)
