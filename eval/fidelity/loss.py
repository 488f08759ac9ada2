"""Whether a lower loss means better jets: rank correlation, monotonicity, and where the distance reaches its floor.

Amram et al. (arXiv:2605.28940) find the sliced Wasserstein distance (SWD) of generated jets monotonically related to
the validation loss over a ladder of models. A handful of models with errors cannot always tell. Everything here comes
with an interval or a probability, and the verdict names the models over which the rise is resolved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression
from scipy.stats import chi2, kendalltau, norm, spearmanr

from eval.common.errors import InputError
from eval.common.results import Estimate, Unavailable
from eval.fidelity.floors import RESOLVED_AT

FloatArray = NDArray[np.float64]

#: Least number of models in a chain of resolved steps from the highest loss to the lowest that supports monotonicity.
LEAST_CHAIN: Final = 4

#: Probability that a step of a chain is resolved, or a curve called falling, where there is no difference.
_CHANCE: Final = 0.05

#: Seeds whose distances scatter this improbably little share their random numbers.
_SHARED: Final = 0.01


@dataclass(frozen=True)
class LossFidelity:
    """Relation of SWD to loss over a ladder of models.

    Attributes
    ----------
    n_models : int
    spearman : Estimate
        Rank correlation, +1 when a lower loss always has a lower SWD. Its intervals come from resampling models and
        shifting each SWD (and loss) within its error.
    kendall : Estimate
        Kendall's rank correlation tau, likewise.
    p_no_relation : float
        Probability of a Kendall correlation at least as high if loss and SWD were unrelated, over permutations (all of
        them up to 8 models).
    p_rising : float
        Probability, given the errors, that every step to a higher loss is a step to a higher SWD (tau = 1).
    p_monotone : float
        Largest probability, over all curves that never fall, of deviations from the best such curve at least as large
        as those seen. Small: the relation is not monotonic.
    chain : tuple of str
        Models of falling loss, from the highest, of which each has a smaller SWD than the one before, beyond errors.
    lowest : str
        The model of the lowest loss.
    loss_at_floor : Estimate or Unavailable
        Loss at which SWD comes down to the resolution limit, floor + 3 spreads. Never extrapolated.
    share_reaching : float
        Share of resamplings in which the limit is reached.
    """

    n_models: int
    spearman: Estimate
    kendall: Estimate
    p_no_relation: float
    p_rising: float
    p_monotone: float
    chain: tuple[str, ...]
    lowest: str
    loss_at_floor: Estimate | Unavailable
    share_reaching: float

    @property
    def falls(self) -> bool:
        """Whether SWD falls somewhere with rising loss, beyond errors: then the relation is not monotonic."""
        return self.p_monotone < _CHANCE

    @property
    def rises(self) -> bool:
        """Whether resolved steps join enough models, from the highest loss to the lowest."""
        return not self.falls and len(self.chain) >= LEAST_CHAIN and self.chain[-1] == self.lowest

    @property
    def verdict(self) -> str:
        """One sentence that begins with "supports", "contradicts" or "cannot tell"."""
        if self.falls:
            return (
                f"contradicts a monotonic relation: deviations from a rising curve this large have "
                f"probability {self.p_monotone:.2g} over {self.n_models} models"
            )
        text = f"every step rises with probability {self.p_rising:.2g}, given the errors of {self.n_models} models"
        if len(self.chain) < 2:
            return f"cannot tell: no step of the distance is resolved; {text}"
        text = f"rising with the loss, resolved over {', '.join(reversed(self.chain))}; {text}"
        if self.rises:
            return f"supports a monotonic relation: {text}"
        return f"cannot tell: {text}; {self.missing}"

    @property
    def missing(self) -> str:
        """What would be needed to tell."""
        return (
            f"resolved steps must join {LEAST_CHAIN} or more models and end at {self.lowest}, the lowest loss"
        )


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
    losses : array-like of float, shape (K,)
        Validation losses, nats per token.
    distances : array-like of float, shape (K,)
        SWDs.
    distance_errors : array-like of float, shape (K,)
        Errors of the SWDs *relative to each other*: ``Distance.error_generated`` for samples that were drawn with seeds
        of their own and scored against one reference, whose fluctuations and directions all of them share.
    floor_mean : float
        Mean of the reference-against-reference floor at the same sample size.
    floor_spread : float
        Standard deviation of that floor.
    loss_errors : array-like of float, shape (K,), optional
        Errors of the losses relative to each other. None, the default, suits losses on the same held-out jets.
    models : sequence of str, optional
        K names; runs of one name are seeds of one model. They are averaged, because they are not independent models of
        the ladder, and their scatter beyond the errors enters the error of every model. By default each run is a model.
    n_bootstrap : int
        Resamplings behind the intervals and probabilities.
    seed : int
        Seed of the resamplings.

    Returns
    -------
    LossFidelity

    Raises
    ------
    InputError
        For fewer than 3 models, unequal lengths, numbers that are not finite, or errors that are not above 0.
    """
    loss, distance = _column(losses, "losses"), _column(distances, "distances")
    error = _column(distance_errors, "distance_errors")
    loss_error = np.zeros(loss.size) if loss_errors is None else _column(loss_errors, "loss_errors")
    if not loss.size == distance.size == error.size == loss_error.size:
        raise InputError(
            f"losses, distances and errors differ in length: {loss.size}, {distance.size}, {error.size}, "
            f"{loss_error.size}; one of each is needed for every model"
        )
    if (error <= 0).any():
        raise InputError("distance_errors must be above 0: without errors no deviation can be judged")
    names = [f"model {i + 1}" for i in range(loss.size)]
    if models is not None:
        if len(models) != loss.size:
            raise InputError(f"models: {len(models)} names for {loss.size} runs")
        names, loss, distance, error, loss_error = _average_seeds(models, loss, distance, error, loss_error)
    if loss.size < 3:
        raise InputError(f"{loss.size} models: at least 3 are needed to speak of a relation")
    rng = np.random.default_rng(seed)
    limit = floor_mean + RESOLVED_AT * floor_spread

    samples, meetings, rising = [], [], 0
    for _ in range(n_bootstrap):
        shifted_loss = loss + loss_error * rng.standard_normal(loss.size)
        shifted = distance + error * rng.standard_normal(loss.size)
        meetings.append(_loss_at(shifted_loss, shifted, error, limit))
        rising += bool((np.diff(shifted[np.argsort(shifted_loss, kind="stable")]) > 0).all())
        pick = rng.integers(0, loss.size, loss.size)
        if np.unique(pick).size >= 3:
            samples.append((shifted_loss[pick], shifted[pick]))
    kendall = _rank_estimate(lambda a, b: float(kendalltau(a, b)[0]), loss, distance, samples)
    p_rising = rising / n_bootstrap
    p_monotone = _monotone_p(loss, distance, error, n_bootstrap, rng)

    meeting = _loss_at(loss, distance, error, limit)
    reached = np.array([value for value in meetings if value is not None])
    at_floor: Estimate | Unavailable = Unavailable("no model comes down to the resolution limit")
    if meeting is not None:
        at_floor = Estimate.from_samples(meeting, reached if reached.size > 0.5 * n_bootstrap else None)
    return LossFidelity(
        n_models=loss.size,
        spearman=_rank_estimate(lambda a, b: float(spearmanr(a, b)[0]), loss, distance, samples),
        kendall=kendall,
        p_no_relation=_permutation_p(loss, distance, rng),
        p_rising=p_rising,
        p_monotone=p_monotone,
        chain=tuple(names[i] for i in resolved_chain(loss, distance, error)),
        lowest=names[int(np.argmin(loss))],
        loss_at_floor=at_floor,
        share_reaching=reached.size / n_bootstrap,
    )


def resolved_chain(loss: FloatArray, distance: FloatArray, error: FloatArray) -> list[int]:
    """Places of the models of the longest chain of falling loss in which each step of the distance is resolved.

    The chain begins with the model of the highest loss. Among chains that reach the lowest loss the longest is taken;
    where none does, the one that comes nearest. A step is resolved when it is larger than its error by Bonferroni's
    factor for as many steps as there are between neighbours.

    Parameters
    ----------
    loss : ndarray of float, shape (K,)
    distance : ndarray of float, shape (K,)
    error : ndarray of float, shape (K,)
        Independent errors of the distances.

    Returns
    -------
    list of int
    """
    order = np.argsort(-loss, kind="stable")
    reach = float(norm.isf(_CHANCE / 2 / max(len(order) - 1, 1)))
    best: list[list[int]] = [[int(order[0])]]
    for i in order[1:]:
        before = [
            chain
            for chain in best
            if chain and distance[chain[-1]] - distance[i] > reach * np.hypot(error[chain[-1]], error[i])
        ]
        best.append([*max(before, key=len), int(i)] if before else [])
    return next(chain for chain in reversed(best) if chain)


def _average_seeds(
    models: Sequence[str], loss: FloatArray, distance: FloatArray, error: FloatArray, loss_error: FloatArray
) -> tuple[list[str], FloatArray, FloatArray, FloatArray, FloatArray]:
    """Names, losses, SWDs and their errors of the models from those of their runs."""
    names, index, count = np.unique(np.asarray(models), return_inverse=True, return_counts=True)

    def mean(values: FloatArray) -> FloatArray:
        return np.bincount(index, values) / count

    spare = loss.size - names.size
    residual = distance - mean(distance)[index]
    scatter = float(np.sum(residual**2)) / spare if spare else 0.0
    training = max(scatter - float(np.mean(error**2)), 0.0)
    # Seeds that agree better than their errors allow were drawn with the same random numbers: their mean is then no
    # better known than one of them.
    shared = bool(spare) and chi2.cdf(np.sum((residual / error) ** 2), spare) < _SHARED
    samples = np.ones(names.size) if shared else count
    variance = mean(error**2) / samples + training / count
    # Losses are measured on the same jets: their error does not fall with the number of seeds.
    return [str(name) for name in names], mean(loss), mean(distance), np.sqrt(variance), mean(loss_error)


def _column(values: ArrayLike, name: str) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise InputError(f"{name} must be one finite number for every model")
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
    return Estimate.from_samples(round(statistic(loss, distance), 12), values if loss.size > 3 else None)


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
