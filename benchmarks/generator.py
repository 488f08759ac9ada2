"""Speed of the generator on one core: training, sampling, and reading.

- Training: steps of 64 jets with 45 tokens on average, from reading the batch to the optimizer; the share is
  6 x (blocks + head) x real tokens per second over the rate of a float32 matrix product. Beside it
  transformers' GPT-2 of the preset's shape on the same jets as one padded batch.
- Sampling: jets per second with a key/value cache, beside transformers' ``generate`` with its cache, GPT-2 of the same
  shape and the same lengths: normal, 45 +- 18. A fresh model has no such lengths, so the stop token's logit is set by
  position in both; a trained model does the same work. The share counts 2 x (blocks + head) x tokens that belong to a
  jet.
- Reading: from a store of ten thousand jets and one of a million, each in a process of its own; memory is the process's
  own, without the mapped pages of the store.

What is compared takes turns, in processor time.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import psutil
import torch
from torch import Tensor, nn

from benchmarks.harness import PRODUCT, in_turn, jet_lengths, parser, product_rate, products, seconds, summary
from genscale.data.batching import Batch, BatchStream, TokenRows
from genscale.data.order import JetOrder
from genscale.data.plan import BatchPlan
from genscale.data.store import StoreWriter, TokenStore
from genscale.inference.sampling import SamplingConfig, sample
from genscale.models.counting import count_parameters
from genscale.models.generator import Generator
from genscale.models.ladder import generator_config
from genscale.training.optimizer import FlatAdamW

VOCABULARY = 8194
START, STOP = 0, VOCABULARY - 1
MAX_TOKENS = 129
SIZES = ("omnijet", "medium", "micro")
GPT2 = "GPT-2, padded"


# -- stores ---------------------------------------------------------------------------------------------------


def write_store(path: Path, n_jets: int, shard_jets: int = 50_000) -> None:
    """Random tokens: what they are does not change what they cost."""
    meta = {"tokenizer_fingerprint": "none", "vocabulary_size": VOCABULARY, "source_fingerprint": "none"}
    writer = StoreWriter(path, "tokens", meta)
    for number, low in enumerate(range(0, n_jets, shard_jets)):
        rng = np.random.default_rng(number)
        lengths = jet_lengths(min(shard_jets, n_jets - low), rng) + 2
        flat = rng.integers(1, STOP, lengths.sum(), dtype=np.int32)
        ends = np.cumsum(lengths)
        flat[ends - 1], flat[ends - lengths] = STOP, START
        rows = {"tokens": ak.unflatten(flat, lengths), "label": rng.integers(0, 10, len(lengths))}
        writer.write_shard(f"{number:05d}", ak.zip(rows, depth_limit=1))
    writer.finish()


def batches(path: Path, steps: int) -> Any:
    """Iterate over batches of 64 jets of a training on this store, in the order of seed 1."""
    rows = TokenRows(TokenStore.open(path))
    return BatchStream(rows, JetOrder(len(rows), len(rows), 1), BatchPlan(64)).loader(0, steps)


def own_memory() -> int:
    """Bytes of this process alone: without pages of files, which the system takes back when it needs them."""
    info = psutil.Process().memory_info()
    return int(info.rss - getattr(info, "shared", 0))  # only Linux tells them apart


def read(path: Path, steps: int) -> tuple[float, float, float]:
    """Microseconds per token, seconds to the first step, and MiB of memory, of reading in a fresh process."""
    before, started = own_memory(), time.perf_counter()
    stream = batches(path, steps)
    model = Generator(generator_config("micro", VOCABULARY, MAX_TOKENS))
    (batch,) = next(stream)
    model(batch.inputs, batch.targets, batch.packing).total.backward()
    first, tokens = time.perf_counter() - started, list[int]()
    spent = seconds(lambda: tokens.extend(batch.n_tokens for (batch,) in stream))
    return 1e6 * spent / sum(tokens), first, (own_memory() - before) / 2**20


# -- training ---------------------------------------------------------------------------------------------------


class Training:
    """Steps as the training loop takes them, of a generator or of GPT-2."""

    def __init__(self, name: str, path: Path) -> None:
        self.padded = name == GPT2
        self.model: nn.Module = (gpt2() if self.padded else fresh(name)).train()
        self.optimizer = FlatAdamW(self.model, weight_decay=1e-2, clip_norm=5.0)
        self.batches = batches(path, 10_000)
        if self.padded:
            parts = {"blocks": 0, "head": VOCABULARY * 256}
            for part, parameter in self.model.named_parameters():
                parts["blocks"] += parameter.numel() if ".h." in part or "ln_f" in part else 0
            self.flops_per_token = 6 * sum(parts.values())
        else:
            self.flops_per_token = 3 * forward_flops(self.model)

    def step(self) -> int:
        """Take one step; return its real tokens."""
        (batch,) = next(self.batches)
        if self.padded:
            tokens, mask, labels = padded(batch)
            loss = self.model(tokens, attention_mask=mask, labels=labels).loss * batch.n_tokens
        else:
            loss = self.model(batch.inputs, batch.targets, batch.packing).total
        loss.backward()
        self.optimizer.step(1e-3, batch.n_tokens)
        return batch.n_tokens


def fresh(size: str) -> Generator:
    """An untrained generator of the ladder."""
    return Generator(generator_config(size, VOCABULARY, MAX_TOKENS))


def forward_flops(model: Any) -> int:
    """2 x (blocks + head) for a token; a tied head computes with the weights of the embedding."""
    n = count_parameters(model)
    return 2 * (n.blocks + (n.head or model.embedding.weight.numel()))


def gpt2() -> Any:
    """GPT-2 of transformers in the preset's shape, without dropout, which the preset does not have either."""
    from transformers import GPT2Config, GPT2LMHeadModel
    from transformers.utils import logging

    logging.set_verbosity_error()  # a note about the name of the default loss
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY, n_positions=MAX_TOKENS + 1, n_embd=256, n_layer=3, n_head=8, resid_pdrop=0.0,
            embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=START, eos_token_id=STOP,
        )
    )  # fmt: skip


def padded(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, mask and labels of a batch ``[jets, longest]``, as GPT-2 takes them."""
    lengths = batch.packing.lengths
    longest = int(lengths.max()) + 1  # the stop token is an input, too: GPT-2 shifts the labels itself
    tokens = torch.full((len(lengths), longest), STOP)
    real = torch.arange(longest)[None] <= lengths[:, None]
    tokens[torch.arange(longest)[None] < lengths[:, None]] = batch.inputs
    return tokens, real.long(), tokens.masked_fill(~real, -100)


def bench_training(path: Path, repeats: int) -> None:
    """Two steps of each model in turn."""
    trainings = {name: Training(name, path) for name in (*SIZES, GPT2)}
    tokens: dict[str, list[int]] = {name: [] for name in trainings}

    def steps(name: str) -> None:
        tokens[name].append(sum(trainings[name].step() for _ in range(2)))

    cases = {name: partial(steps, name) for name in trainings}
    times = in_turn({PRODUCT: products, **cases}, repeats)
    product = product_rate(times.pop(PRODUCT))
    rates = {name: np.array(tokens[name][1:]) / spent for name, spent in times.items()}
    print("training, tokens/s and share of the matrix product in %")
    for name, rate in rates.items():
        share = 100 * trainings[name].flops_per_token * rate / product
        print(f"  {name:14s} {summary(rate)} tokens/s, {summary(share)} %")
    print(f"  omnijet over GPT-2: {summary(rates['omnijet'] / rates[GPT2], 1)}")


# -- sampling ---------------------------------------------------------------------------------------------------


class Lengths:
    """Sets the stop token's logit by position, so that fresh models draw jets as long as real ones."""

    def __init__(self) -> None:
        lengths = jet_lengths(1_000_000, np.random.default_rng(0))
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


def generate(model: Any, lengths: Lengths, jets: int) -> np.ndarray:
    """Draw a batch with transformers' generate and its cache; return the number of tokens of each jet."""

    def impose(tokens: Tensor, logits: Tensor) -> Tensor:
        logits[:, START] = -torch.inf
        return lengths.impose(logits, tokens.shape[1] - 1)

    start = torch.full((jets, 1), START)
    drawn = model.generate(
        start, attention_mask=torch.ones_like(start), do_sample=True, top_k=0, max_new_tokens=MAX_TOKENS,
        pad_token_id=START, eos_token_id=STOP, logits_processor=[impose], use_cache=True,
    )  # fmt: skip
    return (drawn[:, 1:] != START).sum(1).numpy()


def bench_sampling(jets: int, their_batches: tuple[int, ...], repeats: int) -> None:
    """Ours with its own choice of batch, theirs with several."""
    ours, theirs, lengths = (
        WithLengths(generator_config("omnijet", VOCABULARY, MAX_TOKENS)).eval(),
        gpt2().eval(),
        Lengths(),
    )
    drawn: dict[str, np.ndarray] = {}  # tokens of each jet of the last call

    def draw() -> None:
        drawn["ours"] = ak.to_numpy(ak.num(sample(ours, jets, SamplingConfig()).tokens)) - 1

    def draw_theirs(name: str, size: int) -> None:
        calls = range(max(1, 32 // size))  # the lengths of a few jets say little
        drawn[name] = np.concatenate([generate(theirs, lengths, size) for _ in calls])

    names = {f"GPT-2, batches of {size}": size for size in their_batches}
    cases = {name: partial(draw_theirs, name, size) for name, size in names.items()}
    times = in_turn({PRODUCT: products, "ours": draw, **cases}, repeats)
    product = product_rate(times.pop(PRODUCT))
    rates = {name: len(drawn[name]) / spent for name, spent in times.items()}
    best = max(names, key=lambda name: np.median(rates[name]))
    print("sampling, jets/s (mean tokens per jet), share of the matrix product in %")
    for name, rate in rates.items():
        share = 100 * forward_flops(ours) * drawn[name].mean() * rate / product
        print(f"  {name:22s} {summary(rate, 1)} ({drawn[name].mean():.0f}), {summary(share)} %")
    for name in names:
        note = ", their fastest" if name == best else ""
        print(f"  ours over {name}{note}: {summary(rates['ours'] / rates[name], 1)}")


# -- reading --------------------------------------------------------------------------------------------------


def bench_reading(folder: Path, sizes: tuple[int, ...], repeats: int) -> None:
    """Each store in processes of their own."""
    print("reading batches of 64 jets, each store in a process of its own")
    found = np.empty((repeats, len(sizes), 3))
    for repeat in range(repeats):
        for number, size in enumerate(sizes):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found[repeat, number] = pool.apply(read, (folder / str(size), 500))
    for number, size in enumerate(sizes):
        per_token, first, memory = found[:, number].T
        print(f"  {size:9,d} jets: {summary(per_token, 2)} us/token, first step of micro after {summary(first, 1)} s "
              f"(clock), {summary(memory)} MiB more memory of its own than before opening it")  # fmt: skip
    ratio = found[:, -1, 0] / found[:, 0, 0]
    print(f"  cost per token, {sizes[-1]:,} over {sizes[0]:,} jets: {summary(ratio, 2)}")


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, repeats=5)
    options.add_argument("--quick", action="store_true", help="less of everything: a minute instead of five")
    arguments = options.parse_args()
    torch.manual_seed(0)
    quick = arguments.quick
    repeats = min(2, arguments.repeats) if quick else arguments.repeats
    stores = (10_000, 100_000) if quick else (10_000, 1_000_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"one core, float32; torch {torch.__version__}; {repeats} repeats: median (least to greatest)")
        for size in stores:
            spent = seconds(partial(write_store, folder / str(size), size))
            print(f"{spent:.1f} s to write {size:,} jets")
        print(f"{PRODUCT}: {summary([product_rate() / 1e9 for _ in range(repeats)])} GFLOP/s")
        bench_training(folder / str(stores[0]), repeats)
        bench_sampling(256 if quick else 1024, (32,) if quick else (1, 32, 128), min(repeats, 3))
        bench_reading(folder, stores, min(repeats, 3))


if __name__ == "__main__":
    main()
