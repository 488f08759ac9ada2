"""Batches in a fixed order: which jets a training step sees depends on the seed and the step alone.

Not on the number of loader processes, not on where a run was interrupted, and not on how many processes
share the batch: each takes every n-th jet of it and reads only those.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from genscale.data.features import needed_columns, particle_features, require_columns
from genscale.data.order import HELD_OUT_SEED, JetOrder
from genscale.data.plan import BatchPlan, Phase
from genscale.data.store import JetStore, TokenStore
from genscale.errors import InputError
from genscale.models.packing import Packing


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
        moved = [t.to(device, non_blocking=True) for t in (self.inputs, self.targets, self.labels)]
        return Batch(moved[0], moved[1], moved[2], self.packing.to(device), self.n_jets, self.n_tokens)

    def pin_memory(self) -> Batch:
        """The same batch in memory from which a GPU copies without waiting; the data loader calls this."""
        pinned = [t.pin_memory() for t in (self.inputs, self.targets, self.labels)]
        return Batch(pinned[0], pinned[1], pinned[2], self.packing.pin_memory(), self.n_jets, self.n_tokens)


class Rows(Protocol):
    """Jets of a store, ready to be batched."""

    def __len__(self) -> int:
        """Jets in the store."""
        ...

    def load(self, rows: np.ndarray) -> Sequence[np.ndarray]:
        """Read jets: a flat array, the jets' lengths in it, and their labels."""
        ...

    def batch(self, values: np.ndarray, lengths: np.ndarray, labels: np.ndarray) -> Any:
        """Make a micro-batch of jets that are already sorted by falling length."""
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

    def batch(self, values: np.ndarray, lengths: np.ndarray, labels: np.ndarray) -> Batch:
        """Inputs and targets of the same length, one shorter than the sequences."""
        ends = np.cumsum(lengths)
        last = np.zeros(len(values), dtype=bool)
        last[ends - 1] = True
        first = np.zeros(len(values), dtype=bool)
        first[ends - lengths] = True
        tokens = values.astype(np.int64)
        return Batch(
            torch.from_numpy(tokens[~last]),
            torch.from_numpy(tokens[~first]),
            torch.from_numpy(labels),
            Packing.build(lengths - 1),
            len(lengths),
            len(values) - len(lengths),
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

    def batch(self, values: np.ndarray, lengths: np.ndarray, labels: np.ndarray) -> Batch:
        """One row more per jet than it has particles; targets are the labels."""
        n = len(lengths)
        rows = np.zeros((len(values) + n, values.shape[1]), dtype=np.float32)
        jet_of_particle = np.repeat(np.arange(n), lengths)
        rows[np.arange(len(values)) + jet_of_particle + 1] = values
        targets = torch.from_numpy(labels)
        return Batch(torch.from_numpy(rows), targets, targets, Packing.build(lengths + 1), n, len(values))


class BatchStream(Dataset[list[Any]]):
    """The batches of a run by step: item i has the micro-batches of step i of this process.

    Parameters
    ----------
    rows : Rows
        The store of the training jets.
    order : JetOrder
        Order in which its jets are seen.
    plan : BatchPlan
        Jets in each batch, over all processes and micro-batches.
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
        self._chunk: tuple[int, tuple[np.ndarray, np.ndarray, np.ndarray]] | None = None

    def __getitem__(self, step: int) -> list[Any]:
        phase = self.plan.phase(step)
        place = (step - phase.step) % max(1, self.CHUNK_JETS // phase.batch)
        flat, offsets, labels = self._load(phase, step - place)
        mine = len(range(self.rank, phase.batch, self.world))
        jets = np.arange(place * mine, (place + 1) * mine)
        return [
            pack_sorted(self.rows, flat, offsets, labels, part)
            for part in np.array_split(jets, self.accumulate)
        ]

    def _load(self, phase: Phase, first: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read the batches of a chunk of steps, which begins with this one and ends with the phase at the latest."""
        if self._chunk is None or self._chunk[0] != first:
            last = min(first + max(1, self.CHUNK_JETS // phase.batch), phase.end)
            places = self.order[self.plan.jets(first) : self.plan.jets(last)].reshape(-1, phase.batch)
            flat, lengths, labels = self.rows.load(places[:, self.rank :: self.world].ravel())
            self._chunk = first, (flat, np.concatenate([[0], np.cumsum(lengths)]), labels)
        return self._chunk[1]

    def loader(self, first: int, n_steps: int, *, workers: int = 0) -> Iterator[list[Any]]:
        """Iterate over the batches of steps ``first .. n_steps - 1``, read ahead by ``workers`` processes."""
        return iter(
            DataLoader(
                self,
                batch_size=None,
                sampler=range(first, n_steps),
                num_workers=workers,
                pin_memory=workers > 0 and torch.cuda.is_available(),
                # A loader draws a seed for its workers: not from the stream that dropout draws from, or a
                # resumed run would differ from one never interrupted.
                generator=torch.Generator(),
            )
        )


def pack_sorted(
    rows: Rows, flat: np.ndarray, offsets: np.ndarray, labels: np.ndarray, jets: np.ndarray
) -> Any:
    """Pack some jets of a flat array, ordered by falling length so that attention groups waste little."""
    lengths = (offsets[jets + 1] - offsets[jets]).astype(np.int64)
    order = np.argsort(-lengths, kind="stable")
    jets, lengths = jets[order], lengths[order]
    starts = np.repeat(offsets[jets] - (np.cumsum(lengths) - lengths), lengths)
    return rows.batch(flat[starts + np.arange(lengths.sum())], lengths, labels[jets].astype(np.int64))


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
        flat, lengths, labels = rows.load(mine[low : low + BatchStream.CHUNK_JETS])
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        # Losses do not depend on which jets share a batch: sorted by length, they pack with least waste.
        by_length = np.argsort(-lengths, kind="stable")
        for start in range(0, len(by_length), batch_jets):
            yield pack_sorted(rows, flat, offsets, labels, by_length[start : start + batch_jets])
