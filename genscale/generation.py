"""Sampling jets from a generator, with a key/value cache.

Every jet has a random stream of its own, a function of the seed and the jet's number; its tokens are found by
inverting the cumulative probabilities at that stream's numbers. So a jet does not depend on how many jets
are drawn together. Where float32 rounding could decide (a random number next to a step of the cumulative
probabilities), the jet's logits are computed again in double precision, alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import awkward as ak
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from genscale.config import require
from genscale.models.generator import Generator
from genscale.models.packing import Packing

START_TOKEN = 0

#: Random numbers nearer than this to a step of the cumulative probabilities are settled in double precision;
#: float32 noise of the logits moves the steps by some 1e-7.
NEAR_STEP = 1e-6

#: Finished jets leave the batch when fewer rows than this share still grow: copying the cache costs, too.
SLOTS_IN_USE = 0.8


@dataclass(frozen=True)
class SamplingConfig:
    """How tokens are drawn.

    Attributes
    ----------
    temperature : float
        Divides the logits; 1 samples the model's own distribution.
    top_k : int
        Keep the k likeliest tokens; 0 keeps all.
    top_p : float
        Keep the likeliest tokens that together reach this probability; 1 keeps all.
    seed : int
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 1

    def __post_init__(self) -> None:
        require(self.temperature > 0, f"temperature: {self.temperature} is not positive")
        require(self.top_k >= 0, f"top_k: {self.top_k} is negative")
        require(0 < self.top_p <= 1, f"top_p: {self.top_p} is not in (0, 1]")
        require(self.seed >= 0, f"seed: {self.seed} is negative")


@dataclass(frozen=True)
class Sample:
    """Sampled sequences.

    Attributes
    ----------
    tokens : ak.Array
        Ragged int32 ``[start, codes..., stop]``; without the stop where the maximal length was hit.
    hit_max_length : ndarray of bool [jets]
    """

    tokens: ak.Array
    hit_max_length: np.ndarray


@torch.inference_mode()
def sample(
    model: Generator,
    n_jets: int,
    config: SamplingConfig,
    *,
    first_jet: int = 0,
    label: int | None = None,
    batch_jets: int = 512,
    progress: bool = False,
) -> Sample:
    """Draw jets number ``first_jet .. first_jet + n_jets - 1`` of a seed.

    Parameters
    ----------
    model : Generator
        In evaluation mode, on any device.
    label : int, optional
        Class index, for a class-conditional model.
    batch_jets : int
        Jets drawn together: changes speed, not jets.

    Returns
    -------
    Sample
    """
    model.eval()
    require((label is not None) == (model.class_embedding is not None), _label_message(model))
    sequences: list[np.ndarray] = []
    bar = tqdm(total=n_jets, unit="jet", desc="generate", disable=not progress, mininterval=0.5)
    draw = _Draw(model, config, label)
    for low in range(first_jet, first_jet + n_jets, batch_jets):
        jets = np.arange(low, min(low + batch_jets, first_jet + n_jets))
        sequences += draw.batch(jets, bar.update)
    bar.close()
    lengths = np.array([len(s) for s in sequences])
    flat = np.concatenate(sequences) if sequences else np.zeros(0, dtype=np.int32)
    stop = model.config.vocab_size - 1
    return Sample(ak.unflatten(flat, lengths), np.array([s[-1] != stop for s in sequences], dtype=bool))


class _Draw:
    """Batches of jets from one model."""

    def __init__(self, model: Generator, config: SamplingConfig, label: int | None) -> None:
        self.model, self.config, self.label = model, config, label
        self.device = model.embedding.weight.device
        self._exact: Generator | None = None

    def batch(self, jets: np.ndarray, report: Callable[[int], object]) -> list[np.ndarray]:
        """Sequences of the jets with these numbers."""
        model = self.model
        limit = model.config.max_tokens
        numbers = np.stack([_stream(self.config.seed, jet, limit) for jet in jets.tolist()])
        uniform = torch.from_numpy(numbers).to(self.device)
        written = torch.full((len(jets), limit + 1), START_TOKEN, dtype=torch.int64, device=self.device)
        lengths = np.full(len(jets), limit)
        cache = model.new_cache(len(jets), self.device)
        stop = model.config.vocab_size - 1
        slots = torch.arange(len(jets), device=self.device)  # the jet in each row of the cache
        growing = torch.ones(len(jets), dtype=torch.bool, device=self.device)
        for position in range(limit):  # the last can only stop a jet of the greatest length
            logits = model.step(written[slots, position], position, cache, self._labels(len(slots)))
            chosen = self._choose(logits, uniform[slots, position], written[slots, : position + 1])
            written[slots, position + 1] = chosen
            ended = growing & (chosen == stop)
            if not bool(ended.any()):
                continue
            done = slots[ended].cpu().numpy()
            lengths[done] = position + 2
            report(len(done))
            growing &= ~ended
            left = growing.nonzero()[:, 0]
            if not len(left):
                break
            if len(left) < SLOTS_IN_USE * len(slots):
                slots, growing = slots[left], growing[left]
                cache = [(_rows(k, left, position + 1), _rows(v, left, position + 1)) for k, v in cache]
        report(int(growing.sum()))
        tokens = written.cpu().numpy().astype(np.int32)
        return [tokens[i, : lengths[i]] for i in range(len(jets))]

    def _labels(self, n: int) -> Tensor | None:
        return None if self.label is None else torch.full((n,), self.label, device=self.device)

    def _choose(self, logits: Tensor, uniform: Tensor, prefixes: Tensor) -> Tensor:
        """Tokens at which the cumulative probabilities pass the random numbers, ``[jets]``."""
        token, margin = self._invert(logits, uniform)
        near = (margin < NEAR_STEP).nonzero()[:, 0]
        if len(near):
            token[near] = self._invert(self._exact_logits(prefixes[near]), uniform[near])[0]
        return token

    def _invert(self, logits: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        probabilities = self._probabilities(logits)
        steps = probabilities.cumsum(-1)
        # The last step is the sum: rounding leaves it next to one, and a number must not lie above it.
        wanted = (uniform * steps[:, -1])[:, None]
        token = torch.searchsorted(steps, wanted, right=True).clamp_(max=steps.shape[1] - 1)
        upper = steps.gather(1, token)
        lower = upper - probabilities.gather(1, token)
        margin = torch.minimum(upper - wanted, wanted - lower)
        return token[:, 0], margin[:, 0]

    def _probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities in double precision after temperature, top-k and top-p; the start token has none."""
        c = self.config
        scaled = logits.double() / c.temperature
        scaled[:, START_TOKEN] = -torch.inf
        if 0 < c.top_k < scaled.shape[1]:
            kth = scaled.topk(c.top_k).values[:, -1:]
            scaled = scaled.masked_fill(scaled < kth, -torch.inf)
        probabilities = scaled.softmax(-1)
        if c.top_p < 1:
            ordered, order = probabilities.sort(descending=True)
            # A token stays if those likelier than it do not reach top_p without it.
            kept = ordered.cumsum(-1) - ordered < c.top_p
            probabilities = torch.zeros_like(ordered).scatter(1, order, ordered * kept)
            probabilities = probabilities / probabilities.sum(-1, keepdim=True)
        return probabilities

    def _exact_logits(self, prefixes: Tensor) -> Tensor:
        """Logits after sequences of one length ``[jets, tokens]``, in double precision."""
        if self._exact is None:
            self._exact = copy.deepcopy(self.model).cpu().double()
        jets, tokens = prefixes.shape
        packing = Packing.build(np.full(jets, tokens))
        labels = None if self.label is None else torch.full((jets,), self.label)
        hidden = self._exact.hidden(prefixes.cpu().flatten(), packing, labels)
        return self._exact.logits(hidden.view(jets, tokens, -1)[:, -1]).to(self.device)


def _rows(cache: Tensor, rows: Tensor, filled: int) -> Tensor:
    """Some rows of a cache of which only the first positions hold anything."""
    kept = cache.new_empty(len(rows), *cache.shape[1:])
    kept[:, :, :filled] = cache[rows, :, :filled]
    return kept


def _stream(seed: int, jet: int, n: int) -> np.ndarray:
    """Random numbers of one jet: a counter-based generator makes any jet's stream without the others'."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, jet, 0])).random(n)


def _label_message(model: Generator) -> str:
    if model.class_embedding is None:
        return "this generator is unconditional: it takes no class label"
    return "this generator is class-conditional: give the class label to draw"
