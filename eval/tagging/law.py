"""Background rejection as a function of the loss, R(L) = A exp(B L) + C, fitted to many taggers.

Vigl et al. (arXiv:2602.15781) find that the rejection of QCD at fixed signal efficiency is this function of the loss,
independently of model size and data. With a law L(N, D) it predicts the rejection at any size, data or compute
(``eval.tagging.prediction``).

Three difficulties are taken into account. *Few kept jets*: the law is fitted to the counts of kept jets by
quasi-likelihood, not to 1/(counts), so that a tagger that keeps two jets, or none, has the small weight that its count
deserves, and none is dropped because it is good. *Shared test jets*: all taggers are tested on the same jets, whose
fluctuations do not average out over taggers; replicas that resample the jets for all taggers at once propagate them to
every interval. *Scatter of runs* beyond counting: the scatter that statistical errors leave unexplained is estimated,
and enters weights and intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.stats import chi2 as chi2_distribution
from scipy.stats import poisson
from tqdm import tqdm

from eval.common.errors import InputError
from eval.common.results import Estimate, plain_fields
from eval.scaling.fitting.fit import LEAST_SPARE_POINTS, fit_problem
from eval.scaling.fitting.objective import Objective
from eval.scaling.fitting.problem import Problem
from eval.scaling.fitting.result import FitResult, Status
from eval.scaling.fitting.uncertainty import bound_reasons, estimates
from eval.scaling.laws.forms import Rejection
from eval.tagging.score import FEW_KEPT, TaggerScore

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RejectionLaw:
    """R = A exp(B L) + C fitted to several taggers, for one signal class at one signal efficiency.

    Attributes
    ----------
    name : str
        Signal class.
    efficiency : float
        Signal efficiency.
    fit : FitResult
        Constants A, B (1/nat) and C; its samples resample the test jets and the scatter of runs.
    loss : array of float, shape (n,)
        Test loss of each tagger in nats.
    kept : array of float, shape (n,)
        Number of background jets that each tagger keeps.
    n_background : float
        Number of background jets in the test set.
    error : array of float, shape (n,)
        Expected statistical error of ln R of each tagger relative to the others, without the part that all share.
    scatter : float
        Standard deviation of ln R between taggers of equal loss beyond ``error``; 0 if none is needed.
    chi2 : float
        Pearson's chi2 of the law with the statistical errors alone, without scatter.
    dof : int
        Its degrees of freedom.
    p_value : float
        Its probability.
    """

    name: str
    efficiency: float
    fit: FitResult
    loss: FloatArray
    kept: FloatArray
    n_background: float
    error: FloatArray
    scatter: float
    chi2: float
    dof: int
    p_value: float

    @property
    def rejection(self) -> FloatArray:
        """Measured rejections (n_background + 1)/(kept + 1/2), which are finite even if no jet is kept."""
        return rejection_of(self.kept, self.n_background)

    @property
    def residual(self) -> FloatArray:
        """Kept jets over expected ones minus one: approximately ln(fitted/measured), and unbiased for few jets."""
        return self.kept * self.fit.predict(L=self.loss) / self.n_background - 1

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"signal": self.name, **plain_fields(self, without=("name",))}


def rejection_of(kept: ArrayLike, n_background: ArrayLike) -> FloatArray:
    """Return the rejection (n + 1)/(k + 1/2): finite for k = 0, with a logarithm unbiased to first order in 1/k."""
    return (np.asarray(n_background, dtype=np.float64) + 1) / (np.asarray(kept, dtype=np.float64) + 0.5)


def fit_rejection_law(
    loss: ArrayLike,
    kept: ArrayLike,
    n_background: float,
    *,
    loss_replicas: ArrayLike | None = None,
    log_rejection_replicas: ArrayLike | None = None,
    bootstrap: int = 200,
    name: str = "",
    efficiency: float = 0.5,
    seed: int = 0,
) -> RejectionLaw:
    """Fit R = A exp(B L) + C to counts of kept background jets.

    Parameters
    ----------
    loss : array-like of float, shape (n,)
        Test loss of each tagger, in nats per jet.
    kept : array-like of float, shape (n,)
        Number of background jets that each tagger keeps at the signal efficiency.
    n_background : float
        Number of background jets.
    loss_replicas : array-like of float, shape (B, n), optional
        Loss of each tagger in replicas of the test set, as made by ``score_tagger``. Without replicas the counts
        fluctuate independently, with their binomial error, and the losses do not fluctuate.
    log_rejection_replicas : array-like of float, shape (B, n), optional
        ln R of each tagger in the same replicas.
    bootstrap : int
        Number of replicas if none are given; at least 2.
    name : str
        Signal class, kept in the result.
    efficiency : float
        Signal efficiency, kept in the result.
    seed : int
        Seed of starts and resamples.

    Returns
    -------
    RejectionLaw

    Raises
    ------
    InputError
        Arrays differ in length, there are fewer than three taggers or two replicas, or counts exceed the jets.
    """
    x, k = np.array(loss, dtype=np.float64, ndmin=1), np.array(kept, dtype=np.float64, ndmin=1)
    if x.ndim != 1 or x.shape != k.shape:
        raise InputError(f"kept: shape {k.shape} does not agree with that of loss, {x.shape}")
    if not (np.isfinite(x) & (x > 0)).all():
        raise InputError(f"loss: must be finite and positive, found {x[~(np.isfinite(x) & (x > 0))][0]:g}")
    if not ((k >= 0) & (k <= n_background)).all():
        raise InputError(
            f"kept: must lie between 0 and the {n_background:g} background jets, found {k.min():g} to {k.max():g}"
        )
    given = log_rejection_replicas is not None
    moves = np.array(log_rejection_replicas, dtype=np.float64) if given else np.zeros((bootstrap, len(x)))
    if len(moves) < 2:
        raise InputError(f"bootstrap: at least two replicas are needed for an interval, found {len(moves)}")
    shift_x = np.zeros_like(moves) if loss_replicas is None else np.asarray(loss_replicas) - x
    for what, array in {"loss_replicas": shift_x, "log_rejection_replicas": moves}.items():
        if array.shape != (len(moves), len(x)) or not np.isfinite(array).all():
            raise InputError(f"{what}: finite values of shape ({len(moves)}, {len(x)}) are needed")
    many = (k >= FEW_KEPT) if given else np.zeros(len(x), dtype=bool)
    if given:
        moves -= np.log(rejection_of(k, n_background))
    inflation = _inflation(moves, k, n_background, many)

    best, error, scatter, chi2, dof = _fit_counts(x, k, n_background, inflation, seed)
    rng = np.random.default_rng(seed)
    expected = n_background / best.predict(L=x)
    # Taggers that keep few jets keep the same few, hence one quantile for all; without replicas each has its own.
    quantile = rng.random((len(moves), 1 if given else len(x)))
    drawn = np.where(many, expected * np.exp(-moves), poisson.ppf(quantile, expected))
    drawn = drawn * np.exp(scatter * rng.standard_normal(drawn.shape) - 0.5 * scatter**2)
    samples, _ = _score(
        x + shift_x, drawn, n_background, np.tile(best.values, (len(moves), 1)), inflation, scatter
    )
    result = _with_intervals(best, x, k, samples)
    return RejectionLaw(
        name, efficiency, result, x, k, float(n_background), error, scatter, chi2, dof,
        float(chi2_distribution.sf(chi2, dof)) if dof > 0 else float("nan"),
    )  # fmt: skip


def _inflation(
    moves: FloatArray, kept: FloatArray, n_background: float, many: NDArray[np.bool_]
) -> FloatArray:
    """Return the variance of ln R of each tagger relative to the others, over the binomial variance.

    It is below one if taggers keep the same jets, above one if few signal jets determine the threshold, and set to one
    where few jets are kept.
    """
    ratio = np.ones(len(kept))
    if many.sum() > 1:
        binomial = np.maximum(1 / kept[many] - 1 / n_background, 1e-9)
        # A fluctuation that all taggers share does not change their positions relative to the law.
        common = np.average(moves[:, many], axis=1, weights=1 / binomial)
        ratio[many] = np.var(moves[:, many] - common[:, None], axis=0, ddof=1) / binomial
    return np.maximum(ratio, 0.01)


def _fit_counts(
    x: FloatArray, kept: FloatArray, n_background: float, inflation: FloatArray, seed: int
) -> tuple[FitResult, FloatArray, float, float, int]:
    """Return the best fit, errors of ln R, scatter beyond them, and chi2 without scatter and its degrees of freedom."""
    problem = Problem.build(
        Rejection(), x[None], rejection_of(kept, n_background), (kept + 0.5) / (kept + 0.5).mean(),
        Objective("mse-log"), source="taggers",
    )  # fmt: skip
    start = fit_problem(problem, starts=16, seed=seed)
    scatter, chi2, values = 0.0, np.nan, start.values[None]
    for _ in range(6):  # weights depend on the scatter, and the scatter on the residuals
        values, expected = _score(x[None], kept[None], n_background, values, inflation, scatter)
        residual = kept / expected[0] - 1
        error = np.sqrt(_variance(expected[0], n_background, inflation))
        held = tuple(name for name, hit in zip("BC", _at_bound(values[0]), strict=True) if hit)
        dof = len(x) - 3 + len(held)
        if np.isnan(chi2):
            chi2 = float(np.sum((residual / error) ** 2))
        before, scatter = scatter, _excess(residual, error, dof)
        if abs(scatter - before) < 0.01 * max(scatter, 0.01):
            break
    best = replace(
        start,
        params={name: Estimate(float(v)) for name, v in zip(start.law.names, values[0], strict=True)},
        objective=float(np.sum(residual**2 / (error**2 + scatter**2))),
        objective_kind="chi2 of kept jets, scatter of runs included",
        bounds_hit=held,
        status=Status.AT_BOUND if held else Status.CONVERGED,
    )
    return best, error, scatter, chi2, dof


def _variance(expected: FloatArray, n_background: float, inflation: FloatArray) -> FloatArray:
    return np.maximum(1 / expected - 1 / n_background, 1e-9) * inflation


def _at_bound(values: FloatArray) -> tuple[bool, bool]:
    """Whether B and C of values (3,) lie on their upper and lower bounds."""
    return bool(values[1] >= -1.001e-3), bool(values[2] <= 0)


def _score(
    x: FloatArray,
    kept: FloatArray,
    n_background: float,
    start: FloatArray,
    inflation: FloatArray,
    scatter: float,
) -> tuple[FloatArray, FloatArray]:
    """Fit S replicas by quasi-likelihood (Fisher scoring); return constants (S, 3) and expected counts (S, n).

    ``x`` and ``kept`` have the shape (S, n), ``start`` (S, 3). The expected count mu = n_background/R has the variance
    mu^2 (inflation (1/mu - 1/n_background) + scatter^2); the score equation sum (kept - mu)/variance dmu/dq = 0 is
    unbiased even for small counts.
    """
    law = Rejection()
    lowest, highest = law.parameters[1].lower, law.parameters[1].upper
    centre = x.mean(axis=1, keepdims=True)
    u = x - centre
    q = np.column_stack([np.log(start[:, 0]) + start[:, 1] * centre[:, 0], start[:, 1], start[:, 2]])
    for iteration in range(60):
        term = np.exp(np.minimum(q[:, :1] + q[:, 1:2] * u, 300.0))
        model = np.clip(term + q[:, 2:], 1.0, None)  # no cut keeps more jets than there are
        expected = n_background / model
        gradient = np.stack([term, term * u, np.ones_like(term)], axis=1) / model[:, None]
        weight = 1 / (_variance(expected, n_background, inflation) + scatter**2)
        # A count far above its expectation would make the first steps too large; at the solution nothing is clipped.
        residual = np.minimum(kept / expected - 1, 3.0 if iteration < 10 else np.inf)
        slope = -np.einsum("spn,sn,sn->sp", gradient, weight, residual)
        normal = np.einsum("spn,sn,srn->spr", gradient, weight, gradient)
        stuck = np.column_stack(
            [
                np.zeros(len(q), bool),
                (q[:, 1] >= highest) & (slope[:, 1] > 0),
                (q[:, 2] <= 0) & (slope[:, 2] < 0),
            ]
        )
        normal[stuck[:, :, None] | stuck[:, None, :]] = 0.0
        slope[stuck] = 0.0
        diagonal = np.einsum("spp->sp", normal)
        diagonal += 1e-9 * diagonal.max(axis=1, keepdims=True) + stuck
        step = np.linalg.solve(normal, slope[..., None])[..., 0]
        largest = np.abs(step / np.column_stack([np.ones(len(q)), np.abs(q[:, 1]), 1 + q[:, 2]])).max(axis=1)
        q = q + step / np.maximum(1.0, largest / 0.5)[:, None]
        q[:, 1], q[:, 2] = np.clip(q[:, 1], lowest, highest), np.maximum(q[:, 2], 0.0)
        if largest.max() < 1e-7:
            break
    # An amplitude that a few jets cannot determine may leave the range of floats.
    amplitude = np.exp(np.clip(q[:, 0] - q[:, 1] * centre[:, 0], -600, 600))
    values = np.column_stack([amplitude, q[:, 1], q[:, 2]])
    return values, n_background / np.clip(np.exp(q[:, :1] + q[:, 1:2] * u) + q[:, 2:], 1.0, None)


def _with_intervals(best: FitResult, x: FloatArray, kept: FloatArray, samples: FloatArray) -> FitResult:
    """The fit with resampled constants (B, 3), and the verdict which of them are identified."""
    problem = Problem.build(best.law, x[None], best.predict(L=x), np.ones(len(x)), best.loss)
    reasons = bound_reasons(problem, problem.centred(best.values), problem.centred(samples))
    counted = int((kept >= FEW_KEPT).sum())
    few = ""
    if best.n_points - best.law.size < LEAST_SPARE_POINTS:
        few = f"{best.n_points} taggers for {best.law.size} constants leave nothing to judge the law by"
    elif counted <= best.law.size:
        few = f"only {counted} taggers keep {FEW_KEPT} or more background jets: more test jets are needed"
    reasons = {constant: few or reason for constant, reason in reasons.items()}
    params = estimates(problem, best.values, samples, reasons)
    lost = [constant for constant, estimate in params.items() if estimate.identified is False]
    return replace(
        best,
        params=params,
        samples=samples,
        bootstrap_unit="test jets and scatter of runs",
        warnings=(f"not identified by these points: {', '.join(lost)}",) if lost else (),
    )


def _excess(residual: FloatArray, error: FloatArray, dof: int) -> float:
    """Return s with sum residual^2/(error^2 + s^2) equal to the degrees of freedom; 0 if the sum is below for s = 0."""

    def surplus(variance: float) -> float:
        return float(np.sum(residual**2 / (error**2 + variance))) - dof

    if dof <= 0 or surplus(0.0) <= 0:
        return 0.0
    return float(np.sqrt(brentq(surplus, 0.0, float(np.sum(residual**2)) / dof)))


def rejection_law(
    scores: Sequence[TaggerScore], signal: str, efficiency: float | None = None, *, seed: int = 0
) -> RejectionLaw:
    """Fit R(L) of one signal class to scored taggers.

    Parameters
    ----------
    scores : sequence of TaggerScore
        Taggers scored on the same test set.
    signal : str
        Signal class.
    efficiency : float, optional
        Signal efficiency, by default that of the class's working point.
    seed : int
        Seed of starts and resamples.

    Returns
    -------
    RejectionLaw

    Raises
    ------
    InputError
        Taggers were scored on different test sets, or the class or the efficiency was not scored.
    """
    if not scores:
        raise InputError("scores: no taggers were given")
    sets = sorted({score.test_set for score in scores})
    if len(sets) > 1:
        raise InputError(
            f"scores: taggers were scored on different test sets or with different seeds ({', '.join(sets)}); "
            "score them all on one"
        )
    if signal not in scores[0].signals:
        raise InputError(f"signal: {signal} is not one of {', '.join(scores[0].signals)}")
    parts = [score.signals[signal] for score in scores]
    wanted = parts[0].working_point.efficiency if efficiency is None else efficiency
    column = parts[0].at(wanted)
    replicas = np.stack(
        [np.log(rejection_of(p.kept_replicas[:, column], p.background_replicas)) for p in parts], axis=1
    )
    losses = np.stack([score.loss_replicas for score in scores], axis=1)
    usable = np.isfinite(replicas).all(axis=1)
    return fit_rejection_law(
        [score.loss for score in scores],
        [part.kept[column] for part in parts],
        parts[0].n_background,
        loss_replicas=losses[usable],
        log_rejection_replicas=replicas[usable],
        name=signal,
        efficiency=wanted,
        seed=seed,
    )


def rejection_laws(
    scores: Sequence[TaggerScore], *, seed: int = 0, progress: bool = False
) -> Mapping[str, RejectionLaw]:
    """Fit R(L) of every signal class at its working point."""
    if not scores:
        raise InputError("scores: no taggers were given")
    names = tqdm(scores[0].signals, desc="R(L)", disable=not progress, leave=False)
    return {name: rejection_law(scores, name, seed=seed) for name in names}
