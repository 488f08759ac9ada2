"""A grid of small taggers: one run after another, with one thread or several, or worker processes of one thread.

The ways take turns and are timed by the clock: run this on a quiet machine. Rates of single runs are those of
`scripts/bench steps`. Jets are those of --store, or some simulated on the spot.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.harness import parser, summary
from genscale.data.schema import CLASSES
from genscale.data.simulation import simulate
from genscale.processes import available_cores
from genscale.training.loop import train
from genscale.training.tagger import TaggerRun, TaggerTask
from genscale.training.task import TrainingConfig

SIMULATED_JETS = 3000


def train_one(store: Path, out: Path, width: int, seed: int, jets: int, dropout: float, threads: int) -> None:
    """Train a tagger in this process."""
    torch.set_num_threads(threads)
    training = TrainingConfig(jets=jets, batch_jets=128, evaluations=1, validation_jets=256, seed=seed)
    run = TaggerRun(
        str(store / "train"), str(store / "validation"), width, dropout=dropout, training=training
    )
    train(TaggerTask(run), run.training, out / f"{width}-{seed}", progress=False)


def start(number: int) -> None:
    """Load libraries, and keep the worker busy until each of the others has started, too."""
    torch.randn(8, 8) @ torch.randn(8, 8)
    time.sleep(0.5)


def grid_seconds(store: Path, workers: int, threads: int, options: argparse.Namespace) -> float:
    """Time of the whole grid, the widest first, without the start of the workers."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name, ProcessPoolExecutor(workers, context) as pool:
        list(pool.map(start, range(workers)))
        begin = time.monotonic()
        futures = [
            pool.submit(train_one, store, Path(name), width, seed, options.jets, options.dropout, threads)
            for width, seed in itertools.product(sorted(options.widths, reverse=True), range(options.seeds))
        ]
        for future in futures:
            future.result()
        return time.monotonic() - begin


def main() -> None:
    """Measure and print."""
    parsed = parser(__doc__)
    parsed.add_argument(
        "--store", type=Path, help="folder with jet stores train and validation; default: simulate some jets"
    )
    parsed.add_argument("--widths", type=int, nargs="+", default=[4, 8, 16, 32])
    parsed.add_argument("--seeds", type=int, default=2, help="seeds of each width")
    parsed.add_argument("--jets", type=int, default=5000, help="jets of each run")
    parsed.add_argument("--dropout", type=float, default=0.0)
    options = parsed.parse_args()
    cores = available_cores()
    ways = {
        "one after another, one thread": (1, 1),
        f"one after another, {cores} threads": (1, cores),
        f"{cores} worker processes of one thread": (cores, 1),
    }
    with tempfile.TemporaryDirectory() as folder:
        store = options.store or Path(folder) / "jets"
        if options.store is None:
            simulate(store / "train", SIMULATED_JETS, CLASSES, seed=1, mpi=False)
            simulate(store / "validation", SIMULATED_JETS // 4, CLASSES, seed=2, mpi=False)
        turns = tqdm(range(options.repeats), unit="repeat", leave=False)
        times = np.array([[grid_seconds(store, *way, options) for way in ways.values()] for _ in turns])
    n_runs = len(options.widths) * options.seeds
    print(
        f"{n_runs} runs of {options.jets} jets, widths {options.widths}, dropout {options.dropout:g}, by the clock"
    )
    for name, spent in zip(ways, times.T, strict=True):
        rate = n_runs * options.jets / spent
        print(f"{name:36} {summary(rate)} jets/s, ratio {summary(times[:, 0] / spent, 2)}")


if __name__ == "__main__":
    main()
