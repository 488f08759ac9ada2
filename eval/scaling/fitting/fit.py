"""``fit``: from a table of points to a law with intervals."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from eval.common.errors import InputError
from eval.common.results import Estimate
from eval.scaling.fitting.misfit import ModelError, scatter_of_repeats
from eval.scaling.fitting.objective import LEAST_DELTA, Objective
from eval.scaling.fitting.problem import Problem
from eval.scaling.fitting.result import FitResult, Status
from eval.scaling.fitting.solve import SAME_MINIMUM, Minima, distinct, polish, search
from eval.scaling.fitting.uncertainty import (
    Bootstrap,
    Profile,
    bound_reasons,
    derived,
    estimates,
    on_bound,
    profile_of,
    resample,
)
from eval.scaling.laws.law import Law
from eval.scaling.laws.registry import get_law
from eval.scaling.points import Points

FloatArray = NDArray[np.float64]

#: Points beyond the number of constants that a bootstrap needs before its intervals are believed.
LEAST_SPARE_POINTS = 3

#: Starts of the first fit, which only tells how much the points scatter.
FIRST_STARTS = 24


def fit(
    points: Points,
    law: str | Law = "additive",
    *,
    variable: str | None = None,
    loss: str = "huber-log",
    delta: float | None = None,
    bootstrap: int = 200,
    unit: str = "auto",
    starts: int = 64,
    fixed: Mapping[str, float] | None = None,
    seed: int = 0,
) -> FitResult:
    """Fit a scaling law to the losses of training runs (approach 3 to the compute-optimal line).

    Parameters
    ----------
    points : Points
        Losses, from ``read_points`` or ``Points.from_arrays``.
    law : str or Law
        ``additive``, ``additive-tied``, ``kaplan``, ``effective-data``; of one ``variable``: ``power``,
        ``power-nofloor``, ``logarithmic``, ``broken``, ``m4``.
    variable : str, optional
        N, D, C or U, for a law of one variable.
    loss : str
        Objective: ``huber-log``, ``mse``, ``mse-log`` or ``huber-likelihood``.
    delta : float, optional
        Huber threshold on residuals of ln L; by default it follows the noise.
    bootstrap : int
        Number of resamples for the intervals; 0 for none.
    unit : str
        What is resampled: ``points``, ``groups`` or ``auto`` (groups if there are at least eight).
    starts : int
        Number of starts of the global search.
    fixed : mapping of str to float, optional
        Constants that are fixed, with their values.
    seed : int
        Seed of starts and resamples.

    Returns
    -------
    FitResult

    Raises
    ------
    InputError
        There are fewer points than free constants, a variable does not vary, or a name is unknown.
    """
    chosen = get_law(law, variable) if isinstance(law, str) else law
    if chosen.response != "L":
        raise InputError(f"law {chosen.name}: is not a law of the loss; use eval.tagging.law")
    resampling = Bootstrap.of(points, bootstrap, unit)
    problem = _problem(points, chosen, Objective(loss, delta), fixed)
    result = fit_problem(problem, resampling, starts=starts, seed=seed)
    window = dict(result.data_window)
    if points.C is not None or {"N", "D"} <= set(chosen.variables):
        window["C"] = _range(points.compute)
    return replace(
        result,
        data_window=window,
        flops_factor=points.flops_factor[0],
        warnings=(*points.warnings(), *resampling.notes, *result.warnings),
    )


def profile(points: Points, result: FitResult, name: str) -> Profile:
    """Return the profile interval of one constant of a fit, as an alternative to the bootstrap.

    The bootstrap asks how the best fit changes if the points change; the profile asks which values of the constant are
    compatible with these points. A constant is well determined if both agree.

    Parameters
    ----------
    points : Points
        The fitted points.
    result : FitResult
        The fit.
    name : str
        A constant of the law.

    Returns
    -------
    Profile

    Raises
    ------
    InputError
        The law has no such constant.
    """
    if name not in result.law.names:
        raise InputError(f"name: {name} is not one of {', '.join(result.law.names)}")
    problem = _problem(points, result.law, result.loss)
    return profile_of(problem, problem.centred(result.values), name)


def _problem(
    points: Points, law: Law, objective: Objective, fixed: Mapping[str, float] | None = None
) -> Problem:
    x = np.stack([points.variable(name) for name in law.variables])
    weight = np.ones(len(points)) if points.weight is None else points.weight
    return Problem.build(law, x, points.L, weight, objective, fixed, points.source)


def fit_problem(
    problem: Problem,
    bootstrap: Bootstrap | None = None,
    *,
    starts: int = 64,
    seed: int = 0,
) -> FitResult:
    """Solve a problem, whatever the response of its law.

    Parameters
    ----------
    problem : Problem
        Law, points and objective.
    bootstrap : Bootstrap, optional
        Resamples for the intervals; without them there are none.
    starts : int
        Number of starts of the global search.
    seed : int
        Seed of starts and resamples.

    Returns
    -------
    FitResult

    Raises
    ------
    InputError
        The objective is not finite anywhere, or a number of starts or resamples is impossible.
    """
    bootstrap = bootstrap or Bootstrap(0)
    if starts < 1 or bootstrap.n < 0:
        raise InputError(
            f"starts must be at least 1 and bootstrap at least 0, found {starts} and {bootstrap.n}"
        )
    law, y = problem.law, problem.y
    rng = np.random.default_rng(seed)
    if problem.objective.delta is None:
        problem = replace(problem, objective=_following_noise(problem, seed))
    minima = search(problem, starts, rng)
    if not np.isfinite(minima.value).any():
        raise InputError(f"{problem.source}: law {law.name} has no finite objective on these points")
    winner = int(np.argmin(minima.value))
    best, value = polish(problem, minima.q[winner], float(minima.value[winner]))
    natural = problem.natural(best)
    error = ModelError.of(problem, best)
    q = None
    if bootstrap.n:
        counts = bootstrap.counts(len(y), rng)
        moved = None if error is None else y * np.exp(error.draw(bootstrap.n, rng.spawn(1)[0]))
        q, _ = resample(problem, distinct(problem, minima), counts, moved)
    samples = None if q is None else problem.natural(q)
    low, high = on_bound(problem, best[None])
    hit = tuple(name for name, edge in zip(law.names, (low | high)[0], strict=True) if edge)
    reasons = _propagate(law, bound_reasons(problem, best, q), hit)
    if bootstrap.n:
        reasons = _too_few(problem, reasons)
    params = estimates(problem, natural, samples, reasons)
    status = Status.CONVERGED if minima.converged[winner] else Status.NOT_CONVERGED
    return FitResult(
        law=law,
        params=params,
        derived=derived(problem, natural, samples, reasons),
        objective=problem.objective.report(problem.residual(best)[0], problem.weight),
        objective_kind=problem.objective.label,
        status=Status.AT_BOUND if hit and status is Status.CONVERGED else status,
        starts=starts,
        starts_at_optimum=_count_at(minima, value),
        n_points=len(y),
        bounds_hit=hit,
        data_window={
            name: _range(values)
            for name, values in zip((*law.variables, law.response), (*problem.x, y), strict=True)
        },
        samples=samples,
        bootstrap_unit=bootstrap.unit if bootstrap.n else "none",
        loss=problem.objective,
        model_error=None if error is None else error.size,
        warnings=_notes(params, assessed=samples is not None),
    )


def _range(values: FloatArray) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _following_noise(problem: Problem, seed: int) -> Objective:
    """Take the threshold from the scatter of repeated runs, else from the residuals of a first fit."""
    used = problem.weight > 0
    scatter = scatter_of_repeats(problem.x[:, used], problem.y[used])
    if scatter is not None and scatter > LEAST_DELTA / 10:  # copies of one run show no noise
        return problem.objective.following(scatter, "scatter of repeated runs")
    first = replace(problem, objective=Objective("huber-log", 1e-3))
    minima = search(first, FIRST_STARTS, np.random.default_rng(seed))
    residual = np.sort(np.abs(first.residual(minima.q[np.argmin(minima.value)])[0][used]))
    # A fit of nearly absolute deviations passes through as many points as it has constants: they show no noise. Of
    # Gaussian noise the median absolute value is 0.6745 standard deviations (Maronna et al. 2006, sect. 4.4).
    rest = residual[int(first.free.sum()) :]
    noise = float(np.median(rest)) / 0.6745 if len(rest) else 0.0
    return problem.objective.following(noise, "scatter of residuals")


def _count_at(minima: Minima, value: float) -> int:
    # The likelihood may be negative and a noise-free surface ends at rounding: hence both parts.
    return int((minima.value <= value + SAME_MINIMUM * abs(value) + 1e-25).sum())


def _propagate(law: Law, reasons: dict[str, str], hit: tuple[str, ...]) -> dict[str, str]:
    """An absent term has no exponent, and a term whose exponent lies on its bound has no amplitude."""
    for _, amplitude, exponent in law.terms:
        for one, other in ((amplitude, exponent), (exponent, amplitude)):
            if one in hit and not reasons[other]:
                reasons[other] = f"{one} lies on a bound"
    return reasons


def _too_few(problem: Problem, reasons: dict[str, str]) -> dict[str, str]:
    """With hardly more points than constants every resample is fitted almost exactly: intervals mean nothing."""
    used, free = int((problem.weight > 0).sum()), int(problem.free.sum())
    if used - free >= LEAST_SPARE_POINTS:
        return reasons
    few = f"{used} points for {free} constants leave the bootstrap nothing to judge them by"
    held = dict(zip(problem.law.names, ~problem.free, strict=True))
    return {name: reason or ("" if held[name] else few) for name, reason in reasons.items()}


def _notes(params: Mapping[str, Estimate], assessed: bool) -> tuple[str, ...]:
    lost = [name for name, estimate in params.items() if estimate.identified is False]
    notes = (f"not identified by these points: {', '.join(lost)}",) if lost else ()
    return notes if assessed else (*notes, "no bootstrap: intervals and identification were not assessed")
