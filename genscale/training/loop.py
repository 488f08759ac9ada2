"""The training loop, one for tokenizer, generator and tagger; how they differ is a :class:`Task`.

One step: the batch of this step (a function of seed and step alone), the gradient of its mean loss per
real token over all processes and micro-batches, clipping, AdamW. Held-out losses at log-spaced steps make
the points of the scaling laws. A run with patience ends when its held-out loss has stopped falling, with the weights
of the lowest. A run that is killed and started again ends at the same numbers.
"""

from __future__ import annotations

import contextlib
import json
import math
import signal
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from torch import nn
from tqdm import tqdm

from genscale.config import config_hash, require, to_mapping
from genscale.data.batching import BatchStream
from genscale.data.order import JetOrder
from genscale.errors import InputError, Interrupted
from genscale.files import locked, write_atomic
from genscale.records import Evaluation, RunRecord, git_commit, package_versions
from genscale.signals import on_stop_signals
from genscale.training.averaging import WeightAverage
from genscale.training.checkpoint import Checkpoints
from genscale.training.optimizer import FlatAdamW
from genscale.training.schedule import learning_rate_factor
from genscale.training.task import Task, TrainingConfig

#: Keys of TrainingConfig that may change between the parts of an interrupted run.
NUMBERS_DO_NOT_DEPEND_ON = ("checkpoint_s", "loader_workers")


@dataclass
class State:
    """Everything of the loop that a checkpoint keeps besides tensors."""

    step: int = 0
    jets_seen: int = 0
    tokens_seen: int = 0
    wall_s: float = 0.0
    evaluations: list[dict[str, Any]] = field(default_factory=list)

    def best(self) -> int:
        """Place of the evaluation with the lowest held-out loss, the first of equals."""
        losses = [e["metrics"]["loss"] for e in self.evaluations]
        return losses.index(min(losses))


def train(task: Task, config: TrainingConfig, run: Path, *, progress: bool = True) -> RunRecord:
    """Train a task to the end, from the start or from its newest checkpoint.

    Parameters
    ----------
    task : Task
    config : TrainingConfig
    run : Path
        The run's folder: record, model, checkpoints, ``metrics.jsonl`` and TensorBoard logs. A finished run
        of the same configuration is returned as it is.
    progress : bool
        Show a progress bar.

    Raises
    ------
    InputError
        The folder is in use or belongs to another configuration; the store has too few jets.
    FloatingPointError
        The loss is not finite: step, learning rate and jets of the batch are named.
    Interrupted
        On SIGTERM or SIGINT, after saving.
    """
    require(
        config.learning_rate > 0, f"training.learning_rate: a {task.name} has no rule for it; give a rate"
    )
    AcceleratorState._reset_state()  # or a second training in this process could not have another precision
    accelerator = Accelerator(
        mixed_precision="no" if config.precision == "fp32" else config.precision,
        cpu=not torch.cuda.is_available(),
    )
    digest = _digest(task)
    if (run / "record.json").exists():
        record = RunRecord.load(run)
        if record.config_hash != digest:
            raise InputError(f"{run}: holds a finished run of another configuration; choose another folder")
        return record
    if not accelerator.is_main_process:
        return _Loop(task, config, run, accelerator, digest, progress=False).run()
    with locked(run):
        return _Loop(task, config, run, accelerator, digest, progress).run()


class _Loop:
    """One call of :func:`train`."""

    def __init__(
        self,
        task: Task,
        config: TrainingConfig,
        run: Path,
        accelerator: Accelerator,
        digest: str,
        progress: bool,
    ) -> None:
        self.task, self.config, self.folder, self.accelerator = task, config, run, accelerator
        self.digest, self.progress = digest, progress
        n_store = len(task.train_rows)
        unique = config.jets_unique or min(config.jets, n_store)
        self.order = JetOrder(n_store, unique, config.seed)
        self.stream = BatchStream(
            task.train_rows, self.order, config.batch_jets,
            accelerator.process_index, accelerator.num_processes, config.accumulate,
        )  # fmt: skip
        self.model = task.model.to(accelerator.device)
        self.optimizer = FlatAdamW(self.model, config.weight_decay, config.clip_norm)
        self._from_main_process(self.optimizer.parameters)
        # What torch.compile returns is a module too; its type says less.
        self.forward: nn.Module = cast(nn.Module, torch.compile(self.model)) if config.compile else self.model
        self.average = WeightAverage(self.model, config.average)
        self.checkpoints = Checkpoints(run, accelerator.process_index)
        self.stop_signal = 0

    def run(self) -> RunRecord:
        set_seed(self.config.seed, device_specific=True)
        if self.config.n_steps < 2 * self.config.warmup_steps and self.accelerator.is_main_process:
            warnings.warn(
                f"training.warmup_steps: {self.config.warmup_steps} of {self.config.n_steps} steps: the rate is "
                "at its peak for little of the run or never; give more jets or a shorter warm-up",
                stacklevel=2,
            )
        state = self._restore()
        with on_stop_signals(self._note), self._tensorboard(state.jets_seen) as tensorboard:
            self._steps(state, tensorboard)
        return self._finish(state)

    # -- the loop itself ---------------------------------------------------------------------------------

    def _steps(self, state: State, tensorboard: Any) -> None:
        config, task = self.config, self.task
        due = set(config.evaluated_after)
        batches = self.stream.loader(state.step, config.n_steps, workers=config.loader_workers)
        bar = tqdm(
            total=config.n_steps * config.batch_jets, initial=state.step * config.batch_jets, unit="jet",
            unit_scale=True, desc=f"{task.name} {task.size}", disable=not self.progress, mininterval=0.5,
        )  # fmt: skip
        started, saved = time.monotonic() - state.wall_s, time.monotonic()
        self.model.train()
        for step in range(state.step, config.n_steps):
            rate = config.learning_rate * learning_rate_factor(
                config.schedule, step, config.n_steps, config.warmup_steps
            )
            micro_batches = next(batches)
            summed = self._gradient(micro_batches)
            jets, tokens, stop, save, summed = self._sum([
                sum(b.n_jets for b in micro_batches), sum(b.n_tokens for b in micro_batches),
                self.stop_signal > 0, time.monotonic() - saved > config.checkpoint_s, summed,
            ])  # fmt: skip
            terms = jets if task.terms == "jets" else tokens
            loss = summed / terms
            self._require_finite(loss, rate, step)
            self.optimizer.step(rate, terms)
            state.step, state.jets_seen = step + 1, state.jets_seen + int(jets)
            self.average.update(state.step)
            state.tokens_seen += int(tokens)
            state.wall_s = time.monotonic() - started
            bar.update(config.batch_jets)
            if tensorboard is not None and (step % 10 == 0 or state.step in due):
                tensorboard.add_scalar("train/loss", loss, state.jets_seen)
                tensorboard.add_scalar("train/learning_rate", rate, state.jets_seen)
            if state.step in due:
                with self.average.in_model():
                    self._evaluate(state, rate, tensorboard)
                bar.set_postfix(loss=f"{state.evaluations[-1]['metrics']['loss']:.4f}")
                if self._out_of_patience(state):
                    break
            if (save or stop) and state.step < config.n_steps:
                self._save(state)
                saved = time.monotonic()
                if stop:
                    bar.close()
                    raise Interrupted(self.stop_signal or signal.SIGTERM, self.folder, state.step)
        bar.close()

    def _gradient(self, batches: list[Any]) -> float:
        """Add the gradient of the summed loss to the optimizer's, over all processes; return this process's sum."""
        device, total = self.accelerator.device, torch.zeros((), device=self.accelerator.device)
        for batch in batches:
            with self.accelerator.autocast():
                summed = self.task.loss(self.forward, batch.to(device))
            summed.backward()
            total += summed.detach()
        if self.accelerator.num_processes > 1:
            torch.distributed.all_reduce(self.optimizer.gradient)
        return float(total)

    def _sum(self, values: list[float]) -> list[float]:
        """Sums over all processes, the same in each of them.

        Clocks and signals differ from process to process, but a checkpoint needs all of them: one asks, all do.
        """
        if self.accelerator.num_processes == 1:
            return values
        summed = torch.tensor(values, dtype=torch.float64, device=self.accelerator.device)
        torch.distributed.all_reduce(summed)
        return summed.tolist()

    def _from_main_process(self, values: torch.Tensor) -> None:
        if self.accelerator.num_processes > 1:
            torch.distributed.broadcast(values, 0)

    def _require_finite(self, loss: float, rate: float, step: int) -> None:
        if not math.isfinite(loss):
            size = self.config.batch_jets
            rows = self.order[step * size : step * size + 8].tolist()
            raise FloatingPointError(
                f"{self.folder}: loss is {loss} at step {step}, learning rate {rate:.3g}, batch of store rows "
                f"{rows}...: lower the learning rate or look at these jets"
            )

    def _evaluate(self, state: State, rate: float, tensorboard: Any) -> None:
        self.model.eval()
        # Evaluation may draw random numbers (sampling, k-means): training must not notice.
        device = self.accelerator.device
        forked = torch.random.fork_rng([device] if device.type == "cuda" else [])
        with torch.no_grad(), forked, self.accelerator.autocast():
            metrics = self.task.evaluate(self.forward, self.accelerator, self.config)
        self.model.train()
        n = self.task.parameters()["total"]
        evaluation = Evaluation(
            state.step, state.jets_seen, state.tokens_seen, self.task.flops(state.jets_seen, state.tokens_seen),
            6.0 * n * state.tokens_seen, rate, metrics,
        )  # fmt: skip
        state.evaluations.append(asdict(evaluation))
        if tensorboard is not None:
            for name, value in metrics.items():
                tensorboard.add_scalar(f"validation/{name}", value, state.jets_seen)
            lines = [json.dumps(e) + "\n" for e in state.evaluations]
            write_atomic(self.folder / "metrics.jsonl", "".join(lines))
            if self.config.patience and state.best() == len(state.evaluations) - 1:
                # A run resumed from before this step comes by again, with the same weights.
                self.checkpoints.save_best(self.model)

    def _out_of_patience(self, state: State) -> bool:
        """Whether the last evaluations, as many as the patience, are after the first epoch and the lowest loss."""
        patience = self.config.patience
        waited = [e for e in state.evaluations[state.best() + 1 :] if e["jets_seen"] > self.order.n_unique]
        return patience > 0 and len(waited) >= patience

    # -- starting, stopping, saving ------------------------------------------------------------------------

    def _restore(self) -> State:
        if self.accelerator.is_main_process:
            self.checkpoints.clear_unfinished()
        self.accelerator.wait_for_everyone()
        newest = self.checkpoints.newest()
        if newest is None:
            return State()
        values = self.checkpoints.restore(
            newest, self.model, self.optimizer, self.average, self.accelerator.device
        )
        if values.pop("config_hash") != self.digest:
            raise InputError(f"{self.folder}: was begun with another configuration; choose another folder")
        return State(**values)

    def _save(self, state: State) -> None:
        self.checkpoints.save_random(state.step, self.accelerator.device)
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            self.checkpoints.save(
                state.step, self.model, self.optimizer, self.average,
                {**asdict(state), "config_hash": self.digest},
            )  # fmt: skip
        self.accelerator.wait_for_everyone()

    def _finish(self, state: State) -> RunRecord:
        task, config = self.task, self.config
        record = RunRecord(
            task=task.name,
            size=task.size,
            parameters=task.parameters(),
            jets_seen=state.jets_seen,
            jets_unique=min(self.order.n_unique, state.jets_seen),
            tokens_seen=state.tokens_seen,
            flops=task.flops(state.jets_seen, state.tokens_seen),
            flops_6nd=6.0 * task.parameters()["total"] * state.tokens_seen,
            schedule=config.schedule,
            stopped_early=state.step < config.n_steps,
            seed=config.seed,
            config=to_mapping(task.config),
            config_hash=self.digest,
            data=task.data,
            evaluations=[Evaluation(**e) for e in state.evaluations],
            wall_s=round(state.wall_s, 3),
            device=_device_name(self.accelerator.device),
            threads=torch.get_num_threads(),
            processes=self.accelerator.num_processes,
            versions=package_versions(),
            git_commit=git_commit(),
        )
        if self.accelerator.is_main_process:
            with self.average.in_model():
                if config.patience:
                    self.checkpoints.restore_best(self.model)
                task.save(self.model, self.folder)
            record.save(self.folder)  # last: a run with a record is a finished run
        self.accelerator.wait_for_everyone()
        return record

    def _note(self, number: int) -> None:
        self.stop_signal = number

    @contextlib.contextmanager
    def _tensorboard(self, jets_seen: int) -> Iterator[Any]:
        """Yield a writer that forgets what lies after the jets resumed from; None beside the main process."""
        if not self.accelerator.is_main_process:
            yield None
            return
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=jets_seen + 1)
        try:
            yield writer
        finally:
            writer.close()


def _digest(task: Task) -> str:
    """Hash of everything that can move a number of this run: not paths, but the content that lies there."""
    config = {key: value for key, value in to_mapping(task.config).items() if key not in task.data_keys}
    config["training"] = {k: v for k, v in config["training"].items() if k not in NUMBERS_DO_NOT_DEPEND_ON}
    return config_hash({"task": task.name, "config": config, "data": task.data})


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
