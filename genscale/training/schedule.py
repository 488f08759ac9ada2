"""Learning rates over a run, and the steps at which it is evaluated."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

#: Share of a warm-up-stable-decay run that decays. Hu et al. (arXiv:2404.06395) find a tenth enough for long runs; runs
#: of some hundred to some thousand steps, as in studies of small models, gain from more.
DECAY_SHARE: Final = 0.3

SCHEDULES: Final = ("constant", "cosine", "wsd")


def learning_rate_factor(schedule: str, step: int, n_steps: int, warmup_steps: int) -> float:
    """Factor on the peak learning rate for the step with this index (0 .. n_steps - 1).

    Linear warm-up in every schedule; then ``constant``, ``cosine`` to a tenth, or ``wsd``: constant with a
    linear decay over the last 30 %, which would reach zero at the step after the last; the last step of a
    short run decays, too. The horizon of the decaying ones is the run's own D.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule == "constant":
        return 1.0
    if schedule == "cosine":
        done = (step - warmup_steps) / max(1, n_steps - warmup_steps)
        return 0.1 + 0.45 * (1 + math.cos(math.pi * done))
    if schedule == "wsd":
        return min(1.0, (n_steps - step) / max(2.0, DECAY_SHARE * n_steps))
    raise ValueError(f"schedule {schedule!r}: known are {', '.join(SCHEDULES)}")


def evaluation_steps(n_steps: int, n_evaluations: int, first: int = 1, every: int = 0) -> list[int]:
    """Numbers of finished steps: log-spaced from ``first`` to ``n_steps``, and every multiple of ``every`` (0: none).

    Without repeats; the end is always in.
    """
    first = min(max(first, 1), n_steps)
    spaced = np.geomspace(first, n_steps, max(n_evaluations, 1)) if n_evaluations > 1 else [n_steps]
    even = range(every, n_steps, every) if every else ()
    return sorted({round(float(step)) for step in spaced} | {*even} | {n_steps})
