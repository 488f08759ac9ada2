"""Whether other inputs change the floor or the exponent of the loss: one law of data for each configuration.

Vigl et al. (arXiv:2602.15781) train the same tagger on fewer features and fewer particles and find that L_inf moves
and beta hardly does. The fits are independent of each other, but each floor is correlated with its own exponent: floors
are compared twice, each with its own exponent and all with the common one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2 as chi2_distribution

from eval.common.errors import InputError
from eval.common.results import SCHEMA_VERSION, Estimate, plain
from eval.scaling.fitting.fit import fit
from eval.scaling.fitting.result import FitResult
from eval.scaling.laws.registry import get_law
from eval.scaling.points import Points

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Homogeneity:
    """Test whether several estimates agree.

    Attributes
    ----------
    mean : Estimate
        Weighted mean.
    chi2 : float
        Chi2 of the estimates about the mean.
    dof : int
        Its degrees of freedom.
    p_value : float
        Its probability.
    """

    mean: Estimate
    chi2: float
    dof: int
    p_value: float


@dataclass(frozen=True, eq=False)
class InputComparison:
    """Laws L = E + B/x^beta of several input configurations.

    Attributes
    ----------
    points : mapping of str to Points
        Losses of each configuration.
    fits : mapping of str to FitResult
        Fit of each configuration with its own constants.
    slopes : Homogeneity
        Whether all beta agree.
    floors : Homogeneity
        Whether all E agree.
    floors_at_common_slope : mapping of str to Estimate
        E of fits with beta fixed at the common value, whose error is included in the intervals.
    shared_floors : Homogeneity
        Whether these agree; the error of beta, which moves them together, does not count as a difference.
    slope_differences : mapping of (str, str) to Estimate
        First minus second configuration of each pair: beta of the free fits.
    floor_differences : mapping of (str, str) to Estimate
        First minus second configuration of each pair: E at the common beta.
    """

    points: Mapping[str, Points]
    fits: Mapping[str, FitResult]
    slopes: Homogeneity
    floors: Homogeneity
    floors_at_common_slope: Mapping[str, Estimate]
    shared_floors: Homogeneity
    slope_differences: Mapping[tuple[str, str], Estimate]
    floor_differences: Mapping[tuple[str, str], Estimate]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return plain(
            {
                "schema_version": SCHEMA_VERSION,
                "fits": self.fits,
                "slopes": self.slopes,
                "floors": self.floors,
                "floors_at_common_slope": self.floors_at_common_slope,
                "floors_at_common_slope_agree": self.shared_floors,
                "slope_differences": _table(self.slope_differences),
                "floor_differences_at_common_slope": _table(self.floor_differences),
            }
        )


def _table(differences: Mapping[tuple[str, str], Estimate]) -> list[dict[str, Any]]:
    return [{"first": a, "second": b, **plain(e)} for (a, b), e in differences.items()]


def compare_inputs(
    points: Mapping[str, Points],
    *,
    variable: str = "U",
    bootstrap: int = 200,
    loss: str = "mse-log",
    seed: int = 0,
) -> InputComparison:
    """Fit L = E + B/x^beta for each configuration, and test whether the exponents and the floors agree.

    Parameters
    ----------
    points : mapping of str to Points
        Losses of each configuration against ``variable``; two or more.
    variable : str
        D or U.
    bootstrap : int
        Number of resamples, at least two.
    loss : str
        Objective, as for ``fit``.
    seed : int
        Seed of starts and resamples.

    Returns
    -------
    InputComparison

    Raises
    ------
    InputError
        There are fewer than two configurations, or one (which the message names) cannot be fitted.
    """
    if len(points) < 2:
        raise InputError(f"points: {len(points)} input configurations; two or more are needed to compare")
    if variable not in ("D", "U"):
        raise InputError(f"variable: must be D or U, found {variable}")
    if bootstrap < 2:
        raise InputError(f"bootstrap: a comparison needs intervals, found {bootstrap} resamples")
    exponent = get_law("power", variable).terms[0].exponent
    options: dict[str, Any] = {"variable": variable, "bootstrap": bootstrap, "loss": loss}
    fits = {}
    for i, (name, table) in enumerate(points.items()):
        try:  # seeds differ, so that resamples of two configurations are independent
            fits[name] = fit(table, "power", seed=seed + i, **options)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
    slopes = _homogeneity([r.params[exponent] for r in fits.values()])
    floors, draws = _floors_at(slopes.mean, points, exponent, options, seed)
    reason = f"the common {exponent} is not: {slopes.mean.reason}" if slopes.mean.identified is False else ""
    return InputComparison(
        points=dict(points),
        fits=fits,
        slopes=slopes,
        floors=_homogeneity([r.params["E"] for r in fits.values()]),
        floors_at_common_slope={
            name: Estimate.from_samples(floors[i], draws[i], reason) for i, name in enumerate(points)
        },
        shared_floors=_agreement(floors, draws, reason),
        slope_differences=_slope_differences(fits, exponent),
        floor_differences={
            (a, b): Estimate.from_samples(floors[i] - floors[j], draws[i] - draws[j], reason)
            for (i, a), (j, b) in combinations(enumerate(points), 2)
        },
    )


def _floors_at(
    slope: Estimate, points: Mapping[str, Points], exponent: str, options: Mapping[str, Any], seed: int
) -> tuple[FloatArray, FloatArray]:
    """E of each configuration with the exponent held, shape ``(n,)``, and draws ``(n, resamples)``.

    A draw is a resample of the points, moved by what E moves with the exponent, whose draws are common to all.
    """
    ends = slope.ci68
    assert ends is not None
    step = min(0.5 * (ends[1] - ends[0]), 0.5 * slope.value)
    moved = np.random.default_rng(seed).normal(0.0, 1.0, options["bootstrap"])
    floors, draws = [], []
    for i, table in enumerate(points.values()):
        low, middle, high = (
            fit(table, "power", seed=seed + i, fixed={exponent: slope.value + k * step},
                **{**options, "bootstrap": options["bootstrap"] if k == 0 else 0})
            for k in (-1, 0, 1)
        )  # fmt: skip
        e_low, e, e_high = (result.params["E"].value for result in (low, middle, high))
        assert middle.samples is not None
        here = middle.samples[:, middle.law.names.index("E")]
        shift = np.where(moved < 0, moved * (e - e_low), moved * (e_high - e))
        floors.append(e)
        draws.append(np.maximum(here + np.resize(shift, len(here)), 0.0))
    return np.array(floors), np.array(draws)


def _slope_differences(fits: Mapping[str, FitResult], name: str) -> dict[tuple[str, str], Estimate]:
    found = {}
    for a, b in combinations(fits, 2):
        first, second = fits[a].params[name], fits[b].params[name]
        column = fits[a].law.names.index(name)
        samples = [f.samples[:, column] for f in (fits[a], fits[b]) if f.samples is not None]
        reason = "; ".join(
            f"{name} of {who} is not identified"
            for who in (a, b)
            if fits[who].params[name].identified is False
        )
        found[a, b] = Estimate.from_samples(first.value - second.value, samples[0] - samples[1], reason)
    return found


def _agreement(values: FloatArray, draws: FloatArray, reason: str) -> Homogeneity:
    """Chi-squared of correlated estimates about their best common value, with the covariance of their draws."""
    inverse = np.linalg.pinv(np.cov(draws))
    one = np.ones(len(values))
    weight = inverse @ one / (one @ inverse @ one)
    mean = Estimate.from_samples(float(weight @ values), weight @ draws, reason)
    rest = values - mean.value
    chi2 = float(rest @ inverse @ rest)
    return Homogeneity(mean, chi2, len(values) - 1, float(chi2_distribution.sf(chi2, len(values) - 1)))


def _homogeneity(estimates: list[Estimate]) -> Homogeneity:
    """Chi-squared about the weighted mean; an error is half the 68 % interval."""
    values = np.array([e.value for e in estimates])
    ends = np.array([e.ci68 for e in estimates])
    error = np.maximum(0.5 * (ends[:, 1] - ends[:, 0]), 1e-12)
    weight = 1 / error**2
    mean, spread = float(values @ weight / weight.sum()), float(weight.sum() ** -0.5)
    chi2 = float(weight @ (values - mean) ** 2)
    lost = sum(e.identified is False for e in estimates)
    estimate = Estimate(
        mean,
        (mean - spread, mean + spread),
        (mean - 1.96 * spread, mean + 1.96 * spread),
        lost == 0,
        f"{lost} of {len(estimates)} are not identified" if lost else "",
    )
    return Homogeneity(estimate, chi2, len(values) - 1, float(chi2_distribution.sf(chi2, len(values) - 1)))
