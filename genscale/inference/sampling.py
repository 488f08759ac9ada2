"""Sampling jets from a generator, with a key/value cache.

Every jet has its own random stream, a function of the seed and the jet's number, so that a jet does not depend on the
number of jets drawn together. The vocabulary is arranged as a tree: random numbers of the stream choose a branch, a
branch of this branch, and finally a token, each by inverting the cumulative probabilities of a few tens of branches.
Where float32 rounding could decide (a random number close to a step of the cumulative probabilities), the jet's logits
are computed again in double precision, alone. The tree has a hundredth of the steps of a search over 8,194 tokens, and
needs no cumulative sum of all of them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import awkward as ak
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from genscale.data.order import SEEDS
from genscale.data.packing import Packing
from genscale.errors import require
from genscale.models.generator import Generator
from genscale.models.head import ROW_MULTIPLE, logits_buffer

START_TOKEN = 0

#: For random numbers nearer than this to a step of the cumulative probabilities, double precision is used. Float32
#: noise of the logits was seen to move the steps by up to 2e-6; one token in a few thousand is that near.
NEAR_STEP = 4e-6

#: Branches of each node of the tree; branches beyond the vocabulary have probability zero.
BRANCHES = ROW_MULTIPLE

#: Memory for keys and values if all jets of a batch grow to the maximal length, and most jets in a batch.
CACHE_BYTES = 2**30
MOST_JETS = 1024


@dataclass(frozen=True)
class SamplingConfig:
    """Options of sampling.

    Attributes
    ----------
    temperature : float
        The logits are divided by it; 1 samples the model's own distribution.
    top_k : int
        Keep the k most probable tokens; 0 keeps all.
    top_p : float
        Keep the most probable tokens that together reach this probability; 1 keeps all.
    seed : int
        Seed of the random streams of all jets.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 1

    def __post_init__(self) -> None:
        require(
            0 < self.temperature < math.inf, f"temperature: {self.temperature} is not positive and finite"
        )
        require(self.top_k >= 0, f"top_k: {self.top_k} is negative")
        require(0 < self.top_p <= 1, f"top_p: {self.top_p} is not in (0, 1]")
        require(0 <= self.seed < SEEDS, f"seed: {self.seed} is not from 0 to {SEEDS - 1}")


@dataclass(frozen=True)
class SampledTokens:
    """Token sequences drawn from a generator.

    Attributes
    ----------
    tokens : ak.Array
        Ragged int32 ``[start, codes..., stop]``; without stop token if the maximal length was reached.
    hit_max_length : array of bool, shape (n_jets,)
        Whether each jet reached the maximal length.
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
    batch_jets: int | None = None,
    report: Callable[[int, int], None] | None = None,
) -> SampledTokens:
    """Draw jets number ``first_jet .. first_jet + n_jets - 1`` of a seed.

    Parameters
    ----------
    model : Generator
        A generator in evaluation mode, on any device.
    n_jets : int
        Number of jets.
    config : SamplingConfig
        Options, with the seed.
    first_jet : int
        Number of the first jet.
    label : int, optional
        Class index, for a class-conditional model.
    batch_jets : int, optional
        Number of jets drawn together, which changes the speed but not the jets; by default as many as memory allows.
    report : callable, optional
        Called repeatedly with the number of jets finished since the last call, and the number of these that reached
        the maximal length.

    Returns
    -------
    SampledTokens
    """
    model.eval()
    require_label(model, label)
    batch_jets = min(max(n_jets, 1), batch_jets or _batch_jets(model))
    draw = _Draw(model, config, label, batch_jets, report or (lambda jets, hits: None))
    sequences: list[np.ndarray] = []
    for low in range(first_jet, first_jet + n_jets, batch_jets):
        sequences += draw.batch(np.arange(low, min(low + batch_jets, first_jet + n_jets)))
    lengths = np.array([len(s) for s in sequences])
    flat = np.concatenate(sequences) if sequences else np.zeros(0, dtype=np.int32)
    stop = model.config.vocab_size - 1
    return SampledTokens(
        ak.unflatten(flat, lengths), np.array([s[-1] != stop for s in sequences], dtype=bool)
    )


class _Draw:
    """Batches of jets from one model."""

    def __init__(
        self,
        model: Generator,
        config: SamplingConfig,
        label: int | None,
        batch_jets: int,
        report: Callable[[int, int], None],
    ) -> None:
        self.model, self.config, self.label, self.report = model, config, label, report
        self.device = model.embedding.weight.device
        self.depth = 1  # of the vocabulary's tree
        while BRANCHES**self.depth < model.config.vocab_size:
            self.depth += 1
        # Memory that was used before is faster than newly allocated memory, so that all batches share it.
        self._cache = model.new_cache(batch_jets)
        self._logits = logits_buffer(batch_jets, model.config.vocab_size, model.embedding.weight)
        self._exact: Generator | None = None

    def batch(self, jets: np.ndarray) -> list[np.ndarray]:
        """Return sequences of the jets with these numbers, at most ``batch_jets``."""
        model, device = self.model, self.device
        limit = model.config.max_tokens
        numbers = np.stack([_stream(self.config.seed, jet, limit * self.depth) for jet in jets.tolist()])
        uniform = torch.from_numpy(numbers).to(device).view(len(jets), limit, self.depth)
        written = torch.full((len(jets), limit + 1), START_TOKEN, dtype=torch.int64, device=device)
        lengths = np.full(len(jets), limit)
        cache = [(keys[:, : len(jets)], values[:, : len(jets)]) for keys, values in self._cache]
        stop = model.config.vocab_size - 1
        slots = torch.arange(len(jets), device=device)  # the jet in each row of the cache
        for position in range(limit):  # the last position can only end a jet of maximal length
            prefixes = written[slots, : position + 1]
            logits = self._logits[: len(slots)]
            real = logits[:, : model.config.vocab_size]
            model.step(prefixes[:, -1], position, cache, self._labels(len(slots)), out=real)
            chosen = self._choose(logits, uniform[slots, position], prefixes)
            written[slots, position + 1] = chosen
            ended = chosen == stop
            # The host waits here, because jets that have ended leave the batch, which saves most of the work.
            if not bool(ended.any()):
                continue
            done = slots[ended].cpu().numpy()
            lengths[done] = position + 2
            self.report(len(done), 0)
            slots, cache = _close_gaps(slots, cache, ended, position + 1)
            if not len(slots):
                break
        self.report(len(slots), len(slots))
        tokens = written.cpu().numpy().astype(np.int32)
        return [tokens[i, : lengths[i]] for i in range(len(jets))]

    def _labels(self, n: int) -> Tensor | None:
        return None if self.label is None else torch.full((n,), self.label, device=self.device)

    def _choose(self, logits: Tensor, uniform: Tensor, prefixes: Tensor) -> Tensor:
        """Return the tokens ``[jets]`` whose cumulative probabilities pass the random numbers ``[jets, depth]``."""
        token, margin = self._invert(logits, uniform)
        # The host waits here, because these jets are computed again in double precision, which is rare.
        near = (margin < NEAR_STEP).nonzero()[:, 0]
        if len(near):
            token[near] = self._invert(self._exact_logits(prefixes[near]), uniform[near])[0]
        return token

    def _invert(self, logits: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens, and their distances from a choice that rounding could change; overwrites the logits."""
        probabilities, margin = self._probabilities(logits)
        levels = [probabilities]
        while levels[-1].shape[1] > BRANCHES:
            levels.append(_sums(levels[-1]))
        jets = torch.arange(len(logits), device=logits.device)
        place = torch.zeros_like(jets)
        for number, level in enumerate(reversed(levels)):
            weights = level.unflatten(1, (-1, BRANCHES))[jets, place]
            branch, distance = _pick(weights, uniform[:, number])
            place = BRANCHES * place + branch
            margin = torch.minimum(margin, distance)
        return place, margin

    def _probabilities(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities after temperature, top-k and top-p, and the distance from another choice of tokens.

        The start token and branches beyond the vocabulary have probability zero. The logits are overwritten.
        """
        c, vocab_size = self.config, self.model.config.vocab_size
        margin = logits.new_full(logits.shape[:1], torch.inf, dtype=torch.float64)
        logits[:, START_TOKEN] = -torch.inf
        logits[:, vocab_size:] = -torch.inf
        if c.temperature != 1:
            logits /= c.temperature
        if 0 < c.top_k < vocab_size:
            likeliest = logits.topk(c.top_k + 1).values.double()
            margin = likeliest[:, -2] - likeliest[:, -1]
            logits = logits.masked_fill_(logits < likeliest[:, -2:-1].to(logits.dtype), -torch.inf)
        probabilities = torch.softmax(logits, -1, out=logits)
        if c.top_p < 1:
            ordered, order = probabilities.sort(descending=True)
            # A token is kept if the more probable ones do not reach top_p without it.
            before = ordered.double().cumsum(-1) - ordered
            margin = torch.minimum(margin, (before - c.top_p).abs().amin(-1))
            probabilities = probabilities.scatter(1, order, ordered * (before < c.top_p))
        return probabilities, margin

    def _exact_logits(self, prefixes: Tensor) -> Tensor:
        """Return the logits after sequences of equal length ``[jets, tokens]``, in double precision."""
        if self._exact is None:
            self._exact = copy.deepcopy(self.model).cpu().double()
        jets, tokens = prefixes.shape
        packing = Packing.build(np.full(jets, tokens))
        labels = None if self.label is None else torch.full((jets,), self.label)
        hidden = self._exact.hidden(prefixes.cpu().flatten(), packing, labels).view(jets, tokens, -1)[:, -1]
        logits = logits_buffer(jets, self._exact.config.vocab_size, hidden)
        self._exact.logits(hidden, out=logits[:, : self._exact.config.vocab_size])
        return logits.to(self.device)


def _sums(level: Tensor) -> Tensor:
    """Return sums ``[jets, nodes]`` over the branches ``[jets, n]`` of each node; both are padded to whole nodes."""
    sums = level.unflatten(1, (-1, BRANCHES)).sum(-1)
    return F.pad(sums, (0, -sums.shape[1] % BRANCHES))


def _pick(weights: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Invert the cumulative weights ``[jets, n]`` at the fractions ``uniform``, ``[jets]``, of their sum.

    The results, both ``[jets]``, are the indices and the distances from the nearest step, relative to the sum.
    """
    weights = weights.double()
    steps = weights.cumsum(-1)
    # Always below the sum, beyond which there may be branches of weight zero.
    wanted = torch.minimum(
        uniform[:, None] * steps[:, -1:], torch.nextafter(steps[:, -1:], steps.new_zeros(()))
    )
    place = torch.searchsorted(steps, wanted, right=True)
    upper = steps.gather(1, place)
    lower = upper - weights.gather(1, place)
    margin = torch.minimum(upper - wanted, wanted - lower) / steps[:, -1:]
    return place[:, 0], margin[:, 0]


def _close_gaps(
    slots: Tensor, cache: list[tuple[Tensor, Tensor]], ended: Tensor, filled: int
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Move the last rows that still grow to the rows of jets that have ended, which need no further computation.

    ``slots`` is the jet in each row of the cache, ``ended`` tells whose jets have ended, and ``filled`` is the number
    of positions of the cache that are in use.
    """
    left = len(slots) - int(ended.sum())
    gaps = ended[:left].nonzero()[:, 0]
    moved = left + (~ended[left:]).nonzero()[:, 0]
    slots[gaps] = slots[moved]
    for entries in (entries for pair in cache for entries in pair):
        entries[:filled, gaps] = entries[:filled, moved]
    return slots[:left], [(keys[:, :left], values[:, :left]) for keys, values in cache]


def _batch_jets(model: Generator) -> int:
    c = model.config
    bytes_per_jet = 2 * c.n_layers * c.max_tokens * c.d_model * model.embedding.weight.itemsize
    return min(MOST_JETS, max(1, CACHE_BYTES // max(1, bytes_per_jet)))  # a model without layers has no cache


def _stream(seed: int, jet: int, n: int) -> np.ndarray:
    """Return random numbers of one jet; a counter-based generator gives the stream of any jet without the others."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, jet, 0])).random(n)


def require_label(model: Generator, label: int | None) -> None:
    """Raise InputError if a class is given for an unconditional generator, or none for a conditional one."""
    conditional = model.class_embedding is not None
    require(conditional or label is None, "this generator is unconditional: it takes no class label")
    require(
        not conditional or label is not None,
        "this generator is class-conditional: give the class label to draw",
    )
