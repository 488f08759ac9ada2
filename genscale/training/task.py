"""What the training loop asks of a task, and how any task is trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from genscale.config import require
from genscale.data.batching import Rows
from genscale.data.store import Store
from genscale.errors import InputError
from genscale.training.schedule import SCHEDULES, evaluation_steps


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained; every task has the same keys.

    Attributes
    ----------
    jets : int
        D: jets seen. More than ``jets_unique`` means several epochs.
    jets_unique : int
        Different jets used; 0 means as many as are seen, or all there are if these are fewer.
    batch_jets : int
        Jets per optimizer step, over all processes and micro-batches.
    accumulate : int
        Micro-batches per step and process.
    learning_rate, weight_decay, clip_norm : float
        AdamW's peak rate and decay; largest norm of the gradient. A rate of 0 stands for the rule of a generator's
        size (:func:`genscale.models.ladder.learning_rate`); other tasks have none.
    schedule : "constant", "cosine" or "wsd"
    warmup_steps : int
    evaluations : int
        Held-out evaluations at log-spaced steps.
    first_evaluation_jets : int
        Jets seen at the first of them.
    evaluate_every_jets : int
        Further evaluations whenever this many jets were seen, for overfitting comes late, where log-spaced ones
        are rare; 0: none.
    patience : int
        The run ends after this many evaluations without a lower held-out loss, and keeps the weights that had the
        lowest. Evaluations within the first epoch do not count: on fresh jets nothing is overfitted. 0: never.
    average : float
        Held-out losses and the saved model are those of weights averaged over about this share of the steps so far
        (:mod:`genscale.training.averaging`); 0: of the last weights.
    validation_jets : int
        Held-out jets; 0 means all.
    checkpoint_s : float
        Seconds between checkpoints.
    precision : "fp32" or "bf16"
    compile : bool
        Compile the model with torch.compile, for GPUs. On a CPU the fused blocks, which this turns off, are faster.
    loader_workers : int
        Processes that read ahead.
    seed : int
        Of the initial weights, the order of the jets, and dropout.
    """

    jets: int = 10_000
    jets_unique: int = 0
    batch_jets: int = 64
    accumulate: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    clip_norm: float = 5.0
    schedule: str = "constant"
    warmup_steps: int = 50
    evaluations: int = 12
    first_evaluation_jets: int = 1_000
    evaluate_every_jets: int = 0
    patience: int = 0
    average: float = 0.0
    validation_jets: int = 2_000
    checkpoint_s: float = 30.0
    precision: str = "fp32"
    compile: bool = False
    loader_workers: int = 0
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("jets", "batch_jets", "accumulate", "evaluations", "first_evaluation_jets"):
            require(getattr(self, name) >= 1, f"{name}: {getattr(self, name)} is not at least 1")
        for name in ("clip_norm", "checkpoint_s"):
            require(getattr(self, name) > 0, f"{name}: {getattr(self, name)} is not positive")
        for name in (
            "learning_rate",
            "jets_unique",
            "weight_decay",
            "warmup_steps",
            "evaluate_every_jets",
            "patience",
            "validation_jets",
            "loader_workers",
            "seed",
        ):
            require(getattr(self, name) >= 0, f"{name}: {getattr(self, name)} is negative")
        require(
            self.schedule in SCHEDULES, f"schedule: {self.schedule!r} is not one of {', '.join(SCHEDULES)}"
        )
        require(
            self.precision in ("fp32", "bf16"),
            f"precision: {self.precision!r} is not fp32 or bf16",
        )
        require(0 <= self.average < 1, f"average: {self.average} is not in [0, 1)")
        require(
            self.jets >= self.batch_jets, f"jets: {self.jets} is less than one batch of {self.batch_jets}"
        )

    @property
    def n_steps(self) -> int:
        """Optimizer steps of the run: whole batches only."""
        return self.jets // self.batch_jets

    @property
    def evaluated_after(self) -> list[int]:
        """Numbers of finished steps at which the held-out loss is measured."""
        first = math.ceil(self.first_evaluation_jets / self.batch_jets)
        every = math.ceil(self.evaluate_every_jets / self.batch_jets)
        return evaluation_steps(self.n_steps, self.evaluations, first, every)


class Task(Protocol):
    """What is trained, on what, and how it is judged."""

    name: Any  # "generator", "tagger" or "tokenizer"
    terms: Literal["jets", "tokens"]  # what the loss is a mean over
    size: str
    model: nn.Module
    train_rows: Rows
    config: Any  # the whole run's configuration, for the record
    data: dict[str, str]  # fingerprints of the stores that the run reads
    data_keys: tuple[str, ...]  # keys of config that are these stores' paths

    def parameters(self) -> dict[str, int]:
        """Parameters by part, and their total."""
        ...

    def flops(self, jets: int, tokens: int) -> float:
        """Counted training FLOPs of seeing this many jets and tokens."""
        ...

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Summed loss of a micro-batch: over its jets or its tokens, as ``terms`` says."""
        ...

    def evaluate(
        self, model: nn.Module, accelerator: Accelerator, config: TrainingConfig
    ) -> dict[str, float]:
        """Held-out metrics over all processes; ``loss`` must be among them."""
        ...

    def save(self, model: nn.Module, run: Path) -> None:
        """Write the trained model into the run's folder, in the form its users load."""
        ...


def refuse_test_split(store: Store) -> None:
    """Raise InputError for a store that says it is a test split: test jets are never trained on."""
    if store.manifest.meta.get("split") == "test":
        raise InputError(f"{store.path}: a test split; train on another store")


def mean_loss(
    accelerator: Accelerator, batches: Iterator[Any], score: Callable[[Any], tuple[Tensor, Tensor]]
) -> tuple[float, float, float]:
    """Mean loss per term over all held-out batches and processes, its standard error, and the loss per jet.

    ``score(batch)`` returns the losses summed per jet ``[jets]`` and the terms of each jet ``[jets]``. The
    error is that of a ratio of sums over independent jets (delta method).
    """
    sums = torch.zeros(6, dtype=torch.float64, device=accelerator.device)
    for batch in batches:
        loss, terms = score(batch.to(accelerator.device))
        a, b = loss.double(), terms.double()
        sums += torch.stack(
            [a.sum(), b.sum(), (a * a).sum(), (a * b).sum(), (b * b).sum(), b.new_tensor(len(b))]
        )
    a, b, aa, ab, bb, n = accelerator.reduce(sums, "sum").tolist()
    mean = a / b
    variance = max(aa - 2 * mean * ab + mean * mean * bb, 0.0) / b**2
    return mean, math.sqrt(variance), a / n
