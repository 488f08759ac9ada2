"""How the claims about taggers are judged: Vigl et al. (arXiv:2602.15781), Uslu et al. (arXiv:2606.19781)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from math import inf, log10

import numpy as np
from scipy.optimize import brentq
from scipy.stats import chi2 as chi2_distribution

from eval.common.results import Estimate
from eval.literature.findings import Findings
from eval.literature.values import USLU, published
from eval.literature.verdicts import Criterion, Interval, Outcome, Verdict, compare, judge_difference, usable
from eval.tagging.law import RejectionLaw

#: Scatter of ln R between taggers of equal loss, beyond statistics, with which R would not be a function of the loss.
MOST_SCATTER = 0.2

#: Rejections that differ by less than this factor follow any smooth curve.
LEAST_RANGE = 3.0

#: A quarter of the published exponent of data, and a third of it.
BETA_MARGIN, SLOPE_MARGIN = 0.055, 0.07


def exponent(key: str, margin: float) -> Callable[[Findings], Outcome]:
    """Return the function that judges a constant of the single-pass law by the published one."""

    def judged(f: Findings) -> Outcome:
        if key not in f.tagging:
            return Outcome.unknown("no single-pass law of N and D was fitted for tagging")
        return compare(key, _judged_by_interval(f.tagging[key]), published(key), margin)

    return judged


def floor(f: Findings) -> Outcome:
    """The floor of the single-pass law is compared for the same jets only."""
    if not f.same_jets:
        here = f"L_inf = {f.tagging['E'].text('ci95')} here belongs to" if "E" in f.tagging else "these are"
        return Outcome.inapplicable(
            f"{here} other jets than the published {published('L_inf')}; floors of different simulations, selections "
            "or inputs are different numbers"
        )
    if "E" not in f.tagging:
        return Outcome.unknown("no single-pass law of N and D was fitted for tagging")
    return compare("L_inf", _judged_by_interval(f.tagging["E"]), published("L_inf"), 0.03)


def _judged_by_interval(estimate: Estimate) -> Estimate:
    """Return the estimate as not judged, because an interval too wide to quote may still lie beyond a margin."""
    return replace(estimate, identified=None) if estimate.ci95 is not None else estimate


def threshold(f: Findings) -> Outcome:
    """The exponent of the overfitting threshold."""
    if f.threshold is None:
        return Outcome.unknown("no overfitting threshold was measured")
    return compare("lambda", f.threshold.exponent, published("lambda"), 0.12)


def beta_rep(f: Findings) -> Outcome:
    """The exponent of repeated data against that of a single pass, both measured here."""
    if f.repetition is None or f.repetition.beta_difference is None or f.repetition.single is None:
        return Outcome.unknown("repeated data and a single pass were not both fitted")
    numbers = (
        f"beta_rep = {f.repetition.fit.params['beta'].text('ci95')} of repeated data, "
        f"beta = {f.repetition.single.params['beta'].text('ci95')} of a single pass, "
        f"difference {f.repetition.beta_difference.text('ci95')}"
    )
    return judge_difference(f.repetition.beta_difference, BETA_MARGIN, numbers)


def independent_of_size(f: Findings) -> Outcome:
    """The slope of the early-stopped loss with N above the threshold, relative to that with U."""
    if f.repetition is None:
        return Outcome.unknown("no law of repeated data was fitted")
    slope = f.repetition.size_slope
    numbers = (
        f"above the threshold ({int(f.repetition.above.sum())} runs) the early-stopped loss falls by "
        f"{slope.text('ci95')} times as much per decade of N as per decade of unique jets"
    )
    return judge_difference(slope, 0.2, numbers)


def cost(f: Findings) -> Outcome:
    """Compute of repeated training over that of the compute-optimal single pass to the same loss."""
    if f.repetition is None or f.repetition.mean_cost is None:
        return Outcome.unknown("compute of repeated training was not measured beside a single-pass law")
    ratio = f.repetition.mean_cost
    interval = usable(ratio)
    if interval is None or not interval[0] > 0:
        return Outcome.unknown(
            f"the compute ratio is not identified ({ratio.reason or 'no interval was computed'})"
        )
    ends = (log10(interval[0] / 10), log10(interval[1] / 10))
    numbers = (
        f"the cheapest runs above the threshold took {ratio.text('ci95')} times the compute-optimal compute of their "
        "loss, published about 10; in decades"
    )
    return judge_difference(Estimate(log10(ratio.value / 10), None, ends, True), log10(3), numbers, interval)


def inputs(f: Findings) -> Outcome:
    """Whether the floors of several inputs differ and their exponents do not."""
    c = f.inputs
    if c is None:
        return Outcome.unknown("input configurations were not compared")
    slopes = _largest(c.slope_differences.values())
    floors = _largest(c.floor_differences.values())
    verdict = Criterion.within(SLOPE_MARGIN).verdict(slopes)
    numbers = (
        f"{len(c.fits)} configurations: common beta = {c.slopes.mean.text('ci95')}; the largest difference of "
        f"exponents lies in [{slopes[0]:.2g}, {slopes[1]:.2g}], margin {SLOPE_MARGIN:.2g}, the largest difference of "
        f"floors at the common beta in [{floors[0]:.2g}, {floors[1]:.2g}] nats"
    )
    if verdict is Verdict.SUPPORTS and not floors[0] > 0:
        return Outcome(
            Verdict.CANNOT_TELL, numbers, "exponents agree, but no floor moved that could tell", slopes
        )
    reason = {
        Verdict.SUPPORTS: "floors move, exponents do not",
        Verdict.CONTRADICTS: "exponents differ by more than the margin",
    }.get(verdict, "the exponents are not known well enough")
    return Outcome(verdict, numbers, reason, slopes)


def _largest(differences: Iterable[Estimate]) -> Interval:
    """Interval of the largest absolute difference; one that is not identified may be anything."""
    ends = [usable(d) or (-inf, inf) for d in differences]
    # The smallest absolute value in an interval that holds zero is zero.
    lows = [max(low, -high, 0.0) for low, high in ends]
    highs = [max(high, -low) for low, high in ends]
    return max(lows, default=0.0), max(highs, default=inf)


def rejection(f: Findings) -> Outcome:
    """The scatter of ln R between taggers of equal loss, in the median class."""
    if not f.rejection:
        return Outcome.unknown("rejections of several taggers were not measured")
    ends = {name: scatter_interval(law) for name, law in f.rejection.items()}
    low, high = (float(np.median([e[i] for e in ends.values()])) for i in (0, 1))
    worst = max(ends, key=lambda name: ends[name][0])
    tested = sum(e[1] < inf for e in ends.values())
    taggers = max(len(law.loss) for law in f.rejection.values())
    numbers = (
        f"over {taggers} taggers the law of the median class misses ln R by {low:.2g} to {high:.2g} beyond statistics; "
        f"most in {worst} ({ends[worst][0]:.2g} to {ends[worst][1]:.2g}); {tested} of {len(ends)} classes can tell"
    )
    verdict = Criterion((0.0, MOST_SCATTER), ((MOST_SCATTER, inf),)).verdict((low, high))
    reason = {
        Verdict.SUPPORTS: f"less than {MOST_SCATTER:g}",
        Verdict.CONTRADICTS: f"more than {MOST_SCATTER:g}",
    }.get(verdict, f"this may be more or less than {MOST_SCATTER:g}")
    return Outcome(verdict, numbers, reason, (low, high))


def scatter_interval(law: RejectionLaw, level: float = 0.95) -> Interval:
    """Interval of the scatter s of ln R beyond statistics: sum of residual^2/(error^2 + s^2) follows chi-squared.

    From zero to infinity where the constants are not identified, no degree of freedom is left, or the rejections differ
    by less than a factor of 3, so that any smooth curve would fit.
    """
    fitted = law.fit.predict(L=law.loss)
    if law.dof < 1 or law.fit.params["B"].identified is False or fitted.max() < LEAST_RANGE * fitted.min():
        return 0.0, inf
    squares = law.residual**2

    def scatter_at(quantile: float) -> float:
        target = float(chi2_distribution.ppf(quantile, law.dof))

        def surplus(s: float) -> float:
            return float(np.sum(squares / (law.error**2 + s**2))) - target

        if surplus(0.0) <= 0:
            return 0.0
        return float(brentq(surplus, 0.0, float(np.sqrt(squares.sum() / target)) + 1e-12))

    return scatter_at(0.5 + level / 2), scatter_at(0.5 - level / 2)


def isoflop(f: Findings) -> Outcome:
    """The IsoFLOP exponent of taggers from scratch."""
    if f.isoflop_a is None:
        return Outcome.unknown("no IsoFLOP exponent was measured")
    return compare("a (IsoFLOP)", f.isoflop_a, published("a_isoflop", USLU, "from scratch"), 0.1)
