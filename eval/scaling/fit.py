"""``fit``: from a table of points to a law with intervals."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from eval.common.errors import InputError
from eval.common.results import Estimate
from eval.scaling.law import Law
from eval.scaling.misfit import ModelError, scatter_of_repeats
from eval.scaling.objective import LEAST_DELTA, Objective
from eval.scaling.points import Points
from eval.scaling.registry import get_law
from eval.scaling.result import FitResult, Status
from eval.scaling.solve import SAME_MINIMUM, Minima, Problem, distinct, polish, search
from eval.scaling.uncertainty import (
    Profile,
    bootstrap_counts,
    bootstrap_unit,
    bound_reasons,
    derived,
    estimates,
    on_bound,
    profile_of,
    resample,
)

if TYPE_CHECKING:
    from eval.scaling.approaches import FrontierFit
    from eval.scaling.side_by_side import Comparison

FloatArray = NDArray[np.float64]

#: Points beyond the number of constants that a bootstrap needs before its intervals are believed.
LEAST_SPARE_POINTS = 3

#: Starts of the first fit, which only tells how much the points scatter.
FIRST_STARTS = 24


@overload
def fit(points: Points, law: str | Law = ..., *, approach: Literal[3] = ..., **options: Any) -> FitResult: ...
@overload
def fit(
    points: Points, law: str | Law = ..., *, approach: Literal[1, 2], **options: Any
) -> "FrontierFit": ...
@overload
def fit(
    points: Points, law: str | Law = ..., *, approach: Literal["all"], **options: Any
) -> "Comparison": ...
def fit(  # type: ignore[misc]  # the overloads leave the shared options to this signature
    points: Points,
    law: str | Law = "additive",
    *,
    variable: str | None = None,
    approach: Literal[1, 2, 3, "all"] = 3,
    loss: str = "huber-log",
    delta: float | None = None,
    bootstrap: int = 200,
    unit: str = "auto",
    starts: int = 64,
    fixed: Mapping[str, float] | None = None,
    seed: int = 0,
    progress: bool = False,
) -> "FitResult | FrontierFit | Comparison":
    """Fit a scaling law to the losses of training runs, or the compute-optimal line without one.

    Parameters
    ----------
    points : Points
        Losses, from ``read_points`` or ``Points.from_arrays``.
    law : str or Law
        ``additive``, ``additive-tied``, ``kaplan``, ``effective-data``; of one ``variable``: ``power``,
        ``power-nofloor``, ``logarithmic``, ``broken``, ``m4``.
    variable : str, optional
        N, D, C or U, for a law of one variable.
    approach : 1, 2, 3 or "all"
        3 fits the law (``FitResult``). 1 and 2 find the compute-optimal line without a law, by the envelope of
        training curves or by IsoFLOP parabolas (``FrontierFit``); of the other arguments they use only ``bootstrap``
        and ``seed``. "all" compares all three (``Comparison``).
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
    progress : bool
        Show a progress bar.

    Returns
    -------
    FitResult, FrontierFit or Comparison

    Raises
    ------
    InputError
        There are fewer points than free constants, a variable does not vary, or a name is unknown.
    """
    from eval.scaling.approaches import envelope, isoflop
    from eval.scaling.side_by_side import compare_approaches

    if approach in (1, 2):
        return (envelope if approach == 1 else isoflop)(points, bootstrap=bootstrap, seed=seed)
    if approach not in (3, "all"):
        raise InputError(f"approach: must be 1, 2, 3 or all, found {approach!r}")
    chosen = get_law(law, variable) if isinstance(law, str) else law
    if chosen.response != "L":
        raise InputError(f"law {chosen.name}: is not a law of the loss; use eval.tagging.law")
    x = np.stack([points.variable(name) for name in chosen.variables])
    weight = np.ones(len(points)) if points.weight is None else points.weight
    if unit not in ("auto", "points", "groups"):
        raise InputError(f"unit: {unit} is not one of auto, points, groups")
    unit, notes = bootstrap_unit(points, unit)
    if unit == "groups" and points.group is None:
        raise InputError(f"{points.source}: column group is missing; resampling groups needs it")
    result = fit_arrays(
        chosen,
        x,
        points.L,
        weight=weight,
        objective=Objective(loss, delta),
        bootstrap=bootstrap,
        groups=points.group,
        unit=unit,
        starts=starts,
        fixed=fixed,
        seed=seed,
        progress=progress,
        source=points.source,
        flops_factor=points.flops_factor[0],
        compute=points.compute if points.C is not None or {"N", "D"} <= set(chosen.variables) else None,
        warnings=(*points.warnings(), *notes),
    )
    return result if approach == 3 else compare_approaches(points, result, bootstrap=bootstrap, seed=seed)


def profile(points: Points, result: FitResult, name: str) -> Profile:
    """Return the profile interval of one constant of a fit, as an alternative to the bootstrap.

    The bootstrap asks how the best fit changes if the points change; the profile asks which values of the constant are
    compatible with the points at hand. A constant is well determined if both agree.

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
    x = np.stack([points.variable(variable) for variable in result.law.variables])
    weight = np.ones(len(points)) if points.weight is None else points.weight
    problem = Problem.build(result.law, x, points.L, weight, result.loss)
    return profile_of(problem, problem.centred(result.values), name)


def fit_arrays(
    law: Law,
    x: FloatArray,
    y: FloatArray,
    *,
    weight: FloatArray,
    objective: Objective,
    bootstrap: int = 200,
    groups: NDArray[np.str_] | None = None,
    unit: str = "points",
    starts: int = 64,
    fixed: Mapping[str, float] | None = None,
    seed: int = 0,
    progress: bool = False,
    source: str = "points",
    flops_factor: float = 6.0,
    compute: FloatArray | None = None,
    warnings: tuple[str, ...] = (),
) -> FitResult:
    """Fit any law to responses ``y`` (n,) at variables ``x`` (k, n); for the rest see ``fit``."""
    _check(law, x, y, weight, fixed or {}, source)
    if starts < 1 or bootstrap < 0:
        raise InputError(
            f"starts must be at least 1 and bootstrap at least 0, found {starts} and {bootstrap}"
        )
    rng = np.random.default_rng(seed)
    held = dict(fixed or {})
    if objective.delta is None:
        objective = _following_noise(objective, law, x, y, weight, held, seed)
    problem = Problem.build(law, x, y, weight, objective, held)
    minima = search(problem, starts, rng)
    if not np.isfinite(minima.value).any():
        raise InputError(f"{source}: law {law.name} has no finite objective on these points")
    winner = int(np.argmin(minima.value))
    best, value = polish(problem, minima.q[winner], float(minima.value[winner]))
    natural = problem.natural(best)
    error = ModelError.of(problem, best)
    q = None
    if bootstrap:
        counts = bootstrap_counts(len(y), bootstrap, rng, groups if unit == "groups" else None)
        moved = None if error is None else y * np.exp(error.draw(bootstrap, rng.spawn(1)[0]))
        q, _ = resample(problem, distinct(problem, minima), counts, moved, progress)
    samples = None if q is None else problem.natural(q)
    reasons = bound_reasons(problem, best, q)
    low, high = on_bound(problem, best[None])
    hit = tuple(name for name, edge in zip(law.names, (low | high)[0], strict=True) if edge)
    reasons = _propagate(law, reasons, hit)
    if bootstrap:
        reasons = _too_few(problem, reasons)
    status = Status.CONVERGED if minima.converged[winner] else Status.NOT_CONVERGED
    ranges = dict(zip((*law.variables, law.response), (*x, y), strict=True))
    if compute is not None:
        ranges["C"] = compute
    params = estimates(problem, natural, samples, reasons)
    return FitResult(
        law=law,
        params=params,
        derived=derived(problem, natural, samples, reasons),
        objective=objective.report(problem.residual(best)[0], weight),
        objective_kind=objective.label,
        status=Status.AT_BOUND if hit and status is Status.CONVERGED else status,
        starts=starts,
        starts_at_optimum=_count_at(minima, value),
        n_points=len(y),
        bounds_hit=hit,
        data_window={name: (float(v.min()), float(v.max())) for name, v in ranges.items()},
        samples=samples,
        bootstrap_unit=unit if bootstrap else "none",
        loss=objective,
        model_error=None if error is None else error.size,
        flops_factor=flops_factor,
        warnings=(*warnings, *_notes(params, bool(bootstrap))),
    )


def _following_noise(
    objective: Objective,
    law: Law,
    x: FloatArray,
    y: FloatArray,
    weight: FloatArray,
    held: dict[str, float],
    seed: int,
) -> Objective:
    """Take the threshold from the scatter of repeated runs, else from the residuals of a first fit."""
    used = weight > 0
    scatter = scatter_of_repeats(x[:, used], y[used])
    if scatter is not None and scatter > LEAST_DELTA / 10:  # copies of one run show no noise
        return objective.following(scatter, "scatter of repeated runs")
    first = Problem.build(law, x, y, weight, Objective("huber-log", 1e-3), held)
    minima = search(first, FIRST_STARTS, np.random.default_rng(seed))
    residual = np.sort(np.abs(first.residual(minima.q[np.argmin(minima.value)])[0][used]))
    # A fit of nearly absolute deviations passes through as many points as it has constants: they show no noise. Of
    # Gaussian noise the median absolute value is 0.6745 standard deviations (Maronna et al. 2006, sect. 4.4).
    rest = residual[int(first.free.sum()) :]
    noise = float(np.median(rest)) / 0.6745 if len(rest) else 0.0
    return objective.following(noise, "scatter of residuals")


def _count_at(minima: Minima, value: float) -> int:
    # The likelihood may be negative and a noise-free surface ends at rounding: hence both parts.
    return int((minima.value <= value + SAME_MINIMUM * abs(value) + 1e-25).sum())


def _propagate(law: Law, reasons: dict[str, str], hit: tuple[str, ...]) -> dict[str, str]:
    """An absent term has no exponent, and an exponent on its bound no amplitude: they fall together."""
    pairs = [("A", "alpha"), ("B", "beta"), ("B", "alpha"), ("K", "gamma"), ("b", "c0")]
    names = law.names
    for amplitude, exponent in pairs:
        if amplitude not in names or exponent not in names:
            continue
        if exponent == "alpha" and amplitude == "B" and "beta" in names:
            continue
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


def _notes(params: Mapping[str, Estimate], assessed: bool) -> list[str]:
    lost = [name for name, estimate in params.items() if estimate.identified is False]
    notes = [f"not identified by these points: {', '.join(lost)}"] if lost else []
    return notes if assessed else [*notes, "no bootstrap: intervals and identification were not assessed"]


def _check(
    law: Law, x: FloatArray, y: FloatArray, weight: FloatArray, fixed: Mapping[str, float], source: str
) -> None:
    unknown = sorted(set(fixed) - set(law.names))
    if unknown:
        raise InputError(f"fixed: {unknown[0]} is not a constant of {law.formula} ({', '.join(law.names)})")
    for parameter in law.parameters:
        if parameter.name in fixed and not parameter.lower <= fixed[parameter.name] <= parameter.upper:
            raise InputError(
                f"fixed: {parameter.name} must lie in [{parameter.lower:g}, {parameter.upper:g}], "
                f"found {fixed[parameter.name]:g}"
            )
    used = weight > 0
    wanted = law.size - len(fixed)
    if wanted < 1:
        raise InputError(f"fixed: every constant of law {law.name} is held; there is nothing to fit")
    if used.sum() < wanted:
        raise InputError(
            f"{source}: {int(used.sum())} points cannot determine the {wanted} constants of {law.formula}"
        )
    if law.name == "effective-data":
        return  # its third variable may equal the second throughout, and the base law may be held fixed
    for name, values in zip(law.variables, x, strict=True):
        if np.ptp(values[used]) == 0:
            raise InputError(
                f"{source}: all points have {name} = {values[used][0]:g}; law {law.name} needs {name} to vary"
                + ("; fit one variable with law power" if len(law.variables) > 1 else "")
            )
