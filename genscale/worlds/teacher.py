"""A trained generator as a world: realistic vocabulary, lengths and classes, and an explicit likelihood.

In the manner of surrogate references such as SURF (arXiv:2511.15779). What the teacher learned is all there is: its
jets have the floors of its own distribution, not those of the jets that it was trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy.special import log_softmax

from genscale.data.schema import CLASSES
from genscale.errors import nearest, require
from genscale.worlds.world import MOST_CODES, Exact, Floats, Jets, World, log

if TYPE_CHECKING:
    from torch import Tensor

    from genscale.models.generator import Generator
    from tokenizer import Tokenizer

#: Bytes of the probabilities of all next tokens that are held at once.
TABLE_BYTES = 2**26


@dataclass(frozen=True)
class Teacher(World):
    """The jets of a class-conditional generator, all classes equally many.

    A jet that reaches the longest length stops there. The start token, which is never drawn, has no probability.

    Attributes
    ----------
    name : str
        Name of the world.
    about : str
        What it is, in one line.
    shown : str
        What a tagger is shown.
    floor_jets : int
        Jets that floors are averaged over by default.
    run : str
        Folder of a finished run of a class-conditional generator.
    classes : list of str
        Classes to draw, at least two; those that the teacher was trained on.
    """

    name: ClassVar[str] = "teacher"
    about: ClassVar[str] = (
        "a class-conditional generator of this project as the source: run=FOLDER, realistic jets"
    )
    shown: ClassVar[str] = (
        "all tokens with their positions; the pT of a particle gives its position, energy and angles are those that "
        "its token decodes to alone"
    )
    floor_jets: ClassVar[int] = 100_000

    run: str = ""
    classes: list[str] = field(default_factory=lambda: ["QCD", "Tbqq"])

    def __post_init__(self) -> None:
        require(bool(self.run), "run: missing; give the folder of a class-conditional generator, run=FOLDER")
        for name in self.classes:
            require(
                name in CLASSES,
                f"classes: {name!r} is not one of {', '.join(CLASSES)}{nearest(name, CLASSES)}",
            )
        require(
            len(set(self.classes)) == len(self.classes) >= 2,
            f"classes: {', '.join(self.classes) or 'none'}; give at least two different ones",
        )
        require(
            self.model.class_embedding is not None,
            f"run: {self.run} is an unconditional generator, which has no classes to tag; train the teacher with "
            "class_conditional=true",
        )

    @cached_property
    def model(self) -> Generator:
        """The generator, in evaluation mode."""
        from genscale.training.generator import load_generator

        return load_generator(Path(self.run))[0]

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the teacher, which is that of its students."""
        from genscale.training.generator import TOKENIZER_FOLDER
        from tokenizer import Tokenizer

        return Tokenizer.load(Path(self.run) / TOKENIZER_FOLDER)

    @property
    def n_codes(self) -> int:
        """Codes of the tokenizer."""
        return self.model.config.vocab_size - 2

    @property
    def max_codes(self) -> int:
        """Length of the longest jet that teacher and tokenizer allow."""
        return min(self.model.config.max_tokens - 1, self.tokenizer.max_constituents, MOST_CODES)

    @property
    def prior(self) -> Floats:
        """Equal probabilities."""
        return np.full(len(self.classes), 1 / len(self.classes))

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that are drawn."""
        return tuple(self.classes)

    def sample(self, n_jets: int, rng: np.random.Generator) -> Jets:
        """Draw labelled jets."""
        import awkward as ak

        from genscale.inference.sampling import SamplingConfig, sample

        labels = rng.integers(len(self.classes), size=n_jets)
        sequences: list[np.ndarray] = [np.empty(0, dtype=np.int64)] * n_jets
        for label, name in enumerate(self.classes):
            mine = np.flatnonzero(labels == label)
            config = SamplingConfig(seed=int(rng.integers(2**31)))
            drawn = sample(self.model, len(mine), config, label=CLASSES.index(name)).tokens
            stop = self.model.config.vocab_size - 1
            flat, ends = ak.to_numpy(ak.flatten(drawn)), np.cumsum(ak.to_numpy(ak.num(drawn)))
            for jet, tokens in zip(mine, np.split(flat, ends[:-1]), strict=False):
                codes = tokens[1:-1] if tokens[-1] == stop else tokens[1:]
                sequences[jet] = codes[: self.max_codes].astype(np.int64) - 1
        lengths = np.array([len(codes) for codes in sequences], dtype=np.int64)
        return Jets(np.concatenate(sequences) if n_jets else np.empty(0, dtype=np.int64), lengths, labels)

    def log_likelihood(self, jets: Jets) -> Floats:
        """Return ln p(x|y) of each jet for every class, shape (n_jets, n_classes)."""
        found = np.empty((len(jets), len(self.classes)))
        for places, targets, tables in self._tables(jets):
            chosen = np.take_along_axis(tables, targets[None, :, :, None], -1)[..., 0]
            found[places] = chosen.sum(-1, dtype=np.float64).T
        return found

    def predictive_entropies(self, jets: Jets) -> tuple[Floats, Floats] | None:
        """Entropies of the next token at each position; see `World.predictive_entropies`."""
        blind, given = np.zeros((2, len(jets), self.max_codes + 1))
        for places, targets, tables in self._tables(jets):
            n_tokens = targets.shape[1]
            chosen = np.take_along_axis(tables, targets[None, :, :, None], -1)[..., 0].astype(np.float64)
            before = np.zeros_like(chosen)  # ln p(prefix|y)
            before[..., 1:] = chosen.cumsum(-1)[..., :-1]
            weights = np.exp(log_softmax(before + log(self.prior)[:, None, None], axis=0))
            p = np.exp(tables)
            own = jets.labels[places], np.arange(len(places))
            given[places, :n_tokens] = _entropy(p[own], tables[own])
            mixed = (weights[..., None].astype(np.float32) * p).sum(0)
            with np.errstate(divide="ignore"):
                blind[places, :n_tokens] = _entropy(mixed, np.log(mixed))
        return blind, given

    def exact(self) -> Exact:
        """Nothing is known without sampling."""
        return Exact()

    def _tables(self, jets: Jets) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield jets of equal length: places, next tokens ``[n, t]``, ln p of every token ``[classes, n, t, V]``."""
        vocabulary = self.model.config.vocab_size
        starts = jets.starts
        for length in np.unique(jets.lengths):
            same = np.flatnonzero(jets.lengths == length)
            bytes_per_jet = 4 * len(self.classes) * (int(length) + 1) * vocabulary
            at_once = max(1, TABLE_BYTES // bytes_per_jet)
            for low in range(0, len(same), at_once):
                places = same[low : low + at_once]
                tokens = np.zeros((len(places), int(length) + 2), dtype=np.int64)
                tokens[:, 1:-1] = jets.codes[starts[places, None] + np.arange(length)] + 1
                tokens[:, -1] = vocabulary - 1
                yield places, tokens[:, 1:], self._log_probabilities(tokens[:, :-1])

    def _log_probabilities(self, inputs: np.ndarray) -> np.ndarray:
        """Return ln p of every next token, float32 ``[classes, n, t, V]``, after input tokens ``[n, t]``."""
        import torch

        from genscale.data.packing import Packing
        from genscale.inference.sampling import START_TOKEN

        n, t = inputs.shape
        packing = Packing.build(np.full(n, t))
        flat = torch.from_numpy(inputs.ravel())
        found: list[Tensor] = []
        with torch.inference_mode():
            for name in self.classes:
                labels = torch.full((n,), CLASSES.index(name))
                logits = self.model.logits(self.model.hidden(flat, packing, labels))
                logits[:, START_TOKEN] = -torch.inf  # the sampler never draws it
                found.append(torch.log_softmax(logits, -1).view(n, t, -1))
        tables = torch.stack(found).numpy()
        if t == self.max_codes + 1:  # the longest jet stops in any case
            tables[:, :, -1] = -np.inf
            tables[:, :, -1, -1] = 0.0
        return tables


def _entropy(p: np.ndarray, log_p: np.ndarray) -> Floats:
    """Entropy in nats over the last axis."""
    with np.errstate(invalid="ignore"):
        return -np.where(p > 0, p * log_p, 0.0).sum(-1, dtype=np.float64)
