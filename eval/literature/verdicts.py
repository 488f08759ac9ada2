"""When a measured number supports a published one, contradicts it, or cannot tell.

* *supports*: the 95 % interval of the difference lies inside the margin, the difference that would matter;
* *contradicts*: that interval excludes zero, and the difference itself exceeds the margin;
* *cannot tell*: everything else, an interval wider than the margin above all, and what was not identified or not
  measured. Agreement by lack of power is not support.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from eval.literature.values import Constant
from eval.results import Estimate

Verdict = Literal["supports", "contradicts", "cannot tell"]


def verdict_of(difference: Estimate, margin: float) -> Verdict:
    """Verdict on a difference that should be zero."""
    if difference.identified is False or difference.ci95 is None or not np.isfinite(difference.ci95).all():
        return "cannot tell"
    low, high = difference.ci95
    if -margin <= low and high <= margin:
        return "supports"
    if (low > 0 or high < 0) and abs(difference.value) > margin:
        return "contradicts"
    return "cannot tell"


_BECAUSE = {
    "supports": "the interval lies within the margin",
    "contradicts": "the difference is resolved and larger than the margin",
}


def compare(name: str, ours: Estimate, theirs: Constant, margin: float) -> tuple[Verdict, str]:
    """Own estimate against a published constant, whose interval (taken as 95 %) widens that of the difference."""
    if ours.identified is False or ours.ci95 is None:
        return "cannot tell", f"{name} is not identified here ({ours.reason or 'no interval was computed'})"
    low, high = ours.ci95
    below = 0.0 if theirs.high is None else theirs.high - theirs.value
    above = 0.0 if theirs.low is None else theirs.value - theirs.low
    distance = ours.value - theirs.value
    difference = Estimate(
        distance,
        ci95=(
            distance - float(np.hypot(ours.value - low, below)),
            distance + float(np.hypot(high - ours.value, above)),
        ),
        identified=True,
    )
    verdict = verdict_of(difference, margin)
    numbers = f"{name} = {with_interval(ours)} here, {theirs} published, margin {margin:.2g}"
    return verdict, f"{numbers}: {because(difference, verdict, margin)}"


def because(difference: Estimate, verdict: Verdict, margin: float) -> str:
    """Why `verdict_of` says what it says."""
    if verdict in _BECAUSE:
        return _BECAUSE[verdict]
    if difference.ci95 is None or difference.identified is False:
        return f"not identified ({difference.reason})"
    low, high = difference.ci95
    if low <= 0 <= high:
        return f"compatible, but the interval [{low:+.2g}, {high:+.2g}] of the difference is wider than the margin"
    return f"the difference is resolved, but its interval [{low:+.2g}, {high:+.2g}] reaches across the margin"


def with_interval(e: Estimate) -> str:
    """The value with its 95 % interval."""
    return f"{e.value:.3g}" + ("" if e.ci95 is None else f" [{e.ci95[0]:.3g}, {e.ci95[1]:.3g}]")
