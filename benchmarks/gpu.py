"""What a GPU computes, whether it is right, how fast it is and how much memory it takes, in at most nine minutes.

- Right: loss and gradient of each kind of model, in float32 (without TF32) and bfloat16, beside those of the CPU in
  float32; and a training that is interrupted and resumed, beside one that is not.
- Fast: the device's own matrix products and copy first. Then training steps of generators and taggers, from the batch
  on the device to the optimizer, sampling, and encoding. The share is that of the device's bfloat16 product, counting
  6 x (blocks + head) FLOPs per token of a generator in training, 2 x in sampling, and for taggers the FLOPs of a run's
  record.
- Bounded: the peak of the memory of a training beside the estimate of ``genscale ladder``.

The folder gets ``gpu.json`` and ``gpu.txt``, the table that is printed; both grow with each case. Cases for which no
time is left are listed as such.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import itertools
import json
import os
import platform
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.generator import MAX_TOKENS, VOCABULARY, Lengths, WithLengths, forward_flops
from benchmarks.harness import jet_lengths, random_jets
from benchmarks.tokenizer import fresh as fresh_tokenizer
from genscale.data.constituents import to_store_rows
from genscale.data.packing import Packing
from genscale.data.store import StoreWriter
from genscale.errors import Interrupted
from genscale.files import write_atomic
from genscale.inference.device import resolve_device
from genscale.inference.sampling import SamplingConfig, sample
from genscale.models.cost import cost
from genscale.models.counting import tagger_flops
from genscale.models.generator import Generator
from genscale.models.ladder import generator_config
from genscale.models.tagger import PRESETS as TAGGERS
from genscale.models.tagger import Tagger, TaggerConfig
from genscale.records import RunRecord, git_commit
from genscale.training.loop import train
from genscale.training.optimizer import FlatAdamW
from genscale.training.tagger import TaggerRun, TaggerTask
from genscale.training.task import TrainingConfig
from tokenizer import PRESETS as TOKENIZERS

#: Seconds after which no further case is begun.
BUDGET_S = 8 * 60

#: Largest relative differences of loss and gradient from the CPU's float32. The gradients in bfloat16, which has eight
#: significant bits, differ by 1 to 4 % on a CPU, too.
TOLERANCE = {"float32": (1e-5, 1e-5), "bfloat16": (1e-2, 5e-2)}

FEATURES = 21


@dataclass
class Row:
    """One measurement.

    Attributes
    ----------
    part : str
        right, fast or bounded.
    what : str
        What was measured.
    value : float or None
        The result; None if there is none.
    unit : str
        Unit of the result.
    note : str
        A verdict, a share of the product, or why there is no result.
    """

    part: str
    what: str
    value: float | None
    unit: str
    note: str = ""


@dataclass(frozen=True)
class Bench:
    """The device, and how much is measured on it."""

    device: torch.device
    quick: bool
    deadline: float

    def seconds(self, work: Callable[[], object]) -> float:
        """Median time of a call by the clock, after two that are not counted, with the device finished."""
        times = []
        for _ in range(3 if self.quick else 7):
            self.wait()
            start = time.perf_counter()
            work()
            self.wait()
            times.append(time.perf_counter() - start)
        return statistics.median(times[2:])

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def guarded(self, part: str, what: str, measure: Callable[[], Row]) -> Row:
        """A measurement, or a row that says why there is none."""
        if time.monotonic() > self.deadline:
            return Row(part, what, None, "", "not measured: no time was left")
        try:
            return measure()
        except torch.OutOfMemoryError:
            return Row(part, what, None, "", "not measured: out of memory")
        finally:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()


@contextlib.contextmanager
def precision(name: str, device: torch.device) -> Iterator[None]:
    """Compute in float32, TF32 or bfloat16."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name == "TF32"
    with torch.autocast(device.type, torch.bfloat16, enabled=name == "bfloat16"):
        yield


@dataclass(frozen=True)
class Work:
    """A model with a batch, and how its loss is computed from the model, summed over ``terms``."""

    model: nn.Module
    inputs: tuple[Any, ...]
    loss: Callable[..., Tensor]
    terms: int

    def on(self, device: torch.device) -> Work:
        """A copy on a device."""
        return Work(
            copy.deepcopy(self.model).to(device),
            tuple(x.to(device) for x in self.inputs),
            self.loss,
            self.terms,
        )


def generator_work(size: str, jets: int, **changes: Any) -> Work:
    """A fresh generator and random tokens, 45 a jet on average."""
    rng = np.random.default_rng(jets)
    lengths = np.sort(jet_lengths(jets, rng) + 1)[::-1]
    tokens = torch.from_numpy(rng.integers(1, VOCABULARY, (2, lengths.sum())))
    labels = torch.from_numpy(rng.integers(0, 10, jets))
    torch.manual_seed(1)
    model = Generator(generator_config(size, VOCABULARY, MAX_TOKENS, **changes))

    def loss(model: Any, inputs: Tensor, targets: Tensor, packing: Packing, labels: Tensor) -> Tensor:
        return model(inputs, targets, packing, labels if model.config.n_classes else None).total

    return Work(model, (*tokens, Packing.build(lengths), labels), loss, int(lengths.sum()))


def tagger_work(width: int, preset: str, jets: int) -> Work:
    """A fresh tagger and random features of 45 particles a jet on average."""
    rng = np.random.default_rng(jets)
    lengths = np.sort(jet_lengths(jets, rng) + 1)[::-1]
    features = torch.from_numpy(rng.standard_normal((lengths.sum(), FEATURES), dtype=np.float32))
    targets = torch.from_numpy(rng.integers(0, 10, jets))
    torch.manual_seed(1)
    model = Tagger(TaggerConfig(width, FEATURES, **{**TAGGERS[preset], "dropout": 0.0}))

    def loss(model: Any, features: Tensor, targets: Tensor, packing: Packing) -> Tensor:
        return functional.cross_entropy(model(features, packing).float(), targets, reduction="sum")

    return Work(model, (features, targets, Packing.build(lengths)), loss, jets)


def tokenizer_work(jets: int, **changes: Any) -> Work:
    """A tokenizer whose codebook was placed by one step, and random jets."""
    torch.manual_seed(1)
    tokenizer = fresh_tokenizer(replace(TOKENIZERS["quickstart"], **changes))
    inputs = tokenizer.preprocessing.padded(random_jets(jets, seed=2))
    return Work(tokenizer.model.eval(), inputs, lambda model, *batch: model(*batch)["loss"], 1)


# -- right ------------------------------------------------------------------------------------------------------


def loss_and_gradient(work: Work, name: str, device: torch.device) -> tuple[Tensor, Tensor]:
    """Loss and gradient, on the CPU in double precision."""
    here = work.on(device)
    with precision(name, device):
        loss = here.loss(here.model, *here.inputs) / here.terms
    loss.backward()
    gradients = [p.grad.flatten() for p in here.model.parameters() if p.grad is not None]
    return loss.detach().cpu().double(), torch.cat(gradients).cpu().double()


def agreement(bench: Bench, what: str, work: Work, name: str) -> Row:
    """The larger of the relative differences of loss and gradient from the CPU's float32."""
    expected = loss_and_gradient(work, "float32", torch.device("cpu"))
    found = loss_and_gradient(work, name, bench.device)
    differences = [float((a - b).norm() / b.norm()) for a, b in zip(found, expected, strict=True)]
    is_right = all(d <= most for d, most in zip(differences, TOLERANCE[name], strict=True))
    verdict = "right" if is_right else f"beyond {TOLERANCE[name]}"
    note = f"{verdict} (loss {differences[0]:.1e}, gradient {differences[1]:.1e})"
    return Row("right", what, max(differences), "relative", note)


class Killed(TaggerTask):
    """A tagger whose training is sent SIGTERM at its fifth step."""

    steps = 0

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Loss of a step; the signal comes before it."""
        self.steps += 1
        if self.steps == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().loss(model, batch)


def resumption(what: str) -> Row:
    """Difference of the last held-out losses of a training that was killed and resumed and of one that was not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jets = random_jets(400)
        for split in ("train", "validation"):
            writer = StoreWriter(folder / split, "jets", {"origin": "benchmark"})
            writer.write_shard("all", to_store_rows(jets, np.arange(len(jets)) % 10))
            writer.finish()
        training = TrainingConfig(jets=320, batch_jets=32, evaluations=1, warmup_steps=0, learning_rate=1e-3)
        stores = str(folder / "train"), str(folder / "validation")
        run = TaggerRun(*stores, d_model=16, features="kinematic3", training=training)
        with contextlib.suppress(Interrupted):
            train(Killed(run), training, folder / "killed", progress=False)
        records: list[RunRecord] = [
            train(TaggerTask(run), training, folder / name, progress=False) for name in ("killed", "whole")
        ]
    resumed, whole = (record.evaluations[-1].metrics["loss"] for record in records)
    difference = abs(resumed / whole - 1)
    verdict = "to the bit" if difference == 0 else ("right" if difference < 1e-5 else "beyond 1e-05")
    return Row("right", what, difference, "relative", f"{verdict}, on {records[1].device}")


def right(bench: Bench) -> Iterator[Row]:
    """Every kind of model in both precisions, and a resumed training."""
    jets = 8 if bench.quick else 64
    models: dict[str, Callable[[], Work]] = {
        "generator pico": lambda: generator_work("pico", jets),
        "generator of classes, with positions": lambda: generator_work(
            "nano", jets, n_classes=10, positions="learned"
        ),
        "generator omnijet": lambda: generator_work("omnijet", jets),
        "tagger vigl d64": lambda: tagger_work(64, "vigl", jets),
        "tagger uslu d64": lambda: tagger_work(64, "uslu", jets),
        "tokenizer": lambda: tokenizer_work(jets, conditional=True),
        "tokenizer without context": lambda: tokenizer_work(jets, conditional=False),
        "tokenizer fsq": lambda: tokenizer_work(jets, quantizer="fsq", latent_dim=3),
    }
    for model, make in models.items():
        for name in TOLERANCE:
            what = f"{model}, {name}"
            yield bench.guarded("right", what, lambda: agreement(bench, what, make(), name))  # noqa: B023
    what = "training killed and resumed"
    yield bench.guarded("right", what, lambda: resumption(what))


# -- fast and bounded -------------------------------------------------------------------------------------------


def product_rate(bench: Bench, name: str) -> float:
    """FLOP/s of a matrix product."""
    n = 512 if bench.quick else 8192
    a, b = torch.randn(2, n, n, device=bench.device)
    if name == "bfloat16":
        a, b = a.bfloat16(), b.bfloat16()
    with precision("TF32" if name == "TF32" else "float32", bench.device):
        return 2 * n**3 / bench.seconds(lambda: a @ b)


def copy_rate(bench: Bench) -> float:
    """Bytes read and written per second by a copy within the device's memory."""
    source = torch.zeros(2**22 if bench.quick else 2**30, dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / bench.seconds(lambda: target.copy_(source))


def training_rows(bench: Bench, what: str, work: Work, flops: float, name: str, product: float, estimate: float | None
                  ) -> Iterator[Row]:  # fmt: skip
    """Rate of training steps, and their peak memory beside an estimate."""
    here = work.on(bench.device)
    here.model.train()
    optimizer = FlatAdamW(here.model, weight_decay=1e-2, clip_norm=1.0)
    tokens = len(here.inputs[0])

    def step() -> None:
        with precision(name, bench.device):
            loss = here.loss(here.model, *here.inputs)
        loss.backward()
        optimizer.step(1e-3, here.terms)

    on_gpu = bench.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(bench.device)
    spent = bench.seconds(step)
    yield Row(
        "fast", what, tokens / spent, "tokens/s", f"{flops / spent / product:.1%} of the bfloat16 product"
    )
    if on_gpu and estimate is not None:
        peak = torch.cuda.max_memory_allocated(bench.device)
        note = f"{peak / estimate:.2f} of the estimate, {estimate / 2**20:,.0f} MiB"
        yield Row("bounded", what, peak / 2**20, "MiB", note)


def generator_training(bench: Bench, size: str, jets: int, name: str, product: float) -> Iterator[Row]:
    """Training of a generator of the ladder."""
    work = generator_work(size, jets)
    tokens = work.terms
    estimate = cost(size, VOCABULARY, tokens / jets, batch_jets=jets).training_bytes
    flops = 3.0 * forward_flops(work.model) * tokens
    yield from training_rows(
        bench, f"training {size}, {jets} jets, {name}", work, flops, name, product, estimate
    )


def tagger_training(bench: Bench, width: int, jets: int, name: str, product: float) -> Iterator[Row]:
    """Training of a tagger."""
    work = tagger_work(width, "vigl", jets)
    config: Any = work.model.config
    flops = tagger_flops(config, jets, len(work.inputs[0]) - jets)
    yield from training_rows(bench, f"tagger d{width}, {jets} jets, {name}", work, flops, name, product, None)


def sampling_row(bench: Bench, what: str, size: str, jets: int, product: float) -> Row:
    """Jets drawn per second, with lengths as in JetClass."""
    model = WithLengths(generator_config(size, VOCABULARY, MAX_TOKENS)).to(bench.device).eval()
    WithLengths.lengths = Lengths()
    drawn = sample(model, jets, SamplingConfig(), batch_jets=jets).tokens  # also warms up
    bench.wait()
    start = time.perf_counter()
    sample(model, jets, SamplingConfig(seed=2), batch_jets=jets)
    bench.wait()
    spent = time.perf_counter() - start
    tokens = int(ak.count(drawn)) - jets  # without start tokens
    share = forward_flops(model) * tokens / spent / product
    return Row("fast", what, jets / spent, "jets/s", f"{share:.2%} of the bfloat16 product")


def encoding_row(bench: Bench, what: str, preset: str, jets: int) -> Row:
    """Jets encoded per second."""
    tokenizer, given = fresh_tokenizer(TOKENIZERS[preset]), random_jets(jets)
    spent = bench.seconds(lambda: tokenizer.encode(given, batch_jets=512, device=str(bench.device)))
    return Row("fast", what, jets / spent, "jets/s")


def fast_and_bounded(bench: Bench) -> Iterator[Row]:
    """The device's own rates, then those of all trainings, sampling and encoding."""
    products = {name: product_rate(bench, name) for name in ("bfloat16", "TF32", "float32")}
    yield from (Row("fast", f"matrix product, {n}", rate / 1e12, "TFLOP/s") for n, rate in products.items())
    yield Row("fast", "copy within the memory", copy_rate(bench) / 1e9, "GB/s", "read and written")
    product = products["bfloat16"]
    sizes = ("pico",) if bench.quick else ("pico", "nano", "micro", "small", "medium", "large", "xl")
    batches = (8,) if bench.quick else (512, 64, 4096)
    names = ("bfloat16",) if bench.quick else ("bfloat16", "TF32", "float32")
    drawn = (32,) if bench.quick else (1024, 4096, 16384)

    def several(what: str, rows: Callable[[], Iterator[Row]]) -> Iterator[Row]:
        found: list[Row] = []

        def first() -> Row:
            found.extend(rows())
            return found[0]

        row = bench.guarded("fast", what, first)
        yield from found or [row]

    # The cases that say most come first, in case that time runs out.
    for jets in batches:
        for name in names if jets == batches[0] else names[:1]:
            for size in sizes:
                what = f"training {size}, {jets} jets, {name}"
                yield from several(what, lambda: generator_training(bench, size, jets, name, product))  # noqa: B023
    for size in sizes[:1] if bench.quick else ("pico", "small"):
        for jets in drawn:
            what = f"sampling {size}, {jets} jets in flight"
            yield bench.guarded("fast", what, lambda: sampling_row(bench, what, size, jets, product))  # noqa: B023
    for width in (16,) if bench.quick else (16, 64, 128, 512):
        for name in names:
            what = f"tagger d{width}, {batches[0]} jets, {name}"
            yield from several(what, lambda: tagger_training(bench, width, batches[0], name, product))  # noqa: B023
    what = "encoding, quickstart"
    yield bench.guarded(
        "fast", what, lambda: encoding_row(bench, what, "quickstart", 64 if bench.quick else 8192)
    )


# -- output -----------------------------------------------------------------------------------------------------


def table(rows: list[Row]) -> str:
    """The rows as text."""
    lines = [f"{'part':8s} {'what':48s} {'value':>12s} {'unit':10s} note"]
    for row in rows:
        value = "" if row.value is None else f"{row.value:,.4g}" if row.value < 1e4 else f"{row.value:,.0f}"
        lines.append(f"{row.part:8s} {row.what:48s} {value:>12s} {row.unit:10s} {row.note}".rstrip())
    return "\n".join(lines)


def main() -> None:
    """Measure, print and write."""
    options = argparse.ArgumentParser(
        prog="scripts/bench gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--out", type=Path, required=True, help="folder for gpu.json and gpu.txt")
    options.add_argument("--device", default="cuda", help="cuda, cuda:1, ... or cpu")
    options.add_argument(
        "--quick", action="store_true", help="little of everything, in seconds: a test of the command"
    )
    given = options.parse_args()
    device = torch.device(resolve_device(given.device))
    bench = Bench(device, given.quick, time.monotonic() + BUDGET_S)
    name = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or device.type
    )
    about = {
        "device": name,
        "torch": torch.__version__,
        "quick": given.quick,
        "git_commit": git_commit(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    rows: list[Row] = []
    given.out.mkdir(parents=True, exist_ok=True)
    for row in itertools.chain(right(bench), fast_and_bounded(bench)):
        rows.append(row)
        print(table([row]).splitlines()[1], flush=True)
        # After each row: what was measured is kept if a lent device is taken away.
        found = {**about, "rows": [asdict(row) for row in rows]}
        write_atomic(given.out / "gpu.json", json.dumps(found, indent=1) + "\n")
        write_atomic(given.out / "gpu.txt", f"{about}\n{table(rows)}\n")


if __name__ == "__main__":
    main()
