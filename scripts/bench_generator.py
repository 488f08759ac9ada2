"""Speed of the generator on one core: training, sampling, reading, and the tokenizer's encoder.

    python scripts/bench_generator.py [--repeats 5] [--quick]

- training: steps of 64 jets with 45 tokens on average, from reading the batch to the optimizer; the share is
  6 x (blocks + head) x real tokens per second over the rate of a float32 matrix product. Beside it
  transformers' GPT-2 of the preset's shape on the same jets as one padded batch.
- sampling: jets per second with a key/value cache, beside transformers' ``generate`` with its cache, GPT-2 of the same
  shape and the same lengths: normal, 45 +- 18. A fresh model has no such lengths, so the stop token's
  logit is set by position, in both; a trained model does the same work. The share counts
  2 x (blocks + head) x tokens that belong to a jet.
- encoding: the released tokenizer's shape.
- reading: from a store of ten thousand jets and one of a million, each in a process of its own; memory is the process's
  own, without the mapped pages of the store.

All times are processor time, and what is compared takes turns, so that a busy machine disturbs all of them
alike. Each figure: median over the repeats (least to greatest).
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core for everything

import awkward as ak
import numpy as np
import psutil
import torch
from bench_tokenizer import bench_jets
from torch import Tensor

from genscale.data.batching import Batch, BatchStream, TokenRows
from genscale.data.order import JetOrder
from genscale.data.plan import BatchPlan
from genscale.data.store import StoreWriter, TokenStore
from genscale.inference.sampling import SamplingConfig, sample
from genscale.models.counting import count_parameters
from genscale.models.generator import Generator
from genscale.models.ladder import generator_config
from tokenizer import PRESETS, Tokenizer

MATRIX = 1024
VOCABULARY = 8194
START, STOP = 0, VOCABULARY - 1
MAX_TOKENS = 129
BATCH_JETS = 64
SINGLE_JETS = 32
SIZES = ("omnijet", "medium", "micro")


def seconds(work: Callable[[], object]) -> float:
    """Processor time of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def summary(values: Any, digits: int = 0) -> str:
    """Median, least and greatest."""
    median, low, high = np.median(values), np.min(values), np.max(values)
    return f"{median:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


class MatrixProduct:
    """The yardstick: a float32 product of MATRIX^3."""

    def __init__(self) -> None:
        self.a, self.b = torch.randn(2, MATRIX, MATRIX)

    def flops_per_second(self, times: int = 8) -> float:
        """Rate now: the mean over some products, as the work beside it is a sum over many."""
        return times * 2 * MATRIX**3 / seconds(lambda: [self.a @ self.b for _ in range(times)])


# -- stores ---------------------------------------------------------------------------------------------------


def lengths_of_jets(n: int, rng: np.random.Generator) -> np.ndarray:
    """Constituents per jet, spread as in JetClass."""
    return np.clip(rng.normal(45, 18, n).round(), 2, 128).astype(np.int64)


def write_store(path: Path, n_jets: int, shard_jets: int = 50_000) -> None:
    """Random tokens: what they say does not change what they cost."""
    meta = {"tokenizer_fingerprint": "none", "vocabulary_size": VOCABULARY, "source_fingerprint": "none"}
    writer = StoreWriter(path, "tokens", meta)
    for number, low in enumerate(range(0, n_jets, shard_jets)):
        rng = np.random.default_rng(number)
        lengths = lengths_of_jets(min(shard_jets, n_jets - low), rng) + 2
        flat = rng.integers(1, STOP, lengths.sum(), dtype=np.int32)
        ends = np.cumsum(lengths)
        flat[ends - 1], flat[ends - lengths] = STOP, START
        labels = rng.integers(0, 10, len(lengths))
        writer.write_shard(
            f"{number:05d}", ak.zip({"tokens": ak.unflatten(flat, lengths), "label": labels}, depth_limit=1)
        )
    writer.finish()


def batches(path: Path, steps: int) -> Any:
    """Iterate over the batches of a training on this store, in the order of seed 1."""
    rows = TokenRows(TokenStore.open(path))
    return BatchStream(rows, JetOrder(len(rows), len(rows), 1), BatchPlan(BATCH_JETS)).loader(0, steps)


def own_memory() -> int:
    """Bytes of this process alone: without pages of files, which the system takes back when it needs them."""
    info = psutil.Process().memory_info()
    return int(info.rss - getattr(info, "shared", 0))  # only Linux tells them apart


def read(path: Path, steps: int) -> dict[str, float]:
    """What reading costs in a fresh process: seconds to the first step, then per batch, and memory."""
    torch.set_num_threads(1)
    before = own_memory()
    started = time.perf_counter()
    stream = batches(path, steps)
    model = Generator(generator_config("micro", VOCABULARY, MAX_TOKENS))
    (batch,) = next(stream)
    model(batch.inputs, batch.targets, batch.packing).total.backward()
    first = time.perf_counter() - started
    tokens = 0

    def rest() -> None:
        nonlocal tokens
        for (batch,) in stream:
            tokens += batch.n_tokens

    spent = seconds(rest)
    memory = own_memory() - before
    return {"first_step_s": first, "us_per_token": 1e6 * spent / tokens, "mib": memory / 2**20}


# -- training ---------------------------------------------------------------------------------------------------


class OurTraining:
    """Steps as the training loop takes them."""

    def __init__(self, size: str, path: Path) -> None:
        self.model = Generator(generator_config(size, VOCABULARY, MAX_TOKENS)).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, weight_decay=1e-2, fused=True)
        self.batches = batches(path, 10_000)
        n = count_parameters(self.model)
        # A tied head computes with the embedding's weights.
        self.flops_per_token = 6 * (n.blocks + (n.head or self.model.embedding.weight.numel()))

    def step(self) -> int:
        """Take one step; return its real tokens."""
        (batch,) = next(self.batches)
        (self.model(batch.inputs, batch.targets, batch.packing).total / batch.n_tokens).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return batch.n_tokens


def gpt2() -> Any:
    """GPT-2 of transformers in the preset's shape, without dropout, which the preset has not either."""
    from transformers import GPT2Config, GPT2LMHeadModel
    from transformers.utils import logging

    logging.set_verbosity_error()  # a note about the name of the default loss
    shape = {
        "vocab_size": VOCABULARY,
        "n_positions": MAX_TOKENS + 1,
        "n_embd": 256,
        "n_layer": 3,
        "n_head": 8,
    }
    none = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(**shape, **none, bos_token_id=START, eos_token_id=STOP))


class TheirTraining:
    """GPT-2 on padded batches."""

    def __init__(self, path: Path) -> None:
        self.model = gpt2().train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, weight_decay=1e-2, fused=True)
        self.batches = batches(path, 10_000)
        blocks = sum(p.numel() for n, p in self.model.named_parameters() if ".h." in n or "ln_f" in n)
        self.flops_per_token = 6 * (blocks + VOCABULARY * 256)

    def step(self) -> int:
        """Take one step; return its real tokens."""
        (batch,) = next(self.batches)
        tokens, mask, labels = padded(batch)
        self.model(tokens, attention_mask=mask, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return batch.n_tokens


def padded(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, mask and labels of a batch ``[jets, longest]``, as GPT-2 takes them."""
    lengths = batch.packing.lengths
    longest = int(lengths.max()) + 1  # the stop token is an input, too: GPT-2 shifts the labels itself
    tokens = torch.full((len(lengths), longest), STOP)
    real = torch.arange(longest)[None] <= lengths[:, None]
    tokens[real & (torch.arange(longest)[None] < lengths[:, None])] = batch.inputs
    return tokens, real.long(), tokens.masked_fill(~real, -100)


# -- sampling ---------------------------------------------------------------------------------------------------


class Lengths:
    """Sets the stop token's logit by position, so that fresh models draw jets as long as real ones."""

    def __init__(self) -> None:
        lengths = lengths_of_jets(1_000_000, np.random.default_rng(0))
        ended = np.bincount(lengths, minlength=MAX_TOKENS)[:MAX_TOKENS]
        growing = len(lengths) - np.cumsum(ended) + ended
        hazard = np.clip(ended / np.maximum(growing, 1), 1e-6, 1 - 1e-6)
        self.log_odds = torch.tensor(np.log(hazard / (1 - hazard)), dtype=torch.float32)
        self.others: Tensor | None = None  # all other tokens together: nearly constant in a fresh model

    def impose(self, logits: Tensor, position: int) -> Tensor:
        """Change logits ``[jets, vocabulary]`` after the token at this position, in place."""
        if self.others is None:
            self.others = logits[0, 1:STOP].logsumexp(-1)
        logits[:, STOP] = self.log_odds[min(position, MAX_TOKENS - 1)] + self.others
        return logits


class WithLengths(Generator):
    """A fresh generator whose jets end as trained ones do."""

    lengths = Lengths()

    def step(
        self, tokens: Tensor, position: int, cache: Any, labels: Tensor | None = None, *, out: Tensor
    ) -> Tensor:
        """Logits with that of the stop token replaced."""
        return self.lengths.impose(super().step(tokens, position, cache, labels, out=out), position)


def their_sampling(model: Any, lengths: Lengths, jets: int) -> float:
    """Draw a batch with transformers' generate and its cache; return the mean number of tokens."""

    def impose(tokens: Tensor, logits: Tensor) -> Tensor:
        logits[:, START] = -torch.inf
        return lengths.impose(logits, tokens.shape[1] - 1)

    start = torch.full((jets, 1), START)
    drawn = model.generate(
        start, attention_mask=torch.ones_like(start), do_sample=True, top_k=0, max_new_tokens=MAX_TOKENS,
        pad_token_id=START, eos_token_id=STOP, logits_processor=[impose], use_cache=True,
    )  # fmt: skip
    return float((drawn[:, 1:] != START).sum(1).float().mean())


# -- the sections -----------------------------------------------------------------------------------------------


def bench_training(matrix: MatrixProduct, path: Path, repeats: int) -> None:
    """Steps of ours and theirs in turn."""
    trainings: dict[str, Any] = {size: OurTraining(size, path) for size in SIZES}
    trainings["GPT-2, padded"] = TheirTraining(path)
    for training in trainings.values():
        training.step()  # the first step pays for optimizer states and threads
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in trainings}
    for _ in range(repeats):
        for name, training in trainings.items():
            before, tokens = matrix.flops_per_second(), 0

            def steps(training: Any = training) -> None:
                nonlocal tokens
                tokens = sum(training.step() for _ in range(2))

            spent = seconds(steps)
            matmul = (before + matrix.flops_per_second()) / 2
            share = 100 * tokens * training.flops_per_token / spent / matmul
            measured[name].append((tokens / spent, share))
    rates = {name: np.array(values)[:, 0] for name, values in measured.items()}
    shares = {name: np.array(values)[:, 1] for name, values in measured.items()}
    print("training, tokens/s and share of the matrix product in %")
    for name in trainings:
        print(f"  {name:14s} {summary(rates[name])} tokens/s, {summary(shares[name])} %")
    ratio = rates["omnijet"] / rates["GPT-2, padded"]
    print(f"  omnijet over GPT-2: {summary(ratio, 1)}")


def bench_sampling(matrix: MatrixProduct, jets: int, their_batches: tuple[int, ...], repeats: int) -> None:
    """Ours with its own choice of batch, theirs with several."""
    torch.manual_seed(0)
    ours = WithLengths(generator_config("omnijet", VOCABULARY, MAX_TOKENS)).eval()
    theirs, lengths = gpt2().eval(), Lengths()
    sample(ours, 64, SamplingConfig(seed=0))
    n = count_parameters(ours)
    rates: dict[str, list[float]] = {"ours": []}
    matmul: list[float] = []
    tokens: dict[str, float] = {}
    for repeat in range(repeats):
        matmul.append(matrix.flops_per_second())

        def draw(seed: int = repeat) -> None:
            tokens["ours"] = float(ak.mean(ak.num(sample(ours, jets, SamplingConfig(seed=seed)).tokens))) - 1

        rates["ours"].append(jets / seconds(draw))
        for size in their_batches:
            name = f"GPT-2, batches of {size}"

            calls = max(1, SINGLE_JETS // size)  # the lengths of a few jets say little

            def generate(size: int = size, name: str = name, calls: int = calls) -> None:
                tokens[name] = float(np.mean([their_sampling(theirs, lengths, size) for _ in range(calls)]))

            rates.setdefault(name, []).append(calls * size / seconds(generate))
    best = max((name for name in rates if name != "ours"), key=lambda name: np.median(rates[name]))
    print("sampling, jets/s (mean tokens per jet), share of the matrix product in %")
    for name, values in rates.items():
        share = 200 * (n.blocks + n.head) * tokens[name] * np.array(values) / np.array(matmul)
        print(f"  {name:22s} {summary(values, 1)} ({tokens[name]:.0f}), {summary(share)} %")
    for name in [name for name in rates if name != "ours"]:
        ratio = np.array(rates["ours"]) / np.array(rates[name])
        note = ", their fastest" if name == best else ""
        print(f"  ours over {name}{note}: {summary(ratio, 1)}")


def bench_encoding(jets: int, repeats: int) -> None:
    """Only the encoder runs."""
    config = PRESETS["omnijet"]
    tokenizer = Tokenizer.create(config)
    # One training step places the codebook.
    first = bench_jets(max(64, 2 * config.codebook_size // 45), seed=1)
    tokenizer.model.train().loss(*tokenizer.preprocessing.padded(first))
    particles = bench_jets(jets)
    tokenizer.encode(particles[:64])
    rates = [jets / seconds(lambda: tokenizer.encode(particles)) for _ in range(repeats)]
    size = sum(p.numel() for p in tokenizer.model.parameters())
    print(f"encoding with the released tokenizer ({size:,} parameters): {summary(rates)} jets/s")


def bench_reading(folder: Path, sizes: tuple[int, ...], repeats: int) -> None:
    """Each store in processes of their own."""
    print("reading batches of 64 jets, each store in a process of its own")
    found: dict[int, list[dict[str, float]]] = {size: [] for size in sizes}
    for _ in range(repeats):
        for size in sizes:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found[size].append(pool.apply(read, (folder / str(size), 500)))
    for size, runs in found.items():
        part = {key: [run[key] for run in runs] for key in runs[0]}
        print(
            f"  {size:9,d} jets: {summary(part['us_per_token'], 2)} us/token, first step of micro after "
            f"{summary(part['first_step_s'], 1)} s (clock), {summary(part['mib'])} MiB more memory of its own than "
            "before opening it"
        )
    ratio = [
        b["us_per_token"] / a["us_per_token"] for a, b in zip(found[sizes[0]], found[sizes[-1]], strict=True)
    ]
    print(f"  cost per token, {sizes[-1]:,} over {sizes[0]:,} jets: {summary(ratio, 2)}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="less of everything: a minute instead of five")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    repeats = min(2, arguments.repeats) if arguments.quick else arguments.repeats
    stores = (10_000, 100_000) if arguments.quick else (10_000, 1_000_000)
    matrix = MatrixProduct()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spent = {size: seconds(lambda size=size: write_store(folder / str(size), size)) for size in stores}
        print(f"one core, float32; torch {torch.__version__}; {repeats} repeats: median (least to greatest)")
        rates = [matrix.flops_per_second() / 1e9 for _ in range(repeats)]
        print(f"matrix product {MATRIX}^3: {summary(rates)} GFLOP/s")
        bench_training(matrix, folder / str(stores[0]), repeats)
        jets = 256 if arguments.quick else 1024
        bench_sampling(matrix, jets, (32,) if arguments.quick else (1, 32, 128), min(repeats, 3))
        bench_encoding(200 if arguments.quick else 1000, repeats)
        bench_reading(folder, stores, min(repeats, 3))
        print(f"  (writing them: {', '.join(f'{spent[size]:.1f} s for {size:,} jets' for size in stores)})")


if __name__ == "__main__":
    main()
