"""Training a tokenizer on a jet store, or placing the bins of one without a network."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from torch import Tensor, nn

from genscale.data.batching import held_out, ranges
from genscale.data.constituents import COLUMNS, constituents
from genscale.data.order import JetOrder
from genscale.data.store import JetStore
from genscale.errors import InputError, require
from genscale.files import write_json
from genscale.training.task import Task, TrainingConfig, refuse_test_split, require_splits
from tokenizer import BinningConfig, Tokenizer, VQVAEConfig
from tokenizer.binning import Binning

#: File with the cost of making a tokenizer, beside it.
COST_FILE: Final = "cost.json"


@dataclass(frozen=True)
class TokenizerRun:
    """One tokenizer training.

    Attributes
    ----------
    jets : str
        Jet store of the training jets; classes are mixed as in the store.
    validation : str
        Jet store of the held-out jets.
    model : VQVAEConfig
        Configuration of the tokenizer.
    training : TrainingConfig
        Options of the training.
    """

    jets: str = ""
    validation: str = ""
    model: VQVAEConfig = field(default_factory=VQVAEConfig)
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(jets=100_000, batch_jets=128, evaluations=6)
    )

    def __post_init__(self) -> None:
        require(
            self.training.learning_rate > 0,
            "training.learning_rate: a tokenizer has no rule for it; give a rate",
        )
        # A codebook moves with its codes' particles, not by gradients: averaged weights would not fit it.
        require(self.training.average == 0, "training.average: tokenizers are not averaged; set it to 0")
        # It moves with every micro-batch, too, while the gradients wait for the last.
        require(
            self.training.accumulate == 1,
            f"training.accumulate: {self.training.accumulate}; a tokenizer's batch is not split; set it to 1",
        )


@dataclass(frozen=True)
class PaddedBatch:
    """Features ``[jets, longest, 3]`` and the mask of real particles ``[jets, longest]``."""

    features: Tensor
    mask: Tensor
    n_jets: int
    n_tokens: int

    def to(self, device: torch.device) -> PaddedBatch:
        """The same batch on a device."""
        features, mask = self.features.to(device), self.mask.to(device)
        return PaddedBatch(features, mask, self.n_jets, self.n_tokens)


class ConstituentRows:
    """Particles of a jet store as the tokenizer's features."""

    def __init__(self, store: JetStore, tokenizer: Tokenizer) -> None:
        self.store, self.preprocessing = store, tokenizer.preprocessing

    def __len__(self) -> int:
        return len(self.store)

    def load(self, rows: np.ndarray) -> Sequence[np.ndarray]:
        """Read and transform particles, flat, with the jets' lengths (labels are not needed: zeros)."""
        jets = constituents(self.store.read(rows, columns=COLUMNS))
        features, lengths = self.preprocessing.features(jets)
        return features, lengths, np.zeros(len(lengths), dtype=np.int64)

    def pack(
        self, values: np.ndarray, lengths: np.ndarray, labels: np.ndarray, order: np.ndarray
    ) -> PaddedJets:
        """The jets in this order."""
        starts = np.cumsum(lengths) - lengths
        lengths = lengths[order]
        return PaddedJets(values[ranges(starts[order], lengths)], lengths)


@dataclass(frozen=True)
class PaddedJets:
    """Features of many jets ``[n_particles, 3]``, one after another; batches are slices of it."""

    features: np.ndarray
    lengths: np.ndarray

    def __getitem__(self, jets: slice) -> PaddedBatch:
        """These jets, padded to the longest of them; the network computes on real particles only."""
        lengths = self.lengths[jets]
        mask = np.arange(lengths.max(initial=1))[None, :] < lengths[:, None]
        features = np.zeros((*mask.shape, self.features.shape[1]), dtype=np.float32)
        features[mask] = self.features[self._bounds[jets.start] : self._bounds[jets.stop]]
        return PaddedBatch(
            torch.from_numpy(features), torch.from_numpy(mask), len(lengths), int(lengths.sum())
        )

    @cached_property
    def _bounds(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(self.lengths)])


class TokenizerTask(Task):
    """A VQ-VAE and its loss, for `genscale.training.loop.train`."""

    name: Literal["tokenizer"] = "tokenizer"
    terms: Literal["tokens"] = "tokens"
    data_keys = ("jets", "validation")

    def __init__(self, run: TokenizerRun) -> None:
        self.config, self.size = run, f"K{run.model.codebook_size}"
        for key in self.data_keys:
            if not getattr(run, key):
                raise InputError(f"{key}: missing; give a jet store (genscale simulate or convert makes one)")
        train, validation = JetStore.open(run.jets), JetStore.open(run.validation)
        require_splits(train, validation)
        self.data = {"train": train.fingerprint, "validation": validation.fingerprint}
        # Processes that are to share a codebook must know of each other when it is made.
        PartialState(cpu=not torch.cuda.is_available())
        self.tokenizer = Tokenizer.create(run.model, seed=run.training.seed)
        self.model: nn.Module = self.tokenizer.model
        self.train_rows = ConstituentRows(train, self.tokenizer)
        self.validation_rows = ConstituentRows(validation, self.tokenizer)

    def parameters(self) -> dict[str, int]:
        """Parameters by part, and their total; the codebook counts as embedding."""
        total = sum(p.numel() for p in self.model.parameters())
        codebook = sum(
            b.numel() for name, b in self.model.named_buffers() if name.endswith("_codebook.embed")
        )
        return {"embedding": codebook, "blocks": total, "head": 0, "total": total + codebook}

    def flops(self, jets: int, tokens: int) -> float:
        """6 N per particle: nothing here is fitted to this number."""
        return 6.0 * self.parameters()["blocks"] * tokens

    def loss(self, model: nn.Module, batch: PaddedBatch) -> Tensor:
        """Reconstruction and commitment, summed over the batch's particles."""
        return model(batch.features, batch.mask)["loss"] * batch.n_tokens

    def evaluate(
        self, model: nn.Module, accelerator: Accelerator, config: TrainingConfig
    ) -> dict[str, float]:
        """Held-out loss and its parts, mean over particles."""
        sums: dict[str, Tensor] = {}
        n = 0
        for batch in held_out(self.validation_rows, config.validation_jets, config.batch_jets):
            if not batch.n_tokens:  # jets are sorted by length, so those without particles may be left over
                continue
            for name, value in model(*_tensors(batch, accelerator)).items():
                if name != "n_particles":
                    sums[name] = value.double() * batch.n_tokens + sums.get(name, 0.0)
            n += batch.n_tokens
        return {name: float(value) / n for name, value in sums.items()}

    def save(self, model: nn.Module, run: Path) -> None:
        """Write the tokenizer into the run's folder, as ``Tokenizer.load`` reads it."""
        self.tokenizer.save(run)

    def check_saved(self, run: Path) -> None:
        """Raise InputError unless the tokenizer is there and whole."""
        Tokenizer.load(run)


def _tensors(batch: PaddedBatch, accelerator: Accelerator) -> tuple[Tensor, Tensor]:
    moved = batch.to(accelerator.device)
    return moved.features, moved.mask


def fit_binning(config: BinningConfig, jets: Path, out: Path, *, n_jets: int = 0, seed: int = 1) -> Tokenizer:
    """Place bins on jets of a store and write the tokenizer; an existing one is checked and kept.

    Parameters
    ----------
    config : BinningConfig
        The bins.
    jets : Path
        Jet store.
    out : Path
        Folder of the tokenizer.
    n_jets : int
        Number of jets on which the bins are placed, chosen by ``seed``; 0 means all.
    seed : int
        Seed of this choice.

    Returns
    -------
    Tokenizer

    Raises
    ------
    InputError
        The folder holds something else, or the bins cannot be placed on these jets.
    """
    if (out / "tokenizer.json").exists():
        found = Tokenizer.load(out)
        if found.config != config:
            raise InputError(f"{out}: holds a tokenizer of another configuration; choose another folder")
        return found
    store = JetStore.open(jets)
    refuse_test_split(store)
    wanted = min(n_jets or len(store), len(store))
    start = time.process_time()
    rows = np.sort(JetOrder(len(store), wanted, seed)[0:wanted])
    model = Binning(config)
    model.fit(config.preprocessing.features(constituents(store.read(rows, columns=COLUMNS)))[0])
    write_json(out / COST_FILE, {"jets_seen": wanted, "cpu_seconds": time.process_time() - start})
    tokenizer = Tokenizer(model)
    tokenizer.save(out)
    return tokenizer
