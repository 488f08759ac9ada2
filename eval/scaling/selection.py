"""Comparison of laws, and how far constants depend on choices: of points, of the objective, of what N counts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.common.errors import InputError
from eval.common.results import Estimate, Kind, plain, plain_fields
from eval.scaling.fitting.fit import fit
from eval.scaling.fitting.objective import log_likelihood
from eval.scaling.fitting.result import FitResult
from eval.scaling.laws.law import Law
from eval.scaling.laws.registry import CURVES, get_law
from eval.scaling.points import Points

FloatArray = NDArray[np.float64]

SURFACES = ("additive", "additive-tied", "kaplan")

#: Fraction of the decades of D that `sensitivity` leaves out.
_LOWEST = 0.2


@dataclass(frozen=True)
class Score:
    """How well one law fits, and how well it predicts.

    Attributes
    ----------
    law : str
        Name of the law.
    formula : str
        Its formula.
    constants : int
        Number of its constants.
    objective : float
        Objective on all points.
    aicc : float
        Corrected Akaike criterion of the fit to all points; lower is better. Infinite when there are too few
        points.
    rms_inside : float
        Root mean squared ln-residual, on the points below the compute cut, of the fit to these points.
    rms_beyond : float
        Root mean squared ln-residual of the same fit on the points above the cut.
    bias_beyond : float
        Mean ln(prediction/measurement) above the cut.
    """

    law: str
    formula: str
    constants: int
    objective: float
    aicc: float
    rms_inside: float
    rms_beyond: float
    bias_beyond: float


@dataclass(frozen=True)
class Ranking:
    """Laws from the best to the worst predictor above a compute cut.

    Attributes
    ----------
    scores : tuple of Score
        Best extrapolation first.
    cut : float
        FLOPs; laws were fitted below and judged above.
    n_below : int
        Number of points below the cut.
    n_above : int
        Number of points above the cut.
    failed : dict of str to str
        Laws that could not be fitted below the cut, with the reason.
    """

    scores: tuple[Score, ...]
    cut: float
    n_below: int
    n_above: int
    failed: dict[str, str]

    @property
    def best(self) -> str:
        """Law that predicts best: not the one that fits best."""
        return self.scores[0].law

    @property
    def best_fitting(self) -> str:
        """Law of the lowest AICc."""
        return min(self.scores, key=lambda s: s.aicc).law

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**plain_fields(self), "best": self.best, "best_fitting": self.best_fitting}

    def __str__(self) -> str:
        lines = [f"fitted to {self.n_below} points below C = {self.cut:.3g}, judged on {self.n_above} above"]
        lines += [
            f"  {s.law:14s} rms beyond {s.rms_beyond:.4f}  (bias {s.bias_beyond:+.4f})  "
            f"inside {s.rms_inside:.4f}  AICc {s.aicc:.1f}"
            for s in self.scores
        ]
        lines += [f"  {name:14s} {reason}" for name, reason in self.failed.items()]
        return "\n".join([*lines, f"  predicts best: {self.best}; fits best: {self.best_fitting}"])


def aicc(points: Points, result: FitResult) -> float:
    """AICc of a fit: the Huber density with free scale (Gaussian for mean squares) is the likelihood."""
    y, prediction, objective = points.L, result.at(points), result.loss
    residual = np.log(prediction / y) if objective.log else prediction - y
    weight = np.ones(len(y)) if points.weight is None else points.weight
    k, n = result.law.size + 1, len(y)  # the scale is a constant, too
    likelihood = (
        -objective.report(residual, weight)
        if objective.kind == "huber-likelihood"
        else log_likelihood(residual, weight, objective.threshold)
    )
    return float(2 * k - 2 * likelihood + 2 * k * (k + 1) / (n - k - 1)) if n > k + 1 else float("inf")


def compare_laws(
    points: Points,
    laws: Sequence[str | Law] = SURFACES,
    *,
    variable: str | None = None,
    cut: float | None = None,
    loss: str = "huber-log",
    delta: float | None = None,
    seed: int = 0,
) -> Ranking:
    """Fit every law below a compute cut and judge it above; also compute AICc on all points.

    Parameters
    ----------
    points : Points
        Losses of training runs.
    laws : sequence of str or Law
        Laws, or their names.
    variable : str, optional
        Variable of laws of one variable that are given by name.
    cut : float, optional
        FLOPs; by default the 70th percentile of the points' compute.
    loss : str
        Objective, as for ``fit``.
    delta : float
        Huber threshold, as for ``fit``.
    seed : int
        Seed of the starts.

    Returns
    -------
    Ranking

    Raises
    ------
    InputError
        There are no points above or below the cut, or no law can be fitted.
    """
    compute = points.compute
    cut = float(np.quantile(compute, 0.7)) if cut is None else cut
    below = compute <= cut
    if below.all() or not below.any():
        raise InputError(
            f"cut: {cut:.4g} FLOPs leaves {int(below.sum())} of {len(points)} points below; "
            f"their compute runs from {compute.min():.4g} to {compute.max():.4g}"
        )
    inside, beyond = points.select(below), points.select(~below)
    scores: list[Score] = []
    failed = {}
    for law in laws:
        options: dict[str, Any] = {"loss": loss, "delta": delta, "bootstrap": 0, "seed": seed}
        try:
            chosen = law if isinstance(law, Law) else get_law(law, variable if law in CURVES else None)
            whole = fit(points, chosen, **options)
            delta = whole.loss.delta  # one threshold for all: only then are their likelihoods compared
            part = fit(inside, chosen, **options | {"delta": delta})
        except InputError as error:
            failed[law if isinstance(law, str) else law.name] = str(error)
            continue
        ratio_in = np.log(part.at(inside) / inside.L)
        with np.errstate(invalid="ignore"):  # the logarithmic law may predict a negative loss
            ratio_out = np.log(part.at(beyond) / beyond.L)
        worst = np.nan_to_num(ratio_out, nan=np.inf)
        scores.append(
            Score(
                whole.law.name,
                whole.law.formula,
                whole.law.size,
                whole.objective,
                aicc(points, whole),
                float(np.sqrt(np.mean(ratio_in**2))),
                float(np.sqrt(np.mean(worst**2))),
                float(np.mean(ratio_out)),
            )
        )
    if not scores:
        raise InputError("laws: none could be fitted: " + "; ".join(failed.values()))
    scores.sort(key=lambda s: s.rms_beyond)
    return Ranking(tuple(scores), cut, len(inside), len(beyond), failed)


#: The window of the fit that leaves nothing out.
ALL_POINTS = "all points"


@dataclass(frozen=True, eq=False)
class Variant:
    """One way to fit the same law.

    Attributes
    ----------
    name : str
    n_points : int
    fit : FitResult
    window : str
        Which of the points were fitted.
    size : str
        What N counts: ``N`` as the table has it, or ``N_blocks``.
    """

    name: str
    n_points: int
    fit: FitResult
    window: str = ALL_POINTS
    size: str = "N"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"name": self.name, "n_points": self.n_points, "params": plain(self.fit.params)}


def sensitivity(points: Points, law: str | Law = "additive", **options: Any) -> list[Variant]:
    """Refit without the smallest D, the smallest N, both, and without the largest compute.

    The smallest D are the lowest fifth of its decades: losses along a run lie so close in D that one alone changes
    nothing. Models are fewer and farther apart: the smallest N is one.

    The choice of points moves the floor more than the errors quoted at a fixed choice; ``options`` go to
    ``fit``. Variants that leave too few points are left out.
    """
    found = []
    for name, mask in _windows(points).items():
        try:
            result = fit(points.select(mask), law, **options)
        except InputError:
            if mask.all():
                raise
            continue
        found.append(Variant(name, int(mask.sum()), result, name))
    return found


def _windows(points: Points) -> dict[str, NDArray[np.bool_]]:
    """Which points each window of the fit keeps; all points first."""
    keep = {ALL_POINTS: np.ones(len(points), dtype=bool)}
    for name in ("D", "N"):
        values = getattr(points, name)
        if values is not None and len(np.unique(values)) > 2:
            least = values.min() * (values.max() / values.min()) ** (_LOWEST if name == "D" else 0.0)
            keep[f"without the smallest {name}"] = (values > values.min()) & (values > 0.999 * least)
    parts = [mask for name, mask in keep.items() if name.startswith("without")]
    if len(parts) == 2:
        keep["without the smallest D and N"] = parts[0] & parts[1]
    if points.C is not None or (points.N is not None and points.D is not None):
        # A tenth of the points, not the one largest value, which in a grid is a single run.
        keep["without the largest tenth of C"] = points.compute <= np.quantile(points.compute, 0.9)
    return keep


#: Objectives that are equally reasonable.
OBJECTIVES = {"Huber": "huber-log", "mean square": "mse-log"}


def variants(
    points: Points,
    law: str | Law = "additive",
    *,
    variable: str | None = None,
    bootstrap: int = 200,
    starts: int = 24,
    seed: int = 0,
) -> tuple[Variant, ...]:
    """Fit the same law in every reasonable way: windows of the fit x objectives x definitions of N.

    Windows are those of `sensitivity`; objectives are Huber's with a threshold that follows the noise and the mean
    square of ln L; N is that of the table and, where the table has a column ``N_blocks`` and the law an N, that of the
    blocks. The first variant is the reference (all points, Huber, N of the table); it alone has a bootstrap.

    Parameters
    ----------
    points : Points
        As for ``fit``.
    law : str or Law
        As for ``fit``.
    variable : str, optional
        As for ``fit``.
    bootstrap : int
        Number of resamples of the reference.
    starts : int
        Number of starts of each search.
    seed : int
        Seed of starts and resamples.

    Returns
    -------
    tuple of Variant

    Raises
    ------
    InputError
        The law cannot be fitted to all points.
    """
    tables = {"N": points}
    chosen = get_law(law, variable) if isinstance(law, str) else law
    if "N" in chosen.variables and any(points.extra.get("N_blocks", ())):
        tables["N_blocks"] = replace(points, N=np.array(points.extra["N_blocks"], dtype=np.float64))
    found: list[Variant] = []
    for size, table in tables.items():
        for objective, loss in OBJECTIVES.items():
            for window, mask in _windows(table).items():
                try:
                    result = fit(
                        table.select(mask), chosen, loss=loss, bootstrap=0 if found else bootstrap,
                        starts=starts, seed=seed,
                    )  # fmt: skip
                except InputError:
                    if not found:
                        raise
                    continue
                name = ", ".join((window, objective, size))
                found.append(Variant(name, int(mask.sum()), result, window, size))
    return tuple(found)


@dataclass(frozen=True)
class Spread:
    """A number and how far it moves with the way it is fitted.

    Attributes
    ----------
    estimate : Estimate
        Value of the reference, with intervals that hold every variant: what a verdict rests on.
    variants : mapping of str to float
        Value of each variant by its name, the reference first.
    """

    estimate: Estimate
    variants: Mapping[str, float]

    @property
    def range(self) -> tuple[float, float]:
        """Least and largest value of the variants."""
        values = list(self.variants.values())
        return min(values), max(values)


def spread(
    variants: Sequence[Variant],
    quantity: Callable[[FitResult], Estimate],
    kind: Kind = "scale",
    *,
    log: bool = False,
) -> Spread:
    """Return the interval of a number over all variants: the union of the reference's interval moved to each value.

    The intervals of the other variants are not used, because those of fits to part of the points are longer for lack of
    points, which is not a systematic error.

    Parameters
    ----------
    variants : sequence of Variant
        From `variants`; the first is the reference.
    quantity : callable
        Function from a fit to the number, with intervals if the fit has a bootstrap.
    kind : {"scale", "exponent"}
        The rule by which it is identified.
    log : bool
        Move the interval by factors, for numbers that may span decades.

    Returns
    -------
    Spread
    """
    estimates = {variant.name: quantity(variant.fit) for variant in variants}
    reference = next(iter(estimates.values()))
    values = {name: estimate.value for name, estimate in estimates.items()}
    finite = [value for value in values.values() if np.isfinite(value)] or [reference.value]

    def moved(ends: tuple[float, float] | None) -> tuple[float, float] | None:
        if ends is None:
            return None
        low, high = ends
        if log and reference.value > 0 and min(finite) > 0:
            return low * min(finite) / reference.value, high * max(finite) / reference.value
        return low + min(finite) - reference.value, high + max(finite) - reference.value

    united = replace(reference, ci68=moved(reference.ci68), ci95=moved(reference.ci95))
    return Spread(united.judged(kind, reference.reason), values)


def systematic(points: Points, law: str | Law = "additive", **options: Any) -> dict[str, Spread]:
    """Every constant and derived exponent of a law over all ways to fit it; ``options`` go to `variants`."""
    return spreads_of(variants(points, law, **options))


def spreads_of(found: Sequence[Variant]) -> dict[str, Spread]:
    """Every constant and derived exponent over the variants of one fit.

    An amplitude of N is another number for another N, and is compared among fits to the same one only.

    Parameters
    ----------
    found : sequence of Variant
        From `variants`.

    Returns
    -------
    dict of str to Spread
    """
    spreads = {}
    for parameter in found[0].fit.law.parameters:
        same = [v for v in found if v.size == "N" or parameter.name not in ("A", "N_c")]
        whole = spread(same, _number(parameter.name), parameter.kind, log=parameter.log)
        spreads[parameter.name] = replace(
            whole, estimate=_within(whole.estimate, parameter.lower, parameter.upper, parameter.kind)
        )
    for name in found[0].fit.derived:
        spreads[name] = spread(found, _number(name), "exponent")
    return spreads


def _number(name: str) -> Callable[[FitResult], Estimate]:
    return lambda fit: {**fit.params, **fit.derived}[name]


def _within(estimate: Estimate, lower: float, upper: float, kind: Kind) -> Estimate:
    """Keep moved intervals within the bounds of a constant; one that reaches a bound is not identified."""
    if estimate.ci68 is None or estimate.ci95 is None:
        return estimate

    def cut(ends: tuple[float, float]) -> tuple[float, float]:
        low, high = np.clip(ends, lower, upper)
        return float(low), float(high)

    outside = estimate.ci95[0] <= lower or estimate.ci95[1] >= upper
    reason = estimate.reason or ("some variant of the fit runs into a bound" if outside else "")
    return replace(estimate, ci68=cut(estimate.ci68), ci95=cut(estimate.ci95)).judged(kind, reason)
