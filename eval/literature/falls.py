"""Whether the loss falls with size and with data, judged by differences of losses, without a law."""

from __future__ import annotations

from eval.literature.verdicts import Criterion, Interval, Outcome, Verdict
from eval.scaling.steps import SPAN, UNREPEATED, PairedSteps

#: A decrease by less than this many nats per decade counts as none.
NO_FALL = 1e-3


def falls_with_size(steps: PairedSteps | None) -> Outcome:
    """Judge by the wide step of size at the largest D: no law is needed."""
    if steps is None:
        return Outcome.unknown("no single-pass runs were compared")
    if steps.span is None:
        return Outcome.unknown(
            f"no sizes {SPAN:g} decades apart saw the largest D: fewer could not show a law"
        )
    step = steps.span
    low, high = step.interval()
    numbers = (
        f"from N = {step.low:.3g} to {step.high:.3g}, each after {step.other:,.0f} jets seen once, the loss falls by "
        f"{_falling(-step.change, (-high, -low), step.decades)} nats per decade"
    )
    if (last := steps.last_size) is not None:
        numbers += (
            f"; from {last.low:.3g} to {last.high:.3g} by {_falling(-last.change, _fall(last.interval()))}"
        )
    return _fall_outcome(numbers, (-high / step.decades, -low / step.decades), step.dof)


def falls_with_data(steps: PairedSteps | None) -> Outcome:
    """Judge by the last doubling of D at the largest N that saw the largest D."""
    if steps is None or (step := steps.last_doubling) is None:
        return Outcome.unknown("no single-pass runs were compared at D and D/2")
    interval = _fall(step.interval())
    numbers = (
        f"from {step.low:,.0f} to {step.high:,.0f} jets seen once, at N = {step.other:.3g}, the loss falls by "
        f"{_falling(-step.change, interval)} nats"
    )
    return _fall_outcome(numbers, (interval[0] / step.decades, interval[1] / step.decades), step.dof)


def _fall(change: Interval) -> Interval:
    return -change[1], -change[0]


def _falling(value: float, interval: Interval, decades: float = 1.0) -> str:
    return f"{value / decades:.3g} [{interval[0] / decades:.3g}, {interval[1] / decades:.3g}]"


def _fall_outcome(numbers: str, per_decade: Interval, dof: float) -> Outcome:
    if not dof > 0:
        return Outcome.unknown(f"{numbers}; {UNREPEATED}")
    verdict = Criterion.above(NO_FALL).verdict(per_decade)
    reason = {Verdict.SUPPORTS: "it falls", Verdict.CONTRADICTS: "it does not fall"}.get(
        verdict, f"the interval holds {NO_FALL:g} nats per decade, a fall too small to matter"
    )
    return Outcome(verdict, numbers, reason, per_decade)
