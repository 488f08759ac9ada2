"""Training a generator on a token store."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from genscale.data.batching import Batch, TokenRows, held_out
from genscale.data.schema import CLASSES
from genscale.data.store import TokenStore, require_same_classes
from genscale.errors import InputError, nearest, require
from genscale.models.counting import count_parameters, generator_flops
from genscale.models.files import check_weights, load_network, save_network
from genscale.models.generator import Generator, GeneratorConfig
from genscale.models.ladder import generator_config, learning_rate
from genscale.training.task import Task, TrainingConfig, mean_loss, require_splits
from tokenizer import Tokenizer

#: Length to which older codes pad and over which they average the loss; it is used for one extra metric only.
PADDED_LENGTH = 128

#: Where a run keeps its copy of the tokenizer: a generator alone cannot make jets.
TOKENIZER_FOLDER = "tokenizer"


@dataclass(frozen=True)
class GeneratorRun:
    """One generator training.

    Attributes
    ----------
    tokens : str
        Token store of the training jets.
    validation : str
        Token store of the held-out jets, made by the same tokenizer.
    tokenizer : str
        Folder of this tokenizer; the run keeps a copy.
    size : str
        Rung of the ladder (``genscale ladder``), or ``omnijet``.
    class_conditional : bool
        Tell the model the jet's class.
    model : dict
        Changes to the rung's shape: keys of GeneratorConfig but those that follow from the tokenizer and
        ``class_conditional``, ``vocab_size`` and ``n_classes``.
    training : TrainingConfig
        A learning rate of 0, the default, becomes that of the size (`genscale.models.ladder.learning_rate`).
    """

    tokens: str = ""
    validation: str = ""
    tokenizer: str = ""
    size: str = "pico"
    class_conditional: bool = False
    model: dict[str, Any] = field(default_factory=dict)
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(learning_rate=0.0))

    def __post_init__(self) -> None:
        if self.training.learning_rate == 0:
            rate = learning_rate(self.size)
            object.__setattr__(self, "training", replace(self.training, learning_rate=rate))
        known = [f.name for f in fields(GeneratorConfig) if f.name not in ("vocab_size", "n_classes")]
        for key in self.model:
            require(key in known, f"unknown key model.{key}{nearest(key, known)} (known: {', '.join(known)})")

    def shape(self, vocab_size: int, max_constituents: int, n_classes: int = len(CLASSES)) -> GeneratorConfig:
        """Return the configuration of the network for a tokenizer's vocabulary and longest jet.

        Parameters
        ----------
        vocab_size : int
            Number of tokens, including start and stop tokens.
        max_constituents : int
            Largest number of codes of a jet.
        n_classes : int
            Classes of the jets, which a class-conditional generator distinguishes.

        Returns
        -------
        GeneratorConfig

        Raises
        ------
        InputError
            There is no such size, a value of ``model`` is impossible, or such jets are too long.
        """
        n_classes = n_classes if self.class_conditional else 0
        shape = generator_config(self.size, vocab_size, n_classes=n_classes, **self.model)
        longest = max_constituents + 1  # the start token
        require(
            longest <= shape.max_tokens,
            f"model.max_tokens: {shape.max_tokens} is too short for the tokenizer's jets of up to "
            f"{max_constituents} constituents; give model.max_tokens={longest}",
        )
        return shape


class GeneratorTask(Task):
    """A generator, its tokens and its likelihood, for `genscale.training.loop.train`."""

    name: Literal["generator"] = "generator"
    terms: Literal["tokens"] = "tokens"
    data_keys = ("tokens", "validation", "tokenizer")

    def __init__(self, run: GeneratorRun) -> None:
        self.config, self.size = run, run.size.lower()
        for key in self.data_keys:
            if not getattr(run, key):
                raise InputError(
                    f"{key}: missing; give its folder (genscale tokenizer fit and encode make them)"
                )
        train, validation = TokenStore.open(run.tokens), TokenStore.open(run.validation)
        self.tokenizer = Tokenizer.load(run.tokenizer)
        for path, store in ((run.tokens, train), (run.validation, validation)):
            if store.manifest.meta["tokenizer_fingerprint"] != self.tokenizer.fingerprint:
                raise InputError(f"{path}: was not made by the tokenizer {run.tokenizer}")
        require_splits(train, validation)
        self.data = {"train": train.fingerprint, "validation": validation.fingerprint}
        self.train_rows, self.validation_rows = TokenRows(train), TokenRows(validation)
        self.classes = train.class_names
        if run.class_conditional:
            require_same_classes(train, validation)
        vocab_size = int(train.manifest.meta["vocabulary_size"])
        shape = run.shape(vocab_size, self.tokenizer.max_constituents, len(self.classes))
        torch.manual_seed(run.training.seed)
        self.model: nn.Module = Generator(shape)
        self._count = count_parameters(self.model)

    def parameters(self) -> dict[str, int]:
        """Parameters by part, and their total."""
        return self._count.as_dict()

    def flops(self, jets: int, tokens: int) -> float:
        """Counted training FLOPs of seeing this many jets and target tokens."""
        return generator_flops(self.model.config, jets, tokens)  # type: ignore[arg-type]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Negative log-likelihood in nats, summed over the batch's real tokens."""
        return model(batch.inputs, batch.targets, batch.packing, self._labels(batch)).total

    def evaluate(
        self, model: nn.Module, accelerator: Accelerator, config: TrainingConfig
    ) -> dict[str, float]:
        """Return nats per real token with their error, per jet, and averaged over padding as in older codes."""

        def score(batch: Batch) -> tuple[Tensor, Tensor]:
            nats = model(batch.inputs, batch.targets, batch.packing, self._labels(batch)).per_token
            return per_jet(nats, batch), batch.packing.lengths

        batches = held_out(
            self.validation_rows, config.validation_jets, 4 * config.batch_jets,
            accelerator.process_index, accelerator.num_processes,
        )  # fmt: skip
        mean, error, jet = mean_loss(accelerator, batches, score)
        padded = f"loss_padded_{PADDED_LENGTH}"
        return {"loss": mean, "loss_error": error, "loss_per_jet": jet, padded: jet / PADDED_LENGTH}

    def save(self, model: nn.Module, run: Path) -> None:
        """Write weights and shape, and a copy of the tokenizer that they belong to."""
        self.tokenizer.save(run / TOKENIZER_FOLDER)
        provenance = {"tokenizer_fingerprint": self.tokenizer.fingerprint, "classes": list(self.classes)}
        save_network(run, self.name, model, provenance)

    def check_saved(self, run: Path) -> None:
        """Raise InputError unless weights and tokenizer are there and whole."""
        check_weights(run)
        Tokenizer.load(run / TOKENIZER_FOLDER)

    def _labels(self, batch: Batch) -> Tensor | None:
        return batch.labels if self.config.class_conditional else None


def per_jet(values: Tensor, batch: Batch) -> Tensor:
    """Sum values per token ``[n_tokens]`` over each jet, ``[jets]``."""
    # Without "unsafe" the lengths are checked, for which the host would have to wait for a GPU.
    return torch.segment_reduce(values, "sum", lengths=batch.packing.lengths, unsafe=True)


def load_generator(run: Path) -> tuple[Generator, dict[str, Any]]:
    """Read the generator of a finished run, and its description (see `load_network`)."""
    return load_network(run, "generator", Generator, GeneratorConfig)
