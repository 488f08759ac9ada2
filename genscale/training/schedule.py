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
    """Return the factor on the peak learning rate of one step.

    Parameters
    ----------
    schedule : "constant" or "cosine"
        After a linear warm-up: the peak rate, or a cosine decay to a tenth of it.
    step : int
        Index of the step, 0 .. ``n_steps - 1``.
    n_steps : int
        Number of steps of the run, at the end of which a decay ends. A constant rate does not depend on it.
    warmup_steps : int
        Number of steps of the warm-up.
    plan : BatchPlan
        Jets of each step; decays are functions of the jets seen.
    cooldown : float
        Fraction of the jets during which a constant rate falls linearly, to zero at the step after the last; 0 for
        none. With warm-up and cooldown this is the warm-up-stable-decay schedule of Hu et al. (arXiv:2404.06395).

    Returns
    -------
    float

    Raises
    ------
    ValueError
        The schedule is unknown.
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
    """Return the number of steps before the cooldown of a run of ``n_steps``, which do not depend on the cooldown."""
    end = plan.jets(n_steps)
    return plan.steps(math.floor(end - cooldown * end))


def evaluation_steps(
    plan: BatchPlan, jets: int, n_evaluations: int, first_jets: int = 1, every_jets: int = 0
) -> list[int]:
    """Return the numbers of finished steps after which a run is evaluated.

    Parameters
    ----------
    plan : BatchPlan
        Jets of each step.
    jets : int
        Jets of the run; those of an incomplete last batch are not seen. The last step is always evaluated.
    n_evaluations : int
        Number of evaluations from ``first_jets`` to the end, at equal ratios of the jets seen as closely as whole
        batches allow; evaluations after the same step are made once.
    first_jets : int
        Jets seen at the first evaluation.
    every_jets : int
        Further evaluations as soon as each multiple of this number was seen; 0 for none.

    Returns
    -------
    list of int
    """
    n_steps = plan.steps(jets)
    end, first = plan.jets(n_steps), plan.jets(min(max(1, plan.steps_to(first_jets)), n_steps))
    spaced = np.geomspace(first, end, n_evaluations) if n_evaluations > 1 else ()
    even = range(every_jets, end, every_jets) if every_jets else ()
    return sorted({plan.nearest(float(d)) for d in spaced} | {plan.steps_to(d) for d in even} | {n_steps})
