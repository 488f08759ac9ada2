"""What a study costs before it is run: FLOPs and optimizer steps of its trainings, hours of one core for all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from genscale.study.cells import Cell
from genscale.study.jobs import Decode, Encode, Fidelity, Generate, Job, Predict, Quality, Simulate, Train

#: Jets per second of one core, measured with the laptop studies: simulation with and without multiparton interactions,
#: one pass through a tokenizer, and the score of a sample.
SIMULATED: Final = {False: 400.0, True: 60.0}
TOKENIZED: Final = 2_000.0
SCORED: Final = 500.0

#: Sampling computes one particle after another, at a tenth of the rate of training; every jet takes 1 ms besides, and
#: 0.05 ms where it is only classified.
SAMPLING_SHARE: Final = 0.1
SAMPLED_S: Final = 1e-3
CLASSIFIED_S: Final = 5e-5


@dataclass(frozen=True)
class Costs:
    """Estimates for the cells of a study, in seconds of one core.

    Attributes
    ----------
    cells : sequence of Cell
        Cells of the study.
    flops_per_second : float
        Rate of training. 6e10 is that of one CPU core at widths of 64 and more.
    ms_per_step : float
        Time of an optimizer step beside its floating-point operations.
    """

    cells: Sequence[Cell]
    flops_per_second: float = 6e10
    ms_per_step: float = 1.0

    def seconds(self, job: Job) -> float:
        """Estimate for a job; 0 for what takes seconds only, and for stores that were given."""
        match job:
            case Train():
                steps = job.of.training.total_steps
                return (
                    job.flops + job.held_out_flops
                ) / self.flops_per_second + steps * self.ms_per_step / 1000
            case Simulate():
                return (job.n_jets + sum(job.jets_of.values())) / SIMULATED[job.mpi]
            case Encode():
                return (job.n_jets or self._jets(job.jets)) / TOKENIZED
            case Decode():
                return job.n_jets / TOKENIZED
            case Quality():
                return self._jets(job.jets) / TOKENIZED
            case Generate():
                forward = self._forward_flops(job.of) / (SAMPLING_SHARE * self.flops_per_second)
                return job.jets * (SAMPLED_S + forward)
            case Predict():
                forward = self._forward_flops(job.of) / self.flops_per_second
                return self._jets(job.jets) * (CLASSIFIED_S + forward)
            case Fidelity():
                return job.n_jets / SCORED
        return 0.0

    def _jets(self, store: str) -> int:
        """Number of jets of a simulated store."""
        made = next((cell.job for cell in self.cells if cell.id == store), None)
        return made.n_jets + sum(made.jets_of.values()) if isinstance(made, Simulate) else 0

    def _forward_flops(self, weights: str) -> float:
        """Floating-point operations of a forward pass of a trained model, per jet: a third of those of training."""
        run = next(cell.job for cell in self.cells if Path(weights).is_relative_to(cell.id))
        assert isinstance(run, Train)
        return run.flops / run.of.training.total_jets / 3

    def seconds_ahead(self) -> dict[str, float]:
        """Seconds of the longest chain of cells that begins with each cell, which determines the total time."""
        ahead = dict.fromkeys((cell.id for cell in self.cells), 0.0)
        for cell in reversed(self.cells):  # cells come after those that they need
            ahead[cell.id] += self.seconds(cell.job)
            for need in cell.needs:
                ahead[need] = max(ahead[need], ahead[cell.id])
        return ahead

    def table(self) -> str:
        """Table of the cells with the FLOPs of their trainings and held-out losses, and the hours of all of them."""
        lines = [f"{'cell':34s} {'work':16s} {'FLOPs':>9s} {'held-out':>9s} {'steps':>9s} {'hours':>8s}"]
        hours = {"simulation": 0.0, "trainings": 0.0, "samples, scores and predictions": 0.0}
        for cell in self.cells:
            job, of_cell = cell.job, self.seconds(cell.job) / 3600
            counts = f"{'':9s} {'':9s} {'':9s}"
            kind = "simulation" if isinstance(job, Simulate) else "samples, scores and predictions"
            if isinstance(job, Train):
                kind = "trainings"
                counts = f"{job.flops:9.2e} {job.held_out_flops:9.2e} {job.of.training.total_steps:9,d}"
            hours[kind] += of_cell
            lines.append(f"{cell.id:34s} {job.kind:16s} {counts} {of_cell:8.3f}")
        trained = [cell.job for cell in self.cells if isinstance(cell.job, Train)]
        lines.append(
            f"{len(self.cells)} cells; the trainings need {sum(job.flops for job in trained):.2e} FLOPs, their "
            f"held-out losses {sum(job.held_out_flops for job in trained):.2e}. Hours of one core: "
            f"{', '.join(f'{kind} {h:.2f}' for kind, h in hours.items())}, in total {sum(hours.values()):.2f}, at "
            f"{self.flops_per_second:.1e} FLOP/s and {self.ms_per_step:g} ms for each step besides "
            "(--flops-per-second, --ms-per-step)"
        )
        return "\n".join(lines)
