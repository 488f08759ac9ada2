"""The training loop of tokenizers, generators and taggers, which differ in their `Task`.

A step takes its batch (a function of seed and step alone), computes the gradient of the mean loss per real token over
all processes and micro-batches, clips it, and applies AdamW. Held-out losses at log-spaced steps are the points of
scaling laws. With cooldowns each of them is the loss of a branch, in which the learning rate falls to zero: the run
itself, the trunk, pauses meanwhile and then continues from exactly the same state, so that each point equals that of a
separate run. A run with patience ends some time after its lowest held-out loss, and keeps the weights with that loss.
A run that is killed and started again gives the same numbers.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
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

from genscale.config import config_hash, to_mapping
from genscale.data.batching import BatchStream
from genscale.data.order import JetOrder
from genscale.errors import InputError, Interrupted, require
from genscale.files import locked, write_atomic
from genscale.models.blocks import Blocks
from genscale.processes import on_stop_signals
from genscale.records import Evaluation, RunRecord, git_commit, package_versions
from genscale.training.averaging import WeightAverage
from genscale.training.checkpoint import Checkpoints, Snapshot
from genscale.training.optimizer import FlatAdamW
from genscale.training.schedule import learning_rate_factor
from genscale.training.task import Task, TrainingConfig, weights_folder
from tokenizer.errors import InputError as TokenizerInputError

#: Keys of TrainingConfig that may change between the parts of an interrupted run.
NUMBERS_DO_NOT_DEPEND_ON = ("checkpoint_s", "loader_workers")


@dataclass
class State:
    """The state of the loop that a checkpoint holds besides tensors.

    Attributes
    ----------
    step : int
        Steps behind the present weights, from the start of the run.
    jets_seen : int
        Jets behind the present weights.
    tokens_seen : int
        Tokens behind the present weights.
    paused : list of int
        Within a branch, the same three numbers of the trunk; otherwise empty.
    branch_steps : int
        Steps in finished branches, which left nothing but an evaluation.
    branch_jets : int
        Jets in finished branches.
    branch_tokens : int
        Tokens in finished branches.
    wall_s : float
        Time in seconds.
    evaluations : list of dict
        Held-out evaluations so far.
    """

    step: int = 0
    jets_seen: int = 0
    tokens_seen: int = 0
    paused: list[int] = field(default_factory=list)
    branch_steps: int = 0
    branch_jets: int = 0
    branch_tokens: int = 0
    wall_s: float = 0.0
    evaluations: list[dict[str, Any]] = field(default_factory=list)

    @property
    def total_steps(self) -> int:
        """Steps done so far, including those in branches."""
        return self.step + self.branch_steps

    @property
    def total_jets(self) -> int:
        """Jets trained on so far, including those in branches."""
        return self.jets_seen + self.branch_jets

    def pause(self) -> None:
        """Begin a branch."""
        self.paused = [self.step, self.jets_seen, self.tokens_seen]

    def leave_branch(self) -> None:
        """Return to the state in which the trunk paused."""
        step, jets, tokens = self.paused
        self.branch_steps += self.step - step
        self.branch_jets += self.jets_seen - jets
        self.branch_tokens += self.tokens_seen - tokens
        self.step, self.jets_seen, self.tokens_seen, self.paused = step, jets, tokens, []

    def best(self) -> int:
        """Index of the evaluation with the lowest held-out loss, the first of equal ones."""
        losses = [e["metrics"]["loss"] for e in self.evaluations]
        return losses.index(min(losses))


def train(task: Task, config: TrainingConfig, run: Path, *, progress: bool = True) -> RunRecord:
    """Train a task to the end, from the start or from its newest checkpoint.

    Parameters
    ----------
    task : Task
        What is trained.
    config : TrainingConfig
        Options of the training.
    run : Path
        Folder of the run: record, model, checkpoints, ``metrics.jsonl`` and TensorBoard logs. A finished run of the
        same configuration is returned as it is.
    progress : bool
        Show a progress bar.

    Returns
    -------
    RunRecord

    Raises
    ------
    InputError
        The folder is in use or belongs to another configuration, or the store has too few jets.
    FloatingPointError
        The loss is not finite; the message names step, learning rate and jets of the batch.
    Interrupted
        On SIGTERM or SIGINT, after saving.
    """
    require(
        config.learning_rate > 0, f"training.learning_rate: a {task.name} has no rule for it; give a rate"
    )
    AcceleratorState._reset_state()  # otherwise a second training in this process must have the same precision
    accelerator = Accelerator(
        mixed_precision="no" if config.precision == "fp32" else config.precision,
        cpu=not torch.cuda.is_available(),
    )
    digest = _digest(task)
    if (run / "record.json").exists():
        record = RunRecord.load(run)
        if record.config_hash != digest:
            raise InputError(f"{run}: holds a finished run of another configuration; choose another folder")
        _check_finished(task, config, run, record)
        return record
    if not accelerator.is_main_process:
        return _Loop(task, config, run, accelerator, digest, progress=False).run()
    with locked(run):
        return _Loop(task, config, run, accelerator, digest, progress).run()


class _Loop:
    """One call of `train`."""

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
        self.plan = config.plan
        self.stream = BatchStream(
            task.train_rows, self.order, self.plan,
            accelerator.process_index, accelerator.num_processes, config.accumulate,
        )  # fmt: skip
        self.model = task.model.to(accelerator.device)
        self.optimizer = FlatAdamW(self.model, config.weight_decay, config.clip_norm)
        self._from_main_process(self.optimizer.parameters)
        self.forward: nn.Module = self.model
        if config.compile and accelerator.device.type != "cpu":
            # What torch.compile returns is a module too; its type says less.
            self.forward = cast(nn.Module, torch.compile(self.model))
        elif config.compile and accelerator.is_main_process:
            warnings.warn(
                "training.compile: the model is not compiled on a CPU, where fused blocks are faster",
                stacklevel=3,
            )
        self.average = WeightAverage(self.model, config.average)
        self.checkpoints = Checkpoints(run, accelerator.process_index)
        self.trunk: Snapshot | None = None  # within a branch after which the trunk is needed
        self.stop_signal = 0
        self.started = self.saved = time.monotonic()

    def run(self) -> RunRecord:
        set_seed(self.config.seed, device_specific=True)
        if self.config.n_steps < 2 * self.config.warmup_steps and self.accelerator.is_main_process:
            warnings.warn(
                f"training.warmup_steps: {self.config.warmup_steps} of {self.config.n_steps} steps: the rate is "
                "at its peak for little of the run or never; give more jets or a shorter warm-up",
                stacklevel=2,
            )
        state = self._restore()
        self.started -= state.wall_s
        bar = tqdm(
            total=self.config.total_jets, initial=state.total_jets, unit="jet", unit_scale=True,
            desc=f"{self.task.name} {self.task.size}", disable=not self.progress, mininterval=0.5,
        )  # fmt: skip
        with on_stop_signals(self._note), self._tensorboard(state.total_jets) as tensorboard, bar:
            self._train(state, tensorboard, bar)
        return self._finish(state)

    # -- the loop itself ---------------------------------------------------------------------------------

    def _train(self, state: State, tensorboard: Any, bar: tqdm[Any]) -> None:
        config = self.config
        self.model.train()
        if not config.cooldown:
            self._steps(state, config.n_steps, set(config.evaluated_after), tensorboard, bar)
            return
        for start, end in config.branches[len(state.evaluations) :]:
            if not state.paused:
                self._steps(state, start, set(), tensorboard, bar)
                state.pause()
                if end < config.n_steps:
                    self.trunk = self._snapshot().copied()
            self._steps(state, end, {end}, tensorboard, bar)
            if self.trunk is not None:
                state.leave_branch()
                self.trunk.put_back(self.model, self.optimizer, self.average, self.accelerator.device)
                self.trunk = None

    def _steps(self, state: State, end: int, due: set[int], tensorboard: Any, bar: tqdm[Any]) -> None:
        """Train to the end of a part of the trunk or of a branch, with held-out losses after the steps ``due``."""
        config, task, kept = self.config, self.task, self.config.weights_kept_after
        cooldown, n_steps = (config.cooldown, end) if state.paused else (0.0, config.n_steps)
        batches = self.stream.loader(state.step, end, workers=config.loader_workers)
        for step in range(state.step, end):
            rate = config.learning_rate * learning_rate_factor(
                config.schedule, step, n_steps, config.warmup_steps, self.plan, cooldown
            )
            micro_batches = next(batches)
            summed = self._gradient(micro_batches)
            jets, tokens, stop, save, summed = self._sum([
                sum(b.n_jets for b in micro_batches), sum(b.n_tokens for b in micro_batches),
                self.stop_signal > 0, time.monotonic() - self.saved > config.checkpoint_s, summed,
            ])  # fmt: skip
            terms = jets if task.terms == "jets" else tokens
            loss = summed / terms
            self._require_finite(loss, rate, step)
            self.optimizer.step(rate, terms)
            state.step, state.jets_seen = step + 1, state.jets_seen + int(jets)
            self.average.update(state.step)
            state.tokens_seen += int(tokens)
            state.wall_s = time.monotonic() - self.started
            bar.update(int(jets))
            if tensorboard is not None and (step % 10 == 0 or state.step in due):
                tensorboard.add_scalar("train/loss", loss, state.total_jets)
                tensorboard.add_scalar("train/learning_rate", rate, state.total_jets)
            if state.step in due:
                with self.average.in_model():
                    self._evaluate(state, rate, tensorboard)
                    if state.step in kept and self.accelerator.is_main_process:
                        self._keep_weights(kept[state.step])
                bar.set_postfix(loss=f"{state.evaluations[-1]['metrics']['loss']:.4f}")
                if self._past_minimum(state):
                    break
            # At the end the branch is left first, or the run is finished.
            if (save or stop) and state.step < end:
                self._save(state)
                self.saved = time.monotonic()
                if stop:
                    raise Interrupted(self.stop_signal or signal.SIGTERM, self.folder, state.total_steps)

    def _gradient(self, batches: list[Any]) -> float:
        """Add the gradient of the loss, summed over all processes, to the optimizer's; return this process's sum."""
        device, total = self.accelerator.device, torch.zeros((), device=self.accelerator.device)
        for batch in batches:
            with self.accelerator.autocast():
                summed = self.task.loss(self.forward, batch.to(device))
            summed.backward()
            total += summed.detach()
        if self.accelerator.num_processes > 1:
            torch.distributed.all_reduce(self.optimizer.gradient)
        # The host waits here, once in a step: it must not change the weights by a gradient that is not finite.
        return float(total)

    def _sum(self, values: list[float]) -> list[float]:
        """Return sums over all processes, which are the same in each of them.

        Clocks and signals differ between processes, but a checkpoint needs all of them: if one asks, all save.
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
            first = self.plan.jets(step)
            rows = self.order[first : first + min(8, self.plan.phase(step).batch)].tolist()
            raise FloatingPointError(
                f"{self.folder}: loss is {loss} at step {step}, learning rate {rate:.3g}, batch of store rows "
                f"{rows}...: lower the learning rate or look at these jets"
            )

    def _evaluate(self, state: State, rate: float, tensorboard: Any) -> None:
        self.model.eval()
        # Evaluation may draw random numbers (sampling, k-means), which must not influence the training.
        device = self.accelerator.device
        forked = torch.random.fork_rng([device] if device.type == "cuda" else [])
        with torch.no_grad(), forked, self.accelerator.autocast():
            metrics = self.task.evaluate(self.forward, self.accelerator, self.config)
        self.model.train()
        n = self.task.parameters()["total"]
        evaluation = Evaluation(
            state.step, state.jets_seen, state.tokens_seen, self.task.flops(state.jets_seen, state.tokens_seen),
            6.0 * n * state.tokens_seen, rate, metrics, state.paused[1] if state.paused else None,
        )  # fmt: skip
        state.evaluations.append(asdict(evaluation))
        if tensorboard is not None:
            for name, value in metrics.items():
                tensorboard.add_scalar(f"validation/{name}", value, state.jets_seen)
        if self.accelerator.is_main_process:
            lines = [json.dumps(e) + "\n" for e in state.evaluations]
            write_atomic(self.folder / "metrics.jsonl", "".join(lines))
            if self.config.patience and state.best() == len(state.evaluations) - 1:
                # A run that is resumed from an earlier step arrives here again, with the same weights.
                self.checkpoints.save_best(self.model)

    def _keep_weights(self, jets: int) -> None:
        final = weights_folder(self.folder, jets)
        if final.exists():  # the run was resumed from an earlier step and has reached the same weights
            return
        aside = final.with_name(f".{final.name}.tmp")
        shutil.rmtree(aside, ignore_errors=True)
        self.task.save(self.model, aside)
        aside.rename(final)

    def _past_minimum(self, state: State) -> bool:
        """Whether the run has seen enough jets beyond its lowest loss, as far as its patience goes."""
        if not self.config.patience:
            return False
        best = state.best()
        enough = (1 + self.config.patience) * state.evaluations[best]["jets_seen"]
        waited = [e for e in state.evaluations[best + 1 :] if e["jets_seen"] > self.order.n_unique]
        return len(waited) >= 3 and waited[-1]["jets_seen"] >= enough

    # -- starting, stopping, saving ------------------------------------------------------------------------

    def _restore(self) -> State:
        if self.accelerator.is_main_process:
            self.checkpoints.clear_unfinished()
        self.accelerator.wait_for_everyone()
        newest = self.checkpoints.newest()
        if newest is None:
            return State()
        values, self.trunk = self.checkpoints.restore(
            newest, self.model, self.optimizer, self.average, self.accelerator.device
        )
        if values.pop("config_hash") != self.digest:
            raise InputError(f"{self.folder}: was begun with another configuration; choose another folder")
        return State(**values)

    def _snapshot(self) -> Snapshot:
        return Snapshot.of(self.model, self.optimizer, self.average, self.accelerator.device)

    def _save(self, state: State) -> None:
        now, step = self._snapshot(), state.total_steps
        self.checkpoints.save_random(step, now, self.trunk)
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            self.checkpoints.save(step, now, self.trunk, {**asdict(state), "config_hash": self.digest})
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
            branch_flops=task.flops(state.branch_jets, state.branch_tokens),
            schedule=config.schedule,
            stopped_early=self._past_minimum(state),
            seed=config.seed,
            config=to_mapping(task.config),
            config_hash=self.digest,
            data=task.data,
            evaluations=[Evaluation(**e) for e in state.evaluations],
            wall_s=round(state.wall_s, 3),
            device=_device_name(self.accelerator.device),
            threads=torch.get_num_threads(),
            processes=self.accelerator.num_processes,
            fused_blocks=self._fused_blocks(),
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

    def _fused_blocks(self) -> bool:
        """Whether the training computes transformer blocks in compiled C."""
        with self.accelerator.autocast():
            blocks = [module for module in self.model.modules() if isinstance(module, Blocks)]
            return self.forward is self.model and any(module.are_fused() for module in blocks)

    def _note(self, number: int) -> None:
        self.stop_signal = number

    @contextlib.contextmanager
    def _tensorboard(self, jets_seen: int) -> Iterator[Any]:
        """Yield a writer that drops entries beyond the point of resumption.

        It is None in all but the main process, and where TensorBoard is not installed.
        """
        if not self.accelerator.is_main_process:
            yield None
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            warnings.warn(
                "tensorboard is not installed: there are no training curves, only held-out losses in metrics.jsonl",
                stacklevel=2,
            )
            yield None
            return
        writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=jets_seen + 1)
        try:
            yield writer
        finally:
            writer.close()


def _check_finished(task: Task, config: TrainingConfig, run: Path, record: RunRecord) -> None:
    """Raise InputError unless all weights that a finished run has saved are there and whole."""
    kept = [config.weights_kept_after.get(e.step) for e in record.evaluations]
    try:
        for folder in [run, *(weights_folder(run, jets) for jets in kept if jets)]:
            task.check_saved(folder)
    except (InputError, TokenizerInputError) as error:
        raise InputError(
            f"{error}; {run} was finished: put the file back, or remove the run to train again"
        ) from error


def _digest(task: Task) -> str:
    """Return a hash of everything that can change a result of this run: not of paths, but of their content."""
    config = {key: value for key, value in to_mapping(task.config).items() if key not in task.data_keys}
    config["training"] = {k: v for k, v in config["training"].items() if k not in NUMBERS_DO_NOT_DEPEND_ON}
    return config_hash({"task": task.name, "config": config, "data": task.data})


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
