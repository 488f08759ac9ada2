"""Does a lower loss mean better jets? Rank correlation, monotonicity, and where fidelity stops growing.

Amram et al. (arXiv:2605.28940) find the sliced Wasserstein distance (SWD) of generated jets monotonically
related to the validation loss over a ladder of models. A handful of models with errors cannot always tell;
everything here comes with an interval or a probability, and the verdict may be that the runs cannot tell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression
from scipy.stats import kendalltau, spearmanr

from eval.errors import InputError
from eval.fidelity.floors import RESOLVED_AT

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A number with its central 68 % interval; the interval is None when the models cannot give one."""

    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class LossFidelity:
    """Relation of SWD to loss over a ladder of models.

    Attributes
    ----------
    n_models : rungs.
    spearman, kendall : rank correlations, +1 when a lower loss always has a lower SWD. Intervals by
        resampling models and shifting each SWD (and loss) within its error.
    p_no_relation : probability of a Kendall correlation at least as high if loss and SWD were unrelated,
        over permutations (all of them up to 8 models).
    p_monotone : largest probability, over all curves that never fall, of deviations from the best such curve
        at least as large as seen. Small: the relation is not monotonic.
    loss_at_floor : loss at which SWD comes down to the resolution limit, floor + 3 spreads; None when no
        model reaches it. Never extrapolated.
    share_reaching : share of resamplings in which the limit is reached.
    verdict : one sentence.
    """

    n_models: int
    spearman: Estimate
    kendall: Estimate
    p_no_relation: float
    p_monotone: float
    loss_at_floor: Estimate | None
    share_reaching: float
    verdict: str


def loss_vs_fidelity(
    losses: ArrayLike,
    distances: ArrayLike,
    distance_errors: ArrayLike,
    floor_mean: float,
    floor_spread: float,
    loss_errors: ArrayLike | None = None,
    models: Sequence[str] | None = None,
    n_bootstrap: int = 2000,
    seed: int = 0,
) -> LossFidelity:
    """Relate validation loss and SWD of several models.

    Parameters
    ----------
    losses : (K,) validation losses, nats per token.
    distances, distance_errors : (K,) SWDs and their standard errors over jets (``Distance.error_jets``: the
        error over directions is common to all models of one seed).
    floor_mean, floor_spread : of the reference-against-reference floor at the same sample size.
    loss_errors : (K,) standard errors of the losses; none by default.
    models : K names; runs of one name are seeds of one model. They are averaged, for they are no independent rungs,
        and what they scatter beyond the errors enters the error of every model. By default each run is a model.
    n_bootstrap, seed : resamplings behind the intervals and p_monotone.

    Raises
    ------
    InputError
        For fewer than 3 models, unequal lengths, or numbers that are not finite, or errors not above 0.
    """
    loss, distance = _column(losses, "losses"), _column(distances, "distances")
    error = _column(distance_errors, "distance_errors")
    loss_error = np.zeros(loss.size) if loss_errors is None else _column(loss_errors, "loss_errors")
    if not loss.size == distance.size == error.size == loss_error.size:
        raise InputError(
            f"losses, distances and errors differ in length: {loss.size}, {distance.size}, {error.size}, "
            f"{loss_error.size}; one of each a model is needed"
        )
    if (error <= 0).any():
        raise InputError("distance_errors must be above 0: without errors no deviation can be judged")
    if models is not None:
        if len(models) != loss.size:
            raise InputError(f"models: {len(models)} names for {loss.size} runs")
        loss, distance, error, loss_error = _average_seeds(models, loss, distance, error, loss_error)
    if loss.size < 3:
        raise InputError(f"{loss.size} models: at least 3 are needed to speak of a relation")
    rng = np.random.default_rng(seed)
    limit = floor_mean + RESOLVED_AT * floor_spread

    samples = []
    meetings = []
    for _ in range(n_bootstrap):
        shifted_loss = loss + loss_error * rng.standard_normal(loss.size)
        shifted = distance + error * rng.standard_normal(loss.size)
        meetings.append(_loss_at(shifted_loss, shifted, error, limit))
        pick = rng.integers(0, loss.size, loss.size)
        if np.unique(pick).size >= 3:
            samples.append((shifted_loss[pick], shifted[pick]))
    spearman = _rank_estimate(lambda a, b: float(spearmanr(a, b)[0]), loss, distance, samples)
    kendall = _rank_estimate(lambda a, b: float(kendalltau(a, b)[0]), loss, distance, samples)
    p_no_relation = _permutation_p(loss, distance, rng)
    p_monotone = _monotone_p(loss, distance, error, n_bootstrap, rng)

    meeting = _loss_at(loss, distance, error, limit)
    reached = np.array([value for value in meetings if value is not None])
    at_floor = None
    if meeting is not None:
        interval = _interval(reached) if reached.size > 0.5 * n_bootstrap else None
        at_floor = Estimate(meeting, interval)
    return LossFidelity(
        n_models=loss.size,
        spearman=spearman,
        kendall=kendall,
        p_no_relation=p_no_relation,
        p_monotone=p_monotone,
        loss_at_floor=at_floor,
        share_reaching=reached.size / n_bootstrap,
        verdict=_verdict(kendall.value, p_no_relation, p_monotone, loss.size),
    )


def _average_seeds(
    models: Sequence[str], loss: FloatArray, distance: FloatArray, error: FloatArray, loss_error: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Loss, SWD and their errors of each model from those of its runs."""
    names, index, count = np.unique(np.asarray(models), return_inverse=True, return_counts=True)

    def mean(values: FloatArray) -> FloatArray:
        return np.bincount(index, values) / count

    spare = loss.size - names.size
    scatter = float(np.sum((distance - mean(distance)[index]) ** 2)) / spare if spare else 0.0
    training = max(scatter - float(np.mean(error**2)), 0.0)
    # Losses are measured on the same jets: their error does not fall with the number of seeds.
    return mean(loss), mean(distance), np.sqrt((mean(error**2) + training) / count), mean(loss_error)


def _column(values: ArrayLike, name: str) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise InputError(f"{name} must be one finite number a model")
    return array


def _rank_estimate(
    statistic: Callable[[FloatArray, FloatArray], float],
    loss: FloatArray,
    distance: FloatArray,
    samples: Sequence[tuple[FloatArray, FloatArray]],
) -> Estimate:
    values = np.array([statistic(a, b) for a, b in samples])
    values = values[np.isfinite(values)]
    # Three models have six orders: their resamplings say nothing about the next model.
    return Estimate(
        round(statistic(loss, distance), 12), _interval(values) if loss.size > 3 and values.size else None
    )


def _interval(values: FloatArray) -> tuple[float, float]:
    low, high = np.quantile(values, [0.16, 0.84])
    return float(low), float(high)


def _permutation_p(loss: FloatArray, distance: FloatArray, rng: np.random.Generator) -> float:
    if loss.size <= 8:
        orders = [np.array(order) for order in permutations(range(loss.size))]
        extra = 0
    else:
        orders = [rng.permutation(loss.size) for _ in range(5000)]
        extra = 1
    # Kendall's S: tau without its normalisation, which is the same for every order.
    sign_loss = np.sign(np.subtract.outer(loss, loss))
    sign_distance = np.sign(np.subtract.outer(distance, distance))
    observed = float((sign_loss * sign_distance).sum())
    stacked = np.array(orders)
    sums = np.einsum("ij,kij->k", sign_loss, sign_distance[stacked[:, :, None], stacked[:, None, :]])
    return float((np.count_nonzero(sums >= observed) + extra) / (len(orders) + extra))


def _rising_curve(loss: FloatArray, distance: FloatArray, error: FloatArray) -> FloatArray:
    """Weighted isotonic fit of distance on loss, in the order of the input."""
    order = np.argsort(loss, kind="stable")
    fit = np.empty_like(distance)
    fit[order] = isotonic_regression(distance[order], weights=1 / error[order] ** 2).x
    return fit


def _monotone_p(
    loss: FloatArray, distance: FloatArray, error: FloatArray, n_samples: int, rng: np.random.Generator
) -> float:
    def deviation(values: FloatArray) -> float:
        return float(np.sum(((values - _rising_curve(loss, values, error)) / error) ** 2))

    # A flat curve is the rising curve that noise bends most easily (Robertson, Wright and Dykstra, Order
    # Restricted Statistical Inference, 1988, section 2.3), so this probability is never too small.
    observed = deviation(distance)
    null = [deviation(error * rng.standard_normal(loss.size)) for _ in range(n_samples)]
    return float((1 + np.count_nonzero(np.array(null) >= observed - 1e-12)) / (1 + n_samples))


def _loss_at(loss: FloatArray, distance: FloatArray, error: FloatArray, limit: float) -> float | None:
    """Largest loss at which the rising curve is down at the limit, by linear interpolation between models."""
    order = np.argsort(loss, kind="stable")
    x, y = loss[order], _rising_curve(loss, distance, error)[order]
    below = np.flatnonzero(y <= limit)
    if below.size == 0:
        return None
    i = int(below[-1])
    if i == x.size - 1:
        return float(x[i])
    return float(x[i] + (x[i + 1] - x[i]) * (limit - y[i]) / (y[i + 1] - y[i]))


def _verdict(kendall: float, p_no_relation: float, p_monotone: float, n_models: int) -> str:
    if p_monotone < 0.05:
        return (
            f"contradicts a monotonic relation: deviations from a rising curve this large have "
            f"probability {p_monotone:.2g} over {n_models} models"
        )
    if p_no_relation < 0.05:
        return (
            f"supports a monotonic relation: Kendall's tau {kendall:.2f} over {n_models} models, by chance "
            f"with probability {p_no_relation:.2g}, and no deviation beyond the errors"
        )
    return (
        f"cannot tell: Kendall's tau {kendall:.2f} over {n_models} models would arise by chance with "
        f"probability {p_no_relation:.2g}"
    )
