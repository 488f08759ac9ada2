"""Calibration of class probabilities: reliability, calibration error over its floor, temperature.

A tagger is calibrated if 70 % of the jets to which it gives a probability of 70 % are of that class. The expected
calibration error (ECE) of a finite sample is never zero, even for a perfect tagger: its floor is the ECE of labels
drawn from the tagger's own probabilities, and only the excess over the floor is meaningful (Broecker & Smith 2007;
Roelofs et al., arXiv:2012.08668). The temperature T that minimises the loss of softmax(ln p / T) tells in which
direction a tagger errs: above one it is overconfident (Guo et al., arXiv:1706.04599). Its error is that of a
misspecified model (the sandwich estimator), because no temperature needs to be exactly right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import log_softmax, softmax
from scipy.stats import norm

from eval.common.errors import InputError
from eval.common.results import plain_fields
from eval.tagging.rejection import clopper_pearson
from eval.tagging.score import check_probabilities

FloatArray = NDArray[np.float64]

#: A deviation is called resolved if its probability under perfect calibration is below this value.
RESOLVED_P = 0.01

#: Temperatures tried.
_COLDEST, _HOTTEST = 0.02, 50.0


@dataclass(frozen=True, eq=False)
class Reliability:
    """Observed frequencies of an event against its stated probabilities.

    Attributes
    ----------
    stated : array of float, shape (B,)
        Mean stated probability in each bin; the bins hold equal numbers of jets.
    observed : array of float, shape (B,)
        Fraction of the jets in each bin for which the event happened.
    low : array of float, shape (B,)
        Lower end of its 68 % Clopper-Pearson interval.
    high : array of float, shape (B,)
        Upper end of that interval.
    count : array of int, shape (B,)
        Number of jets in each bin.
    error : float
        Expected calibration error: mean of ``|observed - stated|``, weighted by count.
    floor : float
        Mean of this error under perfect calibration, at this sample size.
    floor_spread : float
        Standard deviation of this error under perfect calibration.
    p_value : float
        Probability, under perfect calibration, of an error at least as large.
    """

    stated: FloatArray
    observed: FloatArray
    low: FloatArray
    high: FloatArray
    count: NDArray[np.int64]
    error: float
    floor: float
    floor_spread: float
    p_value: float

    @property
    def resolved(self) -> bool:
        """Whether the error is significantly above its floor."""
        return self.p_value < RESOLVED_P

    def resolved_among(self, events: int) -> bool:
        """Whether the error is significantly above its floor if it is one of several events that were examined.

        This takes probabilities that are too small for a few hundred draws of the floor, so that the standard deviation
        of the draws is used.
        """
        return self.resolved and self.error > self.floor + norm.isf(RESOLVED_P / events) * self.floor_spread

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**plain_fields(self), "resolved": self.resolved}


@dataclass(frozen=True, eq=False)
class Calibration:
    """Calibration of a tagger on a test set.

    Attributes
    ----------
    n_jets : int
        Number of test jets.
    confidence : Reliability
        Reliability of the most probable class: its probability, and whether it is right.
    classes : mapping of str to Reliability
        Reliability of each class: its probability, and whether the jet is of this class.
    at_temperature : Reliability
        As ``confidence`` at the best temperature: the part that no temperature can correct.
    temperature : float
        The T that minimises the loss of softmax(ln p / T); above 1 the tagger is overconfident.
    temperature_error : float
        Standard error of T.
    loss : float
        Loss in nats per jet.
    loss_at_temperature : float
        Loss in nats per jet at the best temperature.
    """

    n_jets: int
    confidence: Reliability
    classes: Mapping[str, Reliability]
    at_temperature: Reliability
    temperature: float
    temperature_error: float
    loss: float
    loss_at_temperature: float

    @property
    def significance(self) -> float:
        """Deviation of ln T from zero in standard errors; positive is overconfident."""
        if self.temperature_error == 0:  # no temperature changes probabilities of zero and one
            return 0.0
        return float(np.log(self.temperature) * self.temperature / self.temperature_error)

    @property
    def verdict(self) -> str:
        """The conclusion that these jets allow, in one sentence."""
        c = self.confidence
        size = (
            f"expected calibration error {100 * c.error:.2f} points, of which {100 * c.floor:.2f} ± "
            f"{100 * c.floor_spread:.2f} come from n = {self.n_jets:,} alone"
        )
        temperature = f"T = {self.temperature:.3f} ± {self.temperature_error:.3f}"
        worst = [name for name, r in self.classes.items() if r.resolved_among(len(self.classes))]
        if abs(self.significance) > 3:
            word = "overconfident" if self.temperature > 1 else "underconfident"
            gain = self.loss - self.loss_at_temperature
            left = self.at_temperature
            rest = (
                f"{100 * left.error:.2f} points, floor {100 * left.floor:.2f} ± {100 * left.floor_spread:.2f}"
            )
            rest = f"; with that temperature {rest}" + (", still resolved" if left.resolved else "")
            return f"{word}: {temperature}, {size}; the right temperature would gain {gain:.4f} nats{rest}"
        if c.resolved or worst:
            where = f" (in {', '.join(worst)})" if worst else ""
            return f"miscalibrated{where}, but not by a temperature: {temperature}, {size}"
        return f"no miscalibration resolved: {temperature}, {size}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**plain_fields(self), "verdict": self.verdict}


def calibrate(
    probabilities: ArrayLike,
    labels: ArrayLike,
    class_names: Sequence[str],
    *,
    n_bins: int = 15,
    resamples: int = 200,
    seed: int = 0,
) -> Calibration:
    """Measure the calibration of the most probable class and of every class.

    Parameters
    ----------
    probabilities : array-like of float, shape (n, classes)
        Class probabilities; rows sum to one.
    labels : array-like of int, shape (n,)
        Column of the true class of each jet.
    class_names : sequence of str
        Name of each column.
    n_bins : int
        Number of bins, which hold equal numbers of jets; at least 2 and at most a tenth of the jets.
    resamples : int
        Number of sets of labels that are drawn from the probabilities for floors and p-values.
    seed : int
        Seed of these labels.

    Returns
    -------
    Calibration

    Raises
    ------
    InputError
        There are too few jets for the bins, or the input is invalid as in `score_tagger`.
    """
    p, y, names = check_probabilities(probabilities, labels, class_names)
    n = len(y)
    if not 2 <= n_bins <= n // 10:
        raise InputError(f"n_bins: {n_bins} bins for {n} jets; from 2 to {n // 10} can be filled")
    p = p / p.sum(axis=1, keepdims=True)
    best = p.argmax(axis=1)
    rng = np.random.default_rng(seed)
    temperature, error, losses = _temperature(p, y)
    mended = softmax(np.log(np.maximum(p, 1e-45)) / temperature, axis=1)
    return Calibration(
        n_jets=n,
        confidence=reliability(p[np.arange(n), best], best == y, n_bins, resamples, rng),
        classes={name: reliability(p[:, k], y == k, n_bins, resamples, rng) for k, name in enumerate(names)},
        at_temperature=reliability(mended[np.arange(n), best], best == y, n_bins, resamples, rng),
        temperature=temperature,
        temperature_error=error,
        loss=losses[0],
        loss_at_temperature=losses[1],
    )


def reliability(
    stated: FloatArray, happened: NDArray[np.bool_], n_bins: int, resamples: int, rng: np.random.Generator
) -> Reliability:
    """Measure the reliability of one event from its probabilities (n,) and outcomes (n,), in bins of equal counts."""
    order = np.argsort(stated, kind="stable")
    p, hit = stated[order], happened[order].astype(np.float64)
    edges = np.linspace(0, len(p), n_bins + 1).astype(int)
    count = np.diff(edges)
    mean = np.add.reduceat(p, edges[:-1]) / count
    total = np.add.reduceat(hit, edges[:-1])
    low, high = clopper_pearson(total, count)

    def deviation(hits: FloatArray) -> float:
        return float(np.abs(np.add.reduceat(hits, edges[:-1]) - mean * count).sum() / len(p))

    null = np.array([deviation((rng.random(len(p)) < p).astype(np.float64)) for _ in range(resamples)])
    found = deviation(hit)
    return Reliability(
        stated=mean,
        observed=total / count,
        low=low,
        high=high,
        count=count,
        error=found,
        floor=float(null.mean()),
        floor_spread=float(null.std(ddof=1)),
        p_value=float((1 + (null >= found - 1e-12).sum()) / (1 + resamples)),
    )


def _temperature(p: FloatArray, y: NDArray[np.int64]) -> tuple[float, float, tuple[float, float]]:
    """Return the best temperature, its sandwich error, and the losses at T = 1 and at the best temperature."""
    logits = np.log(np.maximum(p, 1e-45))
    rows = np.arange(len(y))

    def slopes(inverse: float) -> tuple[FloatArray, FloatArray]:
        """Return the first and second derivative of each jet's loss with respect to 1/T, (n,) and (n,)."""
        share = np.exp(log_softmax(inverse * logits, axis=1))
        mean = (share * logits).sum(axis=1)
        return mean - logits[rows, y], (share * logits**2).sum(axis=1) - mean**2

    def total(inverse: float) -> float:
        return float(slopes(inverse)[0].mean())

    # The loss is convex in 1/T: its derivative changes sign once, or the best T lies at an end of the range.
    low, high = 1 / _HOTTEST, 1 / _COLDEST
    if total(low) >= 0:
        inverse = low
    elif total(high) <= 0:
        inverse = high
    else:
        inverse = float(brentq(total, low, high, xtol=1e-10))
    first, second = slopes(inverse)
    error = np.sqrt((first**2).mean() / len(y)) / max(float(second.mean()), 1e-300)
    losses = tuple(float(-log_softmax(b * logits, axis=1)[rows, y].mean()) for b in (1.0, inverse))
    return 1 / inverse, float(error / inverse**2), (losses[0], losses[1])
