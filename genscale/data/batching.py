"""Batches in a fixed order: which jets a training step sees depends on the seed and the step alone.

Not on the number of loader processes, not on where a run was interrupted, and not on how many processes
share the batch: each takes every n-th jet of it and reads only those.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from genscale.data.features import needed_columns, particle_features, require_columns
from genscale.data.order import HELD_OUT_SEED, JetOrder
from genscale.data.packing import Packing
from genscale.data.plan import BatchPlan, Phase
from genscale.data.store import JetStore, TokenStore
from genscale.errors import InputError


@dataclass(frozen=True)
class Batch:
    """One packed micro-batch.

    Attributes
    ----------
    inputs : Tensor
        Token ids, shape (n_tokens,), or particle features, shape (n_tokens, n_features), of the jets one after
        another, in order of decreasing length.
    targets : Tensor
        Next tokens, shape (n_tokens,), or classes of the jets, shape (n_jets,).
    labels : Tensor, shape (n_jets,)
        Class index of each jet.
    packing : Packing
        Layout of the jets.
    n_jets : int
        Number of jets.
    n_tokens : int
        Number of target tokens; of particles for a tagger.
    """

    inputs: Tensor
    targets: Tensor
    labels: Tensor
    packing: Packing
    n_jets: int
    n_tokens: int

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        if self.inputs.device == device:
            return self
        moved = [t.to(device, non_blocking=True) for t in (self.inputs, self.targets, self.labels)]
        return Batch(moved[0], moved[1], moved[2], self.packing.to(device), self.n_jets, self.n_tokens)

    def pin_memory(self) -> Batch:
        """The same batch in memory from which a GPU copies without waiting; the data loader calls this."""
        pinned = [t.pin_memory() for t in (self.inputs, self.targets, self.labels)]
        return Batch(pinned[0], pinned[1], pinned[2], self.packing.pin_memory(), self.n_jets, self.n_tokens)


@dataclass(frozen=True)
class PackedJets:
    """Many jets that are packed once, of which batches are slices.

    Attributes
    ----------
    inputs : Tensor
        Inputs of all jets, as in `Batch`.
    targets : Tensor
        Targets of all jets, as in `Batch`.
    labels : Tensor, shape (n_jets,)
        Class index of each jet.
    lengths : array of int, shape (n_jets,)
        Number of rows of each jet.
    tokens : array of int, shape (n_jets,)
        Number of target tokens of each jet; of particles for a tagger.
    """

    inputs: Tensor
    targets: Tensor
    labels: Tensor
    lengths: np.ndarray
    tokens: np.ndarray

    def __getitem__(self, jets: slice) -> Batch:
        """The batch of these jets."""
        bounds, lengths = self._bounds, self._lengths[jets]
        rows = slice(bounds[jets.start], bounds[jets.stop])
        return Batch(
            self.inputs[rows],
            self.targets[rows if len(self.targets) == len(self.inputs) else jets],
            self.labels[jets],
            Packing.of(lengths, self._starts[jets] - bounds[jets.start]),
            jets.stop - jets.start,
            int(self.tokens[jets].sum()),
        )

    @cached_property
    def _bounds(self) -> list[int]:
        return [0, *np.cumsum(self.lengths).tolist()]

    @cached_property
    def _lengths(self) -> Tensor:
        return torch.from_numpy(self.lengths)

    @cached_property
    def _starts(self) -> Tensor:
        return torch.tensor(self._bounds[:-1])


class Rows(Protocol):
    """Jets of a store, ready to be batched."""

    def __len__(self) -> int:
        """Jets in the store."""
        ...

    def load(self, rows: np.ndarray) -> Sequence[np.ndarray]:
        """Read jets: a flat array, the jets' lengths in it, and their labels."""
        ...

    def pack(self, values: np.ndarray, lengths: np.ndarray, labels: np.ndarray, order: np.ndarray) -> Any:
        """Pack jets that were read in another order; slices of the result, given as ``[first:end]``, are batches."""
        ...


class TokenRows:
    """Token sequences for the generator: inputs are all tokens but the last, targets all but the first."""

    def __init__(self, store: TokenStore) -> None:
        self.store = store
        store.labels(slice(0))  # a store without labels is refused now, not at the first step

    def __len__(self) -> int:
        return len(self.store)

    def load(self, rows: np.ndarray) -> Sequence[np.ndarray]:
        """Read sequences, flat, with their lengths and labels."""
        tokens = self.store.read(rows, columns=["tokens"])["tokens"].layout
        offsets = tokens.offsets.data
        return tokens.content.data[offsets[0] : offsets[-1]], np.diff(offsets), self.store.labels(rows)

    def pack(
        self, values: np.ndarray, lengths: np.ndarray, labels: np.ndarray, order: np.ndarray
    ) -> PackedJets:
        """Inputs and targets of the same length, one shorter than the sequences."""
        starts, lengths = _starts(lengths)[order], lengths[order].astype(np.int64) - 1
        if lengths.size and lengths.min() < 1:
            raise ValueError("a sequence of fewer than two tokens: it has nothing to predict")
        inputs = ranges(starts, lengths)
        tokens = values.astype(np.int64)
        return PackedJets(
            torch.from_numpy(tokens[inputs]),
            torch.from_numpy(tokens[inputs + 1]),
            torch.from_numpy(labels[order].astype(np.int64)),
            lengths,
            lengths,
        )


class FeatureRows:
    """Particle features for the tagger, with a placeholder row for the class token before each jet."""

    def __init__(self, store: JetStore, features: Sequence[str], max_particles: int) -> None:
        self.store, self.features, self.max_particles = store, tuple(features), max_particles
        store.labels(slice(0))  # a store without labels is refused now, not at the first step
        require_columns(self.features, store.columns, str(store.path))

    def __len__(self) -> int:
        return len(self.store)

    def load(self, rows: np.ndarray) -> Sequence[np.ndarray]:
        """Read and compute features, flat, with the particles of each jet and its label."""
        jets = self.store.read(rows, columns=needed_columns(self.features))
        values, counts = particle_features(jets, self.features, max_particles=self.max_particles)
        return values, counts, self.store.labels(rows)

    def pack(
        self, values: np.ndarray, lengths: np.ndarray, labels: np.ndarray, order: np.ndarray
    ) -> PackedJets:
        """One row more per jet than it has particles; targets are the labels."""
        starts, lengths = _starts(lengths)[order], lengths[order].astype(np.int64)
        rows = np.zeros((int(lengths.sum()) + len(order), values.shape[1]), dtype=np.float32)
        particles = np.ones(len(rows), dtype=bool)
        particles[_starts(lengths + 1)] = False
        rows[particles] = values[ranges(starts, lengths)]
        targets = torch.from_numpy(labels[order].astype(np.int64))
        return PackedJets(torch.from_numpy(rows), targets, targets, lengths + 1, lengths)


class BatchStream(Dataset[list[Any]]):
    """The batches of a run by step: item i has the micro-batches of step i of this process.

    Parameters
    ----------
    rows : Rows
        The store of the training jets.
    order : JetOrder
        Order in which its jets are seen.
    plan : BatchPlan
        Number of jets in each batch, over all processes and micro-batches.
    rank : int
        Number of this process, which takes jets rank, rank + world, ... of each batch.
    world : int
        Number of processes.
    accumulate : int
        Micro-batches per batch.

    Raises
    ------
    InputError
        A batch has fewer jets than there are micro-batches.

    Attributes
    ----------
    CHUNK_JETS : int
        Number of jets that are read at a time.
    """

    #: Jets are read this many at a time: one gather for several batches costs little more than for one.
    CHUNK_JETS = 8192

    def __init__(
        self, rows: Rows, order: JetOrder, plan: BatchPlan, rank: int = 0, world: int = 1, accumulate: int = 1
    ) -> None:
        least = plan.phase(0).batch
        if least < world * accumulate:
            begin = " at the start of the ramp" if plan.ramp_jets else ""
            raise InputError(
                f"batch_jets: {least} jets{begin} cannot be shared by {world} processes x {accumulate} micro-batches"
            )
        self.rows, self.order, self.plan = rows, order, plan
        self.rank, self.world, self.accumulate = rank, world, accumulate
        self._chunk: tuple[int, Any] | None = None

    def __getitem__(self, step: int) -> list[Any]:
        phase = self.plan.phase(step)
        place = (step - phase.step) % self._steps_of_chunk(phase)
        jets, bounds = self._load(phase, step - place), self._bounds(phase)
        first = place * bounds[-1]
        return [jets[first + low : first + high] for low, high in pairwise(bounds)]

    def _steps_of_chunk(self, phase: Phase) -> int:
        return max(1, self.CHUNK_JETS // phase.batch)

    def _bounds(self, phase: Phase) -> list[int]:
        """Bounds of this process's micro-batches within its jets of a step."""
        mine = len(range(self.rank, phase.batch, self.world))
        return np.linspace(0, mine, self.accumulate + 1).astype(int).tolist()

    def _load(self, phase: Phase, first: int) -> Any:
        """Pack the jets of a chunk of steps, which begins with this one and ends with the phase at the latest."""
        if self._chunk is None or self._chunk[0] != first:
            last, bounds = min(first + self._steps_of_chunk(phase), phase.end), self._bounds(phase)
            places = self.order[self.plan.jets(first) : self.plan.jets(last)].reshape(-1, phase.batch)
            flat, lengths, labels = self.rows.load(places[:, self.rank :: self.world].ravel())
            ends = np.add.outer(np.arange(len(places)) * bounds[-1], bounds[1:]).ravel()
            batch = np.searchsorted(ends, np.arange(len(lengths)), side="right")
            self._chunk = first, self.rows.pack(flat, lengths, labels, np.lexsort((-lengths, batch)))
        return self._chunk[1]

    def loader(self, first: int, n_steps: int, *, workers: int = 0) -> Iterator[list[Any]]:
        """Iterate over the batches of steps ``first .. n_steps - 1``, read ahead by ``workers`` processes."""
        if not workers:  # a loader would cost as much as making a small batch
            return (self[step] for step in range(first, n_steps))
        return iter(
            DataLoader(
                self,
                batch_size=None,
                sampler=range(first, n_steps),
                num_workers=workers,
                pin_memory=torch.cuda.is_available(),
                # A loader draws a seed for its workers: not from the stream that dropout draws from, or a
                # resumed run would differ from one never interrupted.
                generator=torch.Generator(),
            )
        )


def held_out(rows: Rows, n_jets: int, batch_jets: int, rank: int = 0, world: int = 1) -> Iterator[Any]:
    """Iterate once over a fixed choice of held-out jets, or the part of it that belongs to this process.

    Parameters
    ----------
    rows : Rows
        The held-out store.
    n_jets : int
        Number of jets; 0, or more than there are, means all. A smaller choice is contained in every larger one.
    batch_jets : int
        Jets in a batch.
    rank : int
        Number of this process.
    world : int
        Number of processes.

    Yields
    ------
    Batch
    """
    n_jets = min(n_jets, len(rows)) if n_jets else len(rows)
    mine = JetOrder(len(rows), n_jets, HELD_OUT_SEED)[0:n_jets][rank::world]
    for low in range(0, len(mine), BatchStream.CHUNK_JETS):
        yield from (
            batch for batch, _ in by_length(rows, mine[low : low + BatchStream.CHUNK_JETS], batch_jets)
        )


def by_length(rows: Rows, jets: np.ndarray, batch_jets: int) -> Iterator[tuple[Any, np.ndarray]]:
    """Iterate over batches of jets of similar length, so that they pack with least waste, and their places in ``jets``.

    For what does not depend on which jets share a batch, such as losses.
    """
    flat, lengths, labels = rows.load(jets)
    order = np.argsort(-lengths, kind="stable")
    packed = rows.pack(flat, lengths, labels, order)
    for low in range(0, len(order), batch_jets):
        high = min(low + batch_jets, len(order))
        yield packed[low:high], order[low:high]


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """start, start + 1, ... of every range, one after another."""
    return np.repeat(starts - _starts(lengths), lengths) + np.arange(lengths.sum())


def _starts(lengths: np.ndarray) -> np.ndarray:
    return np.cumsum(lengths, dtype=np.int64) - lengths
