"""Training speed of the taggers on a CPU: single runs, and a grid of small ones in several ways.

    scripts/bench tagger                      # single runs: jets/s, and the share of the matrix-product rate
    scripts/bench tagger --part stacked       # several seeds of one width in one process, against one after another
    scripts/bench tagger --part grid          # a grid of runs: one after another, or worker processes of one thread

Rates of single runs and of stacked ones are per second of processor time of one core, so that a busy machine
disturbs them little; all variants and the matrix product take turns. The grid is timed by the clock: run it on a
quiet machine. Jets are those of --store, or some simulated on the spot.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from genscale.data.batching import Batch, BatchStream, FeatureRows
from genscale.data.features import resolve_features
from genscale.data.order import JetOrder
from genscale.data.packing import Packing
from genscale.data.plan import BatchPlan
from genscale.data.schema import CLASSES
from genscale.data.store import JetStore
from genscale.models.counting import count_parameters, tagger_flops
from genscale.models.tagger import PRESETS, Tagger, TaggerConfig
from genscale.training.loop import train
from genscale.training.tagger import TaggerRun, TaggerTask
from genscale.training.task import TrainingConfig

MATRIX = 1024
SIMULATED_JETS = 3000
CLIP_NORM = 5.0


def seconds(action: Callable[[], object]) -> float:
    """Processor time of one call."""
    start = time.process_time()
    action()
    return time.process_time() - start


def summary(values: Sequence[float] | np.ndarray, digits: int = 0) -> str:
    """Median and range."""
    return f"{np.median(values):,.{digits}f} ({np.min(values):,.{digits}f} to {np.max(values):,.{digits}f})"


def stepper(parameters: list[Tensor], loss: Callable[[Batch], Tensor]) -> Callable[[Batch], None]:
    """One training step as the loop does it: gradient, clipping, AdamW."""
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)

    def step(batch: Batch) -> None:
        loss(batch).backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def tagger_step(config: TaggerConfig, seed: int) -> Callable[[Batch], None]:
    """Steps of one tagger."""
    torch.manual_seed(seed)
    model = Tagger(config).train()
    return stepper(
        list(model.parameters()),
        lambda batch: F.cross_entropy(model(batch.inputs, batch.packing), batch.targets),
    )


# -- single runs -------------------------------------------------------------------------------------------


def single(rows: FeatureRows, options: argparse.Namespace) -> None:
    """Print jets/s with reading and packing, and the share of the matrix-product rate, for each width and batch."""
    a, b = torch.randn(2, MATRIX, MATRIX)
    cases = [(width, size) for width in options.widths for size in options.batches]
    times: dict[tuple[int, int], list[float]] = {case: [] for case in cases}
    products: list[float] = []
    streams = {
        size: BatchStream(rows, JetOrder(len(rows), len(rows), 1), BatchPlan(size))
        for size in options.batches
    }
    configs = {
        width: TaggerConfig(
            width, len(rows.features), len(CLASSES), dropout=options.dropout, **PRESETS[options.preset]
        )
        for width in options.widths
    }
    steps = {case: tagger_step(configs[case[0]], 1) for case in cases}
    reading = [
        seconds(lambda: rows.load(np.arange(min(2048, len(rows))))) / min(2048, len(rows)) for _ in range(3)
    ]
    particles = dict.fromkeys(cases, 0.0)
    for repeat in tqdm(range(options.repeats + 1), unit="repeat", leave=False):
        products.append(min(seconds(lambda: a @ b) for _ in range(3)))
        for width, size in cases:
            batches = [
                streams[size][i][0] for i in range(options.steps)
            ]  # reads a chunk, mostly from its cache
            packing = seconds(lambda size=size: [streams[size][i] for i in range(options.steps)])
            spent = sum(
                seconds(lambda batch=batch, case=(width, size): steps[case](batch)) for batch in batches
            )
            particles[width, size] = float(np.mean([batch.n_tokens for batch in batches]))
            if repeat:  # the first warms up
                times[width, size].append(
                    (spent + packing) / options.steps / size + float(np.median(reading))
                )
    rate = 2 * MATRIX**3 / np.array(products[1:])
    mean = np.mean([particles[case] / case[1] for case in cases])
    print(
        f"one core, float32, preset {options.preset}, dropout {options.dropout:g}, {mean:.0f} particles a jet"
    )
    print(f"matrix product {MATRIX}^3: {summary(rate / 1e9)} GFLOP/s; reading and features: "
          f"{1e6 * np.median(reading):.0f} microseconds a jet (in the rates below)\n")  # fmt: skip
    print(
        f"{'width':>6} {'N':>11} {'batch':>6}  {'jets/s: median (range)':28} {'share of matrix product':>24}"
    )
    for width, size in cases:
        per_jet = np.array(times[width, size])
        flops = tagger_flops(configs[width], size, round(particles[width, size])) / size
        n = count_parameters(Tagger(configs[width])).total
        share = flops / per_jet / rate
        print(f"{width:6d} {n:11,d} {size:6d}  {summary(1 / per_jet):28} {np.median(share):>23.1%}")


# -- several seeds of one width in one process -------------------------------------------------------------


class StackedTaggers:
    """Taggers of one width whose weights lie in one array each: all see the same jets in the same order."""

    def __init__(self, config: TaggerConfig, seeds: int) -> None:
        models = []
        for seed in range(seeds):
            torch.manual_seed(seed)
            models.append(Tagger(config))
        self.config, self.seeds = config, seeds
        self.attend = models[0].blocks[0].attention.attend  # has no weights, and is the same in all
        self.weights = {
            name: torch.stack([model.get_parameter(name).detach() for model in models]).requires_grad_()
            for name, _ in models[0].named_parameters()
        }

    def _linear(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return torch.addcmul(bias[:, None], F.layer_norm(x, x.shape[-1:]), weight[:, None])

    def loss(self, batch: Batch) -> Tensor:
        """Mean cross-entropy, summed over the seeds so that each has its own gradient."""
        seeds, jets = self.seeds, batch.packing.lengths.numpy()
        x = self._linear(batch.inputs.expand(seeds, -1, -1), "embedding")
        token = self.weights["class_token"][:, None].expand(-1, len(jets), -1)
        x = x.index_copy(1, batch.packing.starts, token)
        packing = Packing.build(np.tile(jets, seeds))  # attention has no weights: more jets, that is all
        for layer in range(self.config.n_layers):
            name = f"blocks.{layer}"
            qkv = self._linear(self._norm(x, f"{name}.norm1"), f"{name}.attention.qkv")
            attended = packing.attend(qkv.flatten(0, 1), self.attend).view_as(x)
            p = self.config.dropout
            x = x + F.dropout(self._linear(attended, f"{name}.attention.out"), p)
            hidden = F.gelu(self._linear(self._norm(x, f"{name}.norm2"), f"{name}.up"))
            x = x + F.dropout(self._linear(F.dropout(hidden, p), f"{name}.down"), p)
        first = x.index_select(1, batch.packing.starts)
        logits = self._linear(self._norm(first, "final_norm"), "head")
        targets = batch.targets.expand(seeds, -1)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum") / len(jets)


def stacked(rows: FeatureRows, options: argparse.Namespace) -> None:
    """Print the speed of stacked seeds over that of one after another, for each width and batch."""
    print(
        f"{options.seeds} seeds stacked on the same jets, against one after another (processor time, one core)"
    )
    print(f"{'width':>6} {'batch':>6}  ratio of times: median (range)")
    for width in options.widths:
        for size in options.batches:
            stream = BatchStream(rows, JetOrder(len(rows), len(rows), 1), BatchPlan(size))
            config = TaggerConfig(width, len(rows.features), len(CLASSES), dropout=options.dropout)
            _check_stacking(config, stream[0][0], options.seeds)
            together = StackedTaggers(config, options.seeds)
            stack_step = stepper(list(together.weights.values()), together.loss)
            steps = [tagger_step(config, seed) for seed in range(options.seeds)]
            ratios = []
            for repeat in range(options.repeats * 3 + 1):
                batches = [stream[i][0] for i in range(3)]
                one = sum(seconds(partial(s, b)) for s in steps for b in batches)
                all_at_once = sum(seconds(partial(stack_step, b)) for b in batches)
                if repeat:
                    ratios.append(one / all_at_once)
            print(f"{width:6d} {size:6d}  {summary(ratios, 2)}", flush=True)


def _check_stacking(config: TaggerConfig, batch: Batch, seeds: int) -> None:
    """Raise AssertionError unless stacked taggers have the losses of the same taggers apart."""
    plain = TaggerConfig(config.d_model, config.n_features, config.n_classes, dropout=0.0)
    alone = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        alone.append(F.cross_entropy(Tagger(plain)(batch.inputs, batch.packing), batch.targets))
    torch.testing.assert_close(StackedTaggers(plain, seeds).loss(batch), torch.stack(alone).sum())


# -- a grid of runs ----------------------------------------------------------------------------------------


def _train_one(
    store: Path, folder: Path, width: int, seed: int, jets: int, dropout: float, threads: int
) -> None:
    torch.set_num_threads(threads)
    training = TrainingConfig(jets=jets, batch_jets=128, evaluations=1, validation_jets=256, seed=seed)
    run = TaggerRun(str(store), str(store), width, dropout=dropout, training=training)
    train(TaggerTask(run), training, folder / f"{width}-{seed}", progress=False)


def grid(store: Path, options: argparse.Namespace) -> None:
    """Print the time of a grid of runs in several ways, in turn."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    runs = [(width, seed) for width in sorted(options.widths, reverse=True) for seed in range(options.seeds)]
    ways = {"one after another, one thread": (1, 1), f"one after another, {cores} threads": (1, cores)}
    ways[f"{cores} worker processes of one thread"] = (cores, 1)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in tqdm(range(options.repeats), unit="repeat", leave=False):
        for name, (workers, threads) in ways.items():
            times[name].append(_grid_seconds(store, runs, workers, threads, options))
    print(
        f"{len(runs)} runs of {options.jets} jets, widths {options.widths}, dropout {options.dropout:g}, by the clock"
    )
    base = np.array(times["one after another, one thread"])
    for name, values in times.items():
        rate = len(runs) * options.jets / np.array(values)
        print(f"{name:36} {summary(rate)} jets/s, ratio {summary(base / np.array(values), 2)}")


def _grid_seconds(
    store: Path, runs: list[tuple[int, int]], workers: int, threads: int, options: argparse.Namespace
) -> float:
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name, ProcessPoolExecutor(workers, context) as pool:
        list(pool.map(_warm, range(workers)))  # starting them is no part of it
        begin = time.monotonic()
        futures = [
            pool.submit(_train_one, store, Path(name), width, seed, options.jets, options.dropout, threads)
            for width, seed in runs
        ]
        for future in futures:
            future.result()
        return time.monotonic() - begin


def _warm(number: int) -> None:
    torch.randn(8, 8) @ torch.randn(8, 8)
    time.sleep(0.5)  # so that every worker gets one


def _store(given: Path | None, folder: Path) -> Path:
    if given is not None:
        return given
    from genscale.data.simulation import simulate

    simulate(folder / "jets", SIMULATED_JETS, CLASSES, seed=1, mpi=False)
    return folder / "jets"


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=("single", "stacked", "grid"), default="single")
    parser.add_argument("--store", type=Path, help="jet store; default: simulate some jets")
    parser.add_argument("--widths", type=int, nargs="+", default=[4, 8, 16, 32, 64, 128])
    parser.add_argument("--batches", type=int, nargs="+", default=[128, 32], help="jets of a step")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="vigl")
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6, help="steps of a repeat (single)")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each width (stacked, grid)")
    parser.add_argument("--jets", type=int, default=5000, help="jets of each run (grid)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        store = _store(options.store, Path(folder))
        if options.part == "grid":
            grid(store, options)
            return
        rows = FeatureRows(JetStore.open(store), resolve_features("full21"), 128)
        (single if options.part == "single" else stacked)(rows, options)


if __name__ == "__main__":
    main()
