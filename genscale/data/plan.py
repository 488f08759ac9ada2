"""The number of jets of each training step, in closed form, so that a run can be resumed at any step."""

from __future__ import annotations

import math
import sys
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import Final

#: Jets of the first batches of a ramp.
SMALLEST_BATCH: Final = 4


@dataclass(frozen=True)
class Phase:
    """Consecutive steps with batches of one size.

    Attributes
    ----------
    step : int
        Index of the first of them.
    end : int
        Index of the step after the last of them.
    jets : int
        Jets seen before the first.
    batch : int
        Jets of each step.
    """

    step: int
    end: int
    jets: int
    batch: int


@dataclass(frozen=True)
class BatchPlan:
    """The number of jets of each optimizer step: constant, or smaller at first, in a ramp.

    The best batch of a run grows about as the square root of its jets (Zhang et al., arXiv:2410.21676, for the critical
    batch size of language models). In a ramp the batch after D jets is therefore the largest power of two of at most
    ``batch_jets * sqrt(D / ramp_jets)`` jets, and at least four: it doubles whenever D has grown by a factor of four.
    With ``batch_jets=32, ramp_jets=32000`` batches have 4 jets up to D = 2,000, 8 up to 8,000, 16 up to 32,000, and 32
    from there. Hence a run that ends at 2,000, 8,000, 32,000 or 128,000 jets sees three quarters or more of them in
    batches of 4, 8, 16 or 32.

    Attributes
    ----------
    batch_jets : int
        Jets of the largest batches; with a ramp, a power of two.
    ramp_jets : int
        Jets seen from which on batches have this size; 0: from the start.
    """

    batch_jets: int
    ramp_jets: int = 0

    @cached_property
    def phases(self) -> tuple[Phase, ...]:
        """The phases of the run; each holds whole batches, and the last has no end."""
        batch = min(SMALLEST_BATCH, self.batch_jets) if self.ramp_jets else self.batch_jets
        phases, step, jets = [], 0, 0
        while batch < self.batch_jets:
            until = -(-self.ramp_jets // (self.batch_jets // (2 * batch)) ** 2)  # where the next batch is due
            steps = max(0, -(-(until - jets) // batch))
            phases.append(Phase(step, step + steps, jets, batch))
            step, jets, batch = step + steps, jets + steps * batch, 2 * batch
        return (*phases, Phase(step, sys.maxsize, jets, batch))

    def phase(self, step: int) -> Phase:
        """Return the phase of the step with this index."""
        return self.phases[bisect_right(self.phases, step, key=lambda phase: phase.step) - 1]

    def jets(self, n_steps: int) -> int:
        """Return the number of jets seen in the first ``n_steps`` steps."""
        phase = self.phase(n_steps)
        return phase.jets + (n_steps - phase.step) * phase.batch

    def steps(self, jets: int) -> int:
        """Return the largest number of steps that see at most this many jets."""
        phase = self.phases[bisect_right(self.phases, jets, key=lambda phase: phase.jets) - 1]
        return phase.step + (jets - phase.jets) // phase.batch

    def steps_to(self, jets: int) -> int:
        """Return the smallest number of steps that see at least this many jets."""
        steps = self.steps(jets)
        return steps + (self.jets(steps) < jets)

    def nearest(self, jets: float) -> int:
        """Return the number of steps after which the number of jets seen is closest to this number."""
        steps = self.steps(math.floor(jets))
        return steps + (jets - self.jets(steps) > self.jets(steps + 1) - jets)
