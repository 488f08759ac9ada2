"""What the training loop asks of a task, and how any task is trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from genscale.data.batching import Rows
from genscale.data.order import SEEDS
from genscale.data.plan import BatchPlan
from genscale.data.store import Store
from genscale.errors import InputError, require
from genscale.training.schedule import SCHEDULES, cooldown_start, evaluation_steps


@dataclass(frozen=True)
class TrainingConfig:
    """Options of a training, which are the same for all tasks.

    Attributes
    ----------
    jets : int
        Number of jets seen, D. More than ``jets_unique`` means several epochs.
    jets_unique : int
        Number of different jets; 0 means as many as are seen, or all jets of the store if these are fewer.
    batch_jets : int
        Jets per optimizer step, over all processes and micro-batches.
    ramp_jets : int
        Jets seen from which on a step takes ``batch_jets``; before, it takes fewer, as the square root of the jets seen
        (`genscale.data.plan.BatchPlan`). 0: the same batch from the first step.
    accumulate : int
        Micro-batches per step and process.
    learning_rate : float
        Peak learning rate of AdamW. 0 stands for the rule of the model's size (`genscale.models.ladder`).
    weight_decay : float
        Weight decay of AdamW.
    clip_norm : float
        Largest norm of the gradient.
    schedule : "constant" or "cosine"
        Learning rate after warm-up: constant, or a cosine decay to a tenth.
    warmup_steps : int
        Steps of linear warm-up.
    cooldown : float
        Fraction of the jets over which the rate falls linearly to zero before every evaluation, as in a separate run
        that ends there. When the run at constant rate has seen ``(1 - cooldown) D`` jets it pauses; a branch continues
        from its state with a falling rate and is evaluated at D; then the run resumes as if there had been no branch.
        The model is that of the last branch. 0 for no branches.
    evaluations : int
        Number of held-out evaluations, at log-spaced steps.
    first_evaluation_jets : int
        Jets seen at the first of them.
    evaluate_every_jets : int
        Further evaluations whenever this many jets were seen, because overfitting begins late, where log-spaced
        evaluations are rare; 0 for none.
    keep_weights_at : list of int
        After these numbers of jets (whole batches) the run is also evaluated, and its weights are kept: each in a
        folder of its own (see ``weights_folder``) that can be used like that of a finished run.
    patience : float
        The run ends when it has seen this share of jets more than at its lowest held-out loss, after at least three
        further evaluations, and keeps the weights that had the lowest. Evaluations within the first epoch do not
        count, because fresh jets cannot be overfitted. 0 for never.
    average : float
        Held-out losses and the saved model are those of weights averaged over about this fraction of the steps so far
        (`genscale.training.averaging`); 0 for the last weights.
    validation_jets : int
        Number of held-out jets; 0 means all.
    checkpoint_s : float
        Seconds between checkpoints.
    precision : "fp32" or "bf16"
        Precision of the network.
    compile : bool
        Compile the model with torch.compile on a GPU. On a CPU, where fused blocks are faster, it is not compiled,
        and a warning says so.
    loader_workers : int
        Number of processes that read ahead.
    seed : int
        Seed of the initial weights, the order of the jets, and dropout.
    """

    jets: int = 10_000
    jets_unique: int = 0
    batch_jets: int = 64
    ramp_jets: int = 0
    accumulate: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    clip_norm: float = 5.0
    schedule: str = "constant"
    warmup_steps: int = 50
    cooldown: float = 0.0
    evaluations: int = 12
    first_evaluation_jets: int = 1_000
    evaluate_every_jets: int = 0
    keep_weights_at: list[int] = field(default_factory=list)
    patience: float = 0.0
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
            "ramp_jets",
            "weight_decay",
            "warmup_steps",
            "evaluate_every_jets",
            "patience",
            "validation_jets",
            "loader_workers",
            "seed",
        ):
            require(getattr(self, name) >= 0, f"{name}: {getattr(self, name)} is negative")
        for name in ("learning_rate", "weight_decay"):
            require(math.isfinite(getattr(self, name)), f"{name}: {getattr(self, name)} is not finite")
        require(self.seed < SEEDS, f"seed: {self.seed} is not from 0 to {SEEDS - 1}")
        require(
            self.schedule in SCHEDULES, f"schedule: {self.schedule!r} is not one of {', '.join(SCHEDULES)}"
        )
        require(
            self.precision in ("fp32", "bf16"),
            f"precision: {self.precision!r} is not fp32 or bf16",
        )
        require(
            self.patience < 2,
            f"patience: {self.patience} is not in [0, 2): it is the share of jets seen beyond the lowest held-out loss",
        )
        for name in ("average", "cooldown"):
            require(0 <= getattr(self, name) < 1, f"{name}: {getattr(self, name)} is not in [0, 1)")
        require(
            not self.ramp_jets or self.batch_jets.bit_count() == 1,
            f"ramp_jets: batches double along a ramp, and batch_jets, {self.batch_jets}, is not a power of two",
        )
        least = self.plan.phase(0).batch
        require(self.jets >= least, f"jets: {self.jets} is less than one batch of {least}")
        if self.cooldown:
            require(
                self.schedule == "constant",
                f"cooldown: needs schedule: constant, not {self.schedule}, to branch from",
            )
            for name, why in (
                ("average", "the end of a cooldown needs no averaging"),
                ("patience", "the D at which a run with patience ends is not known before"),
                ("evaluate_every_jets", "each evaluation would be a branch; ask for more evaluations"),
            ):
                require(
                    not getattr(self, name),
                    f"cooldown: does not go with {name} ({why}); set one of them to 0",
                )
        for jets in self.keep_weights_at:
            require(1 <= jets <= self.jets, f"keep_weights_at: {jets} is not between 1 and jets={self.jets}")
        require(
            len(self.weights_kept_after) == len(self.keep_weights_at),
            f"keep_weights_at: {self.keep_weights_at} names one step twice",
        )

    @property
    def plan(self) -> BatchPlan:
        """Jets of every step."""
        return BatchPlan(self.batch_jets, self.ramp_jets)

    @property
    def n_steps(self) -> int:
        """Optimizer steps from the first to the end of the run, without branches on the way: whole batches only."""
        return self.plan.steps(self.jets)

    @property
    def evaluated_after(self) -> list[int]:
        """Numbers of finished steps at which the held-out loss is measured."""
        steps = evaluation_steps(
            self.plan, self.jets, self.evaluations, self.first_evaluation_jets, self.evaluate_every_jets
        )
        return sorted({*steps, *self.weights_kept_after})

    @property
    def evaluated_at(self) -> list[int]:
        """Numbers of jets seen at which the held-out loss is measured."""
        return [self.plan.jets(step) for step in self.evaluated_after]

    @property
    def weights_kept_after(self) -> dict[int, int]:
        """Numbers of finished steps after which weights are kept, each with its entry in ``keep_weights_at``."""
        return {min(self.plan.steps_to(jets), self.n_steps): jets for jets in self.keep_weights_at}

    @property
    def branches(self) -> list[tuple[int, int]]:
        """First and last number of finished steps of every cooldown; none without cooldowns."""
        if not self.cooldown:
            return []
        return [(cooldown_start(self.plan, end, self.cooldown), end) for end in self.evaluated_after]

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the run and all its branches."""
        return self.n_steps + sum(end - start for start, end in self.branches[:-1])

    @property
    def total_jets(self) -> int:
        """Jets that the run and all its branches are trained on."""
        jets = self.plan.jets
        return jets(self.n_steps) + sum(jets(end) - jets(start) for start, end in self.branches[:-1])


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

    def check_saved(self, run: Path) -> None:
        """Raise InputError unless the files that `save` wrote are there and whole."""
        ...


def weights_folder(run: Path, jets: int) -> Path:
    """Folder of the weights that a run kept after this number of jets, an entry of ``keep_weights_at``."""
    return run / "weights" / f"jets-{jets}"


def refuse_test_split(store: Store) -> None:
    """Raise InputError for a store that says it is a test split: test jets are never trained on."""
    if store.manifest.meta.get("split") == "test":
        raise InputError(f"{store.path}: a test split; train on another store")


def require_splits(train: Store, validation: Store) -> None:
    """Raise InputError for training on a test split, and for held-out jets that are trained on, by their shards."""
    refuse_test_split(train)
    trained_on = {shard.sha256 for shard in train.manifest.shards}
    for shard in validation.manifest.shards:
        if shard.sha256 in trained_on:
            raise InputError(
                f"{validation.path}: holds jets of {train.path} (shard {shard.key}); "
                "measure the held-out loss on a store of other jets"
            )


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
    # The host waits here alone, after all batches.
    a, b, aa, ab, bb, n = accelerator.reduce(sums, "sum").tolist()
    mean = a / b
    variance = max(aa - 2 * mean * ab + mean * mean * bb, 0.0) / b**2
    return mean, math.sqrt(variance), a / n
