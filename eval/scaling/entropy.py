"""Reference levels of token sequences: how many nats per token a model pays that knows nothing, or little."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import digamma

from eval.errors import InputError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class ReferenceLevels:
    """Entropies in nats per token of models without, or with little, knowledge.

    Attributes
    ----------
    levels : dict of str to float
        ``uniform`` (ln V), ``unigram``, ``position`` (unigram given the position), ``bigram`` (given the
        last token).
    errors : dict of str to float
        Standard errors from the spread between sequences.
    coverage : dict of str to float
        Good-Turing estimate of the probability that the next event was seen before: 1 - (events seen
        once)/(all).
        Below 0.9 the finite-sample correction is large and the level unreliable.
    n_tokens, n_sequences : int
    """

    levels: dict[str, float]
    errors: dict[str, float]
    coverage: dict[str, float]
    n_tokens: int
    n_sequences: int

    @property
    def undersampled(self) -> tuple[str, ...]:
        """Levels whose coverage is below 0.9."""
        return tuple(name for name, share in self.coverage.items() if share < 0.9)

    def to_dict(self) -> dict[str, Any]:
        """Plain form for JSON."""
        return {**self.__dict__, "undersampled": list(self.undersampled)}


def entropies(
    tokens: ArrayLike, offsets: ArrayLike, vocab_size: int, *, start_token: int | None = None
) -> ReferenceLevels:
    """Uniform, unigram, position-conditional unigram and bigram entropies of token sequences.

    Every token is an event that a model has to predict: pass the sequences with their stop token and without
    padding.
    The first token of a sequence is conditioned on "nothing before it".

    Parameters
    ----------
    tokens : array-like of int, shape (n_tokens,)
        All sequences one after another.
    offsets : array-like of int, shape (n_sequences + 1,)
        Sequence i is ``tokens[offsets[i]:offsets[i + 1]]``.
    vocab_size : int
        Number of tokens the model can choose from.
    start_token : int, optional
        Leave out this token where it opens a sequence: it is given, not predicted.

    Returns
    -------
    ReferenceLevels
        With Grassberger's finite-sample correction (arXiv:physics/0307138).

    Raises
    ------
    InputError
        Offsets that do not delimit the tokens, or a token outside the vocabulary.
    """
    flat, edges = _checked(tokens, offsets, vocab_size)
    lengths = np.diff(edges)
    sequence = np.repeat(np.arange(len(lengths)), lengths)
    position = np.arange(len(flat)) - np.repeat(edges[:-1], lengths)
    # Contexts of the bigram are 0..V-1 and V for "nothing before".
    previous = np.where(position == 0, vocab_size, np.roll(flat, 1))
    if start_token is not None:
        opening = (position == 0) & (flat == start_token)
        shifted = np.repeat(np.bincount(sequence[opening], minlength=len(lengths)), lengths)
        previous = np.where(shifted.astype(bool) & (position == 1), vocab_size, previous)
        position = position - shifted
        flat, sequence, position, previous = (a[~opening] for a in (flat, sequence, position, previous))
    if not len(flat):
        raise InputError("tokens: no token is left to predict")
    contexts: dict[str, IntArray] = {
        "unigram": np.zeros_like(flat),
        "position": position,
        "bigram": previous,
    }
    levels, errors, coverage = {"uniform": float(np.log(vocab_size))}, {"uniform": 0.0}, {"uniform": 1.0}
    for name, context in contexts.items():
        levels[name], surprise, coverage[name] = conditional_entropy(flat, context)
        errors[name] = _error_of_mean(surprise, sequence)
    return ReferenceLevels(levels, errors, coverage, len(flat), len(np.unique(sequence)))


def class_levels(counts: Sequence[int]) -> ReferenceLevels:
    """Reference levels of a tagger, nats per jet: ln(classes) and the entropy of the class shares."""
    n = np.asarray(counts, dtype=np.int64)
    if n.ndim != 1 or len(n) < 2 or (n < 0).any() or not n.any():
        raise InputError(f"counts: expected the jets of two or more classes, found {counts!r}")
    total = int(n.sum())
    prior, surprise, coverage = conditional_entropy(
        np.repeat(np.arange(len(n)), n), np.zeros(total, dtype=int)
    )
    return ReferenceLevels(
        {"uniform": float(np.log(len(n))), "prior": prior},
        {"uniform": 0.0, "prior": float(surprise.std() / np.sqrt(total))},
        {"uniform": 1.0, "prior": coverage},
        total,
        total,
    )


def conditional_entropy(x: IntArray, context: IntArray) -> tuple[float, FloatArray, float]:
    """H(x | context) in nats, corrected; the plug-in surprise -ln p of every event; and the coverage.

    In each context the estimator is ln n - (1/n) sum_i n_i G(n_i) (Grassberger 2003); contexts are averaged
    with
    their shares.
    """
    width = int(x.max()) + 1
    _, event, counts = np.unique(context * width + x, return_inverse=True, return_counts=True)
    _, group, totals = np.unique(context, return_inverse=True, return_counts=True)
    n = len(x)
    entropy = (np.sum(totals * np.log(totals)) - np.sum(counts * _grassberger(counts))) / n
    surprise = np.log(totals[group]) - np.log(counts[event])
    return float(entropy), surprise, 1 - float((counts == 1).sum()) / n


def _grassberger(n: IntArray) -> FloatArray:
    """G(n) = psi(n) + (-1)^n/2 (psi((n+1)/2) - psi(n/2)): replaces ln n so that small counts do not bias."""
    sign = np.where(n % 2 == 0, 1.0, -1.0)
    return digamma(n) + 0.5 * sign * (digamma((n + 1) / 2) - digamma(n / 2))


def _error_of_mean(surprise: FloatArray, sequence: IntArray) -> float:
    """Error of sum/count with whole sequences as the independent units."""
    _, index = np.unique(sequence, return_inverse=True)
    deviation = np.bincount(index, weights=surprise - surprise.mean())
    return float(np.sqrt(np.sum(deviation**2)) / len(surprise))


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
