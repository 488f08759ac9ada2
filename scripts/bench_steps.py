"""Small steps: jets per second of whole trainings at batches of a few jets, on one thread.

    scripts/bench steps                     # this checkout
    scripts/bench steps --against PATH      # and the checkout of another commit, in turn: ratios of the two

Each figure is the time of a training as users run it (genscale.training.loop.train: reading, features, packing, steps,
bookkeeping) less that of a short one, so that start-up and the final evaluation drop out, per second of processor
time. Each checkout has a process of its own, and they take turns with the same seeds and jets; the held-out losses of
both are printed beside the ratio. A store of simulated jets and of their tokens is made on the spot.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from tqdm import tqdm

HERE = Path(__file__).resolve().parents[1]
JETS = 4_000
CODES = 512

#: Steps of the short training, whose time is subtracted.
WARM_UP = 20

#: What runs in each checkout: trainings as standard input asks for them.
TRAINING = """
import json, sys, tempfile, time
from pathlib import Path
import torch
from genscale.training.generator import GeneratorRun, GeneratorTask
from genscale.training.loop import train
from genscale.training.tagger import TaggerRun, TaggerTask
from genscale.training.task import TrainingConfig

torch.set_num_threads(1)

def seconds_and_loss(folder, size, batch, steps, precision):
    training = TrainingConfig(
        jets=steps * batch, batch_jets=batch, evaluations=1, validation_jets=1000, warmup_steps=20, clip_norm=1.0,
        average=0.1, learning_rate=1e-3, precision=precision,
    )
    if size[0] == "d":
        jets = folder + "/jets"
        task = TaggerTask(TaggerRun(jets, jets, int(size[1:]), dropout=0.0, training=training))
    else:
        tokens = folder + "/tokens"
        task = GeneratorTask(GeneratorRun(tokens, tokens, folder + "/tokenizer", size, training=training))
    with tempfile.TemporaryDirectory() as out:
        begin = time.process_time()
        record = train(task, training, Path(out) / "run", progress=False)
        return time.process_time() - begin, record.final.metrics["loss"]

for line in sys.stdin:
    print(json.dumps(seconds_and_loss(*json.loads(line))), flush=True)
"""


class Checkout:
    """A process that trains with the code of one checkout."""

    def __init__(self, path: Path) -> None:
        environment = {
            **os.environ,
            "PYTHONPATH": str(path),
            "OMP_NUM_THREADS": "1",
            "PYTHONWARNINGS": "ignore",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", TRAINING], cwd=path, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    def _train(self, *options: object) -> tuple[float, float]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(options), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit("a training failed; its error is above")
        seconds, loss = json.loads(answer)
        return seconds, loss

    def measure(self, folder: Path, size: str, batch: int, steps: int, precision: str) -> tuple[float, float]:
        """Jets per second, and the held-out loss after these steps and WARM_UP more."""
        short, _ = self._train(str(folder), size, batch, WARM_UP, precision)
        long, loss = self._train(str(folder), size, batch, WARM_UP + steps, precision)
        return steps * batch / (long - short), loss


def make_stores(folder: Path) -> None:
    """Simulated jets, a tokenizer as the quickstart has it, and the jets' tokens."""
    from genscale.data.schema import CLASSES
    from genscale.data.simulation import simulate

    simulate(folder / "jets", JETS, CLASSES, seed=1, mpi=False)
    command = [sys.executable, "-m", "genscale.cli", "tokenizer"]
    jets, tokenizer = str(folder / "jets"), str(folder / "tokenizer")
    quickstart = str(HERE / "configs" / "tokenizer" / "quickstart.yaml")
    fit = [
        "fit", jets, "--out", tokenizer, "--config", quickstart, "training.jets=6400", f"model.codebook_size={CODES}",
    ]  # fmt: skip
    encode = ["encode", jets, "--tokenizer", tokenizer, "--out", str(folder / "tokens")]
    for arguments in (fit, encode):
        environment = {**os.environ, "PYTHONPATH": str(HERE)}
        subprocess.run([*command, *arguments], check=True, env=environment, capture_output=True)


def summary(values: list[float], digits: int = 0) -> str:
    """Median and range."""
    return f"{np.median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=["d4", "d8", "d16", "d32", "pico", "nano", "micro"])
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 16], help="jets of a step")
    parser.add_argument("--against", type=Path, help="folder of another checkout, to take turns with")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument(
        "--data", type=Path, help="folder with jets, tokens and tokenizer; default: simulate some jets"
    )
    options = parser.parse_args()
    paths = [HERE] if options.against is None else [HERE, options.against.resolve()]
    with tempfile.TemporaryDirectory() as name:
        folder = options.data or Path(name)
        if options.data is None:
            make_stores(folder)
        checkouts = [Checkout(path) for path in paths]
        title = f"{'size':>6} {'batch':>6}  {'jets/s: median (range)':28}"
        print(
            title + (f"  {'ratio to the other':24} held-out losses" if options.against else "  held-out loss")
        )
        for size in options.sizes:
            for batch in options.batches:
                found = []
                for _ in tqdm(range(options.repeats), desc=f"{size} {batch}", leave=False):
                    wanted = folder, size, batch, options.steps, options.precision
                    found.append([checkout.measure(*wanted) for checkout in checkouts])
                line = f"{size:>6} {batch:6d}  {summary([turn[0][0] for turn in found]):28}"
                if options.against:
                    line += f"  {summary([turn[0][0] / turn[1][0] for turn in found], 2):24}"
                print(line, *(f"{loss:.4f}" for _, loss in found[0]), flush=True)


if __name__ == "__main__":
    main()
