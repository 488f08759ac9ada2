"""Small steps: jets per second of whole trainings at batches of a few jets, on one thread.

    scripts/bench steps                     # this checkout
    scripts/bench steps --against PATH      # and the checkout of another commit, in turn: ratios of the two

Each figure is the time of a training as users run it (genscale.training.loop.train: reading, features, packing, steps,
bookkeeping) less that of a short one, so that start-up and the final evaluation drop out, per second of processor
time; beside it the share of the rate of a float32 matrix product that its counted FLOPs are. Each checkout has a
process of its own, and they take turns with the same seeds and jets; held-out losses are printed beside the ratio. A
store of simulated jets and of their tokens is made on the spot.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.harness import parser, product_rate, summary
from genscale.data.schema import CLASSES
from genscale.data.simulation import simulate

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

def measured(folder, size, batch, steps, precision, dropout):
    training = TrainingConfig(
        jets=steps * batch, batch_jets=batch, evaluations=1, validation_jets=1000, warmup_steps=20, clip_norm=1.0,
        average=0.1, learning_rate=1e-3, precision=precision,
    )
    if size[0] == "d":
        stores = [folder + "/jets/train", folder + "/jets/validation"]
        task = TaggerTask(TaggerRun(*stores, int(size[1:]), dropout=dropout, training=training))
    else:
        stores = [folder + "/tokens/train", folder + "/tokens/validation"]
        task = GeneratorTask(GeneratorRun(*stores, folder + "/tokenizer", size, training=training))
    with tempfile.TemporaryDirectory() as out:
        begin = time.process_time()
        record = train(task, training, Path(out) / "run", progress=False)
        return time.process_time() - begin, record.flops, record.final.metrics["loss"]

for line in sys.stdin:
    print(json.dumps(measured(*json.loads(line))), flush=True)
"""


class Checkout:
    """A process that trains with the code of one checkout."""

    def __init__(self, path: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(path), "PYTHONWARNINGS": "ignore"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", TRAINING], cwd=path, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    def train(self, *options: object) -> np.ndarray:
        """Seconds, FLOPs and held-out loss of one training."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(options), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit("a training failed; its error is above")
        return np.array(json.loads(answer))

    def measure(self, folder: Path, size: str, batch: int, steps: int, *options: object) -> tuple[float, ...]:
        """Jets and FLOPs per second, and the held-out loss after these steps and WARM_UP more."""
        short = self.train(str(folder), size, batch, WARM_UP, *options)
        long = self.train(str(folder), size, batch, WARM_UP + steps, *options)
        spent, flops, _ = long - short
        return steps * batch / spent, flops / spent, float(long[2])


def make_stores(folder: Path) -> None:
    """Simulated jets, a tokenizer as the quickstart has it, and the jets' tokens, in the folders of a study."""
    jets, tokenizer = folder / "jets", folder / "tokenizer"
    simulate(jets / "train", JETS, CLASSES, seed=1, mpi=False)
    simulate(jets / "validation", JETS // 4, CLASSES, seed=2, mpi=False)
    quickstart = HERE / "configs" / "tokenizer" / "quickstart.yaml"
    for command in (
        [
            "fit",
            jets / "train",
            "--validation",
            jets / "validation",
            "--out",
            tokenizer,
            "--config",
            quickstart,
            "training.jets=6400",
            f"model.codebook_size={CODES}",
        ],
        *(
            ["encode", jets / split, "--tokenizer", tokenizer, "--out", folder / "tokens" / split]
            for split in ("train", "validation")
        ),
    ):
        subprocess.run(
            [sys.executable, "-m", "genscale.cli", "tokenizer", *map(str, command)],
            check=True, cwd=HERE, capture_output=True,
        )  # fmt: skip


def main() -> None:
    """Measure and print."""
    parsed = parser(__doc__)
    parsed.add_argument("--sizes", nargs="+", default=["d4", "d8", "d16", "d32", "pico", "nano", "micro"])
    parsed.add_argument("--batches", type=int, nargs="+", default=[8, 16], help="jets of a step")
    parsed.add_argument("--against", type=Path, help="folder of another checkout, to take turns with")
    parsed.add_argument("--steps", type=int, default=400)
    parsed.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parsed.add_argument("--dropout", type=float, default=0.0, help="of the taggers")
    parsed.add_argument(
        "--data",
        type=Path,
        help="folder of a study, with jets, tokens and tokenizer; default: simulate some jets",
    )
    options = parsed.parse_args()
    paths = [HERE] if options.against is None else [HERE, options.against.resolve()]
    with tempfile.TemporaryDirectory() as name:
        folder = options.data or Path(name)
        if options.data is None:
            make_stores(folder)
        checkouts = [Checkout(path) for path in paths]
        for checkout in checkouts:  # the first training in a process pays for imports and compiled code
            checkout.train(str(folder), options.sizes[0], 8, WARM_UP, options.precision, options.dropout)
        titles = [f"{'size':>6} {'batch':>6}  {'jets/s: median (range)':28} {'share':>5}"]
        titles += [f"{'ratio to the other':24}"] if options.against else []
        print(*titles, "held-out loss")
        for size in options.sizes:
            for batch in options.batches:
                found, product = [], []
                for _ in tqdm(range(options.repeats), desc=f"{size} {batch}", leave=False):
                    product.append(product_rate())
                    wanted = folder, size, batch, options.steps, options.precision, options.dropout
                    found.append([checkout.measure(*wanted) for checkout in checkouts])
                turns = np.array(found)  # repeats, checkouts, (jets/s, FLOP/s, loss)
                share = np.median(turns[:, 0, 1] / product)
                columns = [f"{size:>6} {batch:6d}  {summary(turns[:, 0, 0]):28} {share:5.1%}"]
                if options.against:
                    columns.append(f"{summary(turns[:, 0, 0] / turns[:, 1, 0], 2):24}")
                print(*columns, *(f"{loss:.4f}" for loss in turns[0, :, 2]), flush=True)


if __name__ == "__main__":
    main()
