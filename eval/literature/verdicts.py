"""When a measurement supports a published statement, contradicts it, or decides nothing.

A verdict is a function of one interval and of two regions of the number line that were fixed beforehand:

* *supports*: the whole 95 % interval lies in the region where the statement is as good as true (for a number: within
  the margin, the difference that would matter, of the published one);
* *contradicts*: the whole interval lies where the statement fails (beyond the margin);
* *cannot tell*: everything else, and everything that was not measured or not identified;
* *not tested*: the study could not have decided it. In simulations of the study's own grid and scatter the probability
  to support the statement where it holds and the probability to contradict it where it fails are both below one half;
* *not applicable*: the statement is about other jets, or about a quantity that these measurements do not define.

Hence a wider interval never turns "cannot tell" into a decision, and agreement by lack of power is not support.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from eval.common.results import Estimate
from eval.literature.values import Constant

Interval = tuple[float, float]

EVERYWHERE: Interval = (-math.inf, math.inf)


class Verdict(StrEnum):
    """What a study says about a published statement."""

    SUPPORTS = "supports"
    CONTRADICTS = "contradicts"
    CANNOT_TELL = "cannot tell"
    NOT_TESTED = "not tested"
    NOT_APPLICABLE = "not applicable"

    @property
    def decided(self) -> bool:
        """Whether the statement was supported or contradicted."""
        return self in (Verdict.SUPPORTS, Verdict.CONTRADICTS)


@dataclass(frozen=True)
class Criterion:
    """Where on the number line a statement holds, and where it fails.

    Attributes
    ----------
    holds : tuple of float
        Interval in which the statement is as good as true.
    fails : tuple of tuple of float
        Intervals in which it is false; they may share an end with ``holds``, which belongs to ``holds``. What lies
        between decides nothing.
    """

    holds: Interval
    fails: tuple[Interval, ...]

    @classmethod
    def within(cls, margin: float, of: float = 0.0) -> Criterion:
        """The quantity differs from ``of`` by less than ``margin``."""
        return cls((of - margin, of + margin), ((-math.inf, of - margin), (of + margin, math.inf)))

    @classmethod
    def above(cls, least: float) -> Criterion:
        """The quantity is larger than ``least``."""
        return cls((least, math.inf), ((-math.inf, least),))

    def verdict(self, interval: Interval | None) -> Verdict:
        """Verdict of a 95 % interval; without one nothing can be told."""
        if interval is None or math.isnan(interval[0]) or math.isnan(interval[1]):
            return Verdict.CANNOT_TELL
        if _inside(interval, self.holds):
            return Verdict.SUPPORTS
        apart = interval[1] < self.holds[0] or interval[0] > self.holds[1]
        if apart and any(_inside(interval, region) for region in self.fails):
            return Verdict.CONTRADICTS
        return Verdict.CANNOT_TELL


def _inside(interval: Interval, region: Interval) -> bool:
    return region[0] <= interval[0] and interval[1] <= region[1]


@dataclass(frozen=True)
class Outcome:
    """A verdict and what it rests on.

    Attributes
    ----------
    verdict : Verdict
    numbers : str
        What was measured, in words and numbers.
    reason : str
        Why this gives the verdict.
    interval : tuple of float or None
        The 95 % interval that decided.
    """

    verdict: Verdict
    numbers: str
    reason: str = ""
    interval: Interval | None = None

    @property
    def sentence(self) -> str:
        """Numbers and reason."""
        return ": ".join(part for part in (self.numbers, self.reason) if part)

    @classmethod
    def unknown(cls, reason: str) -> Outcome:
        """Nothing was measured that could tell."""
        return cls(Verdict.CANNOT_TELL, reason)

    @classmethod
    def inapplicable(cls, reason: str) -> Outcome:
        """The statement does not apply to what was measured."""
        return cls(Verdict.NOT_APPLICABLE, reason)


def usable(estimate: Estimate) -> Interval | None:
    """The 95 % interval of an estimate that may be judged by: None if it is not identified or not finite."""
    if estimate.identified is False or estimate.ci95 is None or not all(map(math.isfinite, estimate.ci95)):
        return None
    return estimate.ci95


def judge_difference(
    difference: Estimate, margin: float, numbers: str, shown: Interval | None = None
) -> Outcome:
    """Judge a difference that the statement says is zero.

    Parameters
    ----------
    difference : Estimate
        The measured difference.
    margin : float
        The difference that would matter.
    numbers : str
        The measurement in words and numbers.
    shown : tuple of float, optional
        Interval of the measured quantity, if readers are to see this instead of the difference.

    Returns
    -------
    Outcome
    """
    interval = usable(difference)
    verdict = Criterion.within(margin).verdict(interval)
    return Outcome(
        verdict, f"{numbers}, margin {margin:.2g}", _reason(verdict, difference, interval), shown or interval
    )


def compare(name: str, ours: Estimate, theirs: Constant, margin: float) -> Outcome:
    """Judge an estimate against a published constant, whose interval (taken as 95 %) widens that of the difference."""
    if theirs.value is None:
        raise ValueError(f"{theirs.key}: no number was published to compare with")
    if (interval := usable(ours)) is None:
        return Outcome.unknown(f"{name} is not identified here ({ours.reason or 'no interval was computed'})")
    low, high = interval
    below = 0.0 if theirs.high is None else theirs.high - theirs.value
    above = 0.0 if theirs.low is None else theirs.value - theirs.low
    distance = ours.value - theirs.value
    ends = (distance - math.hypot(ours.value - low, below), distance + math.hypot(high - ours.value, above))
    numbers = f"{name} = {ours.text('ci95')} here, {theirs} published"
    return judge_difference(Estimate(distance, ci95=ends, identified=True), margin, numbers, interval)


def _reason(verdict: Verdict, difference: Estimate, interval: Interval | None) -> str:
    if verdict is Verdict.SUPPORTS:
        return "the interval of the difference lies within the margin"
    if interval is None:
        return f"not identified ({difference.reason or 'no interval was computed'})"
    ends = f"[{interval[0]:+.2g}, {interval[1]:+.2g}]"
    if verdict is Verdict.CONTRADICTS:
        return f"the whole interval {ends} of the difference lies beyond the margin"
    if interval[0] <= 0 <= interval[1]:
        return f"compatible, but the interval {ends} of the difference is wider than the margin"
    return f"the difference is resolved, but its interval {ends} reaches across the margin"
