"""Learning rates over a run, and the steps after which it is evaluated."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from genscale.data.plan import BatchPlan

SCHEDULES: Final = ("constant", "cosine")


def learning_rate_factor(
    schedule: str, step: int, n_steps: int, warmup_steps: int, plan: BatchPlan, cooldown: float = 0.0
) -> float:
    """Factor on the peak learning rate of one step.

    Parameters
    ----------
    schedule : "constant" or "cosine"
        After a linear warm-up: the peak rate, or a fall to a tenth of it along a cosine.
    step : int
        Index of the step, 0 .. ``n_steps - 1``.
    n_steps : int
        Steps of the whole run, at the end of which a decay ends. A constant rate does not depend on it.
    warmup_steps : int
    plan : BatchPlan
        Decays are functions of the jets seen.
    cooldown : float
        Share of the jets during which a constant rate falls linearly, to zero at the step after the last; 0: none.
        With warm-up and cooldown this is the warm-up-stable-decay schedule of Hu et al. (arXiv:2404.06395).
    """
    seen, end = plan.jets(step), plan.jets(n_steps)
    if schedule == "constant":
        warm = (step + 1) / warmup_steps if step < warmup_steps else 1.0
        return min(warm, (end - seen) / (cooldown * end)) if cooldown else warm
    if schedule == "cosine":
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        begin = plan.jets(warmup_steps)
        return 0.1 + 0.45 * (1 + math.cos(math.pi * (seen - begin) / max(1, end - begin)))
    raise ValueError(f"schedule {schedule!r}: known are {', '.join(SCHEDULES)}")


def cooldown_start(plan: BatchPlan, n_steps: int, cooldown: float) -> int:
    """Number of steps after which the rate of a run of ``n_steps`` begins to fall; those before do not depend on it."""
    end = plan.jets(n_steps)
    return plan.steps(math.floor(end - cooldown * end))


def evaluation_steps(
    plan: BatchPlan, jets: int, n_evaluations: int, first_jets: int = 1, every_jets: int = 0
) -> list[int]:
    """Numbers of finished steps after which a run is evaluated.

    Parameters
    ----------
    plan : BatchPlan
    jets : int
        Jets of the run; those of an incomplete last batch are not seen. The end is always among the evaluations.
    n_evaluations : int
        Evaluations from ``first_jets`` to the end, at equal ratios of the jets seen as closely as whole batches allow;
        steps that would come twice come once.
    first_jets : int
    every_jets : int
        Further evaluations as soon as every multiple of this was seen; 0: none.
    """
    n_steps = plan.steps(jets)
    end, first = plan.jets(n_steps), plan.jets(min(max(1, plan.steps_to(first_jets)), n_steps))
    spaced = np.geomspace(first, end, n_evaluations) if n_evaluations > 1 else ()
    even = range(every_jets, end, every_jets) if every_jets else ()
    return sorted({plan.nearest(float(d)) for d in spaced} | {plan.steps_to(d) for d in even} | {n_steps})
