"""Background rejection of a tagger at fixed signal efficiency, with its binomial error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta

from eval.common.errors import InputError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Rejection:
    """Rejection 1 / (background efficiency) at one working point.

    Attributes
    ----------
    efficiency : float
        Requested signal efficiency.
    threshold : float
        Jets with at least this score are kept.
    background_efficiency : float
        Fraction of the background that is kept.
    value : float
        Rejection; infinite if no background jet is kept.
    standard_error : float
        Binomial error, from the background alone; infinite if no background jet is kept.
    low : float
        Lower end of the 68 % Clopper-Pearson interval of the rejection.
    high : float
        Upper end of this interval; infinite if no background jet is kept.
    limit95 : float
        One-sided lower limit at 95 % confidence, the only statement possible if no background jet is kept.
    n_kept : int
        Number of background jets that are kept.
    """

    efficiency: float
    threshold: float
    background_efficiency: float
    value: float
    standard_error: float
    low: float
    high: float
    limit95: float
    n_kept: int


def rejection(signal_scores: ArrayLike, background_scores: ArrayLike, efficiency: float) -> Rejection:
    """Return the background rejection at a signal efficiency.

    Parameters
    ----------
    signal_scores : array-like of float, shape (S,)
        Scores of signal jets, larger for more signal-like jets.
    background_scores : array-like of float, shape (B,)
        Scores of background jets.
    efficiency : float
        Fraction of the signal to keep, in (0, 1]; the threshold is the largest that keeps it.

    Returns
    -------
    Rejection

    Raises
    ------
    InputError
        Scores are missing or not finite, or the efficiency is outside (0, 1].
    """
    signal, background = (
        _scores(signal_scores, "signal_scores"),
        _scores(background_scores, "background_scores"),
    )
    if not 0 < efficiency <= 1:
        raise InputError(f"efficiency is {efficiency}: a share above 0 and up to 1 is needed")
    kept_signal = int(np.ceil(efficiency * signal.size - 1e-9))
    threshold = float(np.partition(signal, signal.size - kept_signal)[signal.size - kept_signal])
    n, k = background.size, int(np.count_nonzero(background >= threshold))
    share = k / n
    lowest, highest = map(float, clopper_pearson(k, n))
    highest95 = float(beta.ppf(0.95, k + 1, n - k)) if k < n else 1.0
    return Rejection(
        efficiency=efficiency,
        threshold=threshold,
        background_efficiency=share,
        value=n / k if k else np.inf,
        standard_error=float(np.sqrt(share * (1 - share) / n) / share**2) if k else np.inf,
        low=1 / highest,
        high=1 / lowest if lowest > 0 else np.inf,
        limit95=1 / highest95,
        n_kept=k,
    )


def clopper_pearson(kept: ArrayLike, n: ArrayLike, level: float = 0.6827) -> tuple[FloatArray, FloatArray]:
    """Return the ends of the Clopper-Pearson interval of a fraction, of which ``kept`` of ``n`` jets were counted."""
    k, n = np.asarray(kept), np.asarray(n)
    tail = 0.5 * (1 - level)
    low = np.where(k > 0, beta.ppf(tail, np.maximum(k, 0.5), n - k + 1), 0.0)
    high = np.where(k < n, beta.ppf(1 - tail, k + 1, np.maximum(n - k, 0.5)), 1.0)
    return low, high


def area_under_curve(signal_scores: ArrayLike, background_scores: ArrayLike) -> tuple[float, float]:
    """Return the area under the ROC curve and its standard error.

    The area is the probability that a signal jet scores above a background jet, with ties counting one half. The error
    is that of DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988) 837, for independent jets.
    """
    signal, background = (
        _scores(signal_scores, "signal_scores"),
        _scores(background_scores, "background_scores"),
    )
    # Placement of each jet: the fraction of the other class that it exceeds.
    of_signal = _placement(signal, background)
    of_background = 1 - _placement(background, signal)
    variance = sum(
        placement.var(ddof=1) / placement.size if placement.size > 1 else np.inf
        for placement in (of_signal, of_background)
    )
    return float(of_signal.mean()), float(np.sqrt(variance))


def _placement(scores: FloatArray, others: FloatArray) -> FloatArray:
    ordered = np.sort(others)
    below, up_to = np.searchsorted(ordered, scores, "left"), np.searchsorted(ordered, scores, "right")
    return 0.5 * (below + up_to) / others.size


def _scores(values: ArrayLike, name: str) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise InputError(f"{name} has shape {array.shape}: a non-empty list of scores is needed")
    if not np.isfinite(array).all():
        raise InputError(
            f"{name}: {np.count_nonzero(~np.isfinite(array))} of {array.size} scores are not finite"
        )
    return array
