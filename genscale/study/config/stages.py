"""What a study does beside its grids: tokenizer, samples, codebooks, repeated data, other inputs, controls, fits."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Final

from genscale.errors import require
from genscale.study.config.grids import default_of, require_distinct
from genscale.training.tagger import TaggerRun
from genscale.training.task import TrainingConfig
from genscale.training.tokenizer import TokenizerRun
from tokenizer import VQVAEConfig

#: Ratio of the jets seen at consecutive held-out losses of a run on repeated data.
EVALUATION_RATIO: Final = 1.15

#: Passes of the repetition control over its jets. Up to four are worth about as much as fresh data in language models
#: (Muennighoff et al., arXiv:2305.16264).
CONTROL_EPOCHS: Final = 4


@dataclass(frozen=True)
class TokenizerStage:
    """The tokenizer that all generators of the study share.

    Attributes
    ----------
    folder : str
        Folder of an existing tokenizer; if empty, one is trained.
    tokens : str
        Folder with its token stores ``train`` and ``validation``; if empty, the study's jets are encoded.
    model : VQVAEConfig
        Configuration of the tokenizer.
    training : TrainingConfig
        Options of its training.
    """

    folder: str = ""
    tokens: str = ""
    model: VQVAEConfig = field(default_factory=default_of(TokenizerRun, "model"))
    training: TrainingConfig = field(default_factory=default_of(TokenizerRun, "training"))

    def __post_init__(self) -> None:
        require(
            bool(self.folder) or not self.tokens,
            "tokenizer.tokens: needs tokenizer.folder, which made the tokens",
        )


@dataclass(frozen=True)
class SamplesStage:
    """Jets that are drawn from every generator and scored against at most as many reference jets.

    Attributes
    ----------
    jets : int
        Jets of every sample.
    at : list of int
        Numbers of jets seen during the training after which generators are sampled as well, which gives the distances
        laws in D.
    temperature : float
        Temperature of the sampling.
    seed : int
        Every sample has its own random numbers, which follow from this seed and the name of the sample.
    """

    jets: int = 5_000
    at: list[int] = field(default_factory=list)
    temperature: float = 1.0
    seed: int = 1

    def __post_init__(self) -> None:
        require(self.jets >= 1, f"samples.jets: {self.jets} is not at least 1")
        require(not self.at or min(self.at) >= 1, f"samples.at: {self.at} are not numbers of jets")
        require_distinct("samples.at", self.at)
        require(
            0 < self.temperature < math.inf,
            f"samples.temperature: {self.temperature} is not positive and finite",
        )
        require(self.seed >= 0, f"samples.seed: {self.seed} is negative")


@dataclass(frozen=True)
class CodebooksStage:
    """Dependence of the learnable window on the codebook: the study's tokenizer with fewer codes, a generator on each.

    Attributes
    ----------
    merged : list of int
        Numbers of codes to which the vectors of the codebook are merged; if empty, this is not measured. Only studies
        with generators measure it.
    size : str
        Rung of the ladder that is trained on the tokens of each codebook, including the unchanged one.
    training : TrainingConfig
        Options of these trainings. Only as many jets as they see are encoded.
    """

    merged: list[int] = field(default_factory=list)
    size: str = "nano"
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(jets=20_000, batch_jets=8, learning_rate=0.0, average=0.1)
    )

    def __post_init__(self) -> None:
        require_distinct("codebooks.merged", self.merged)


@dataclass(frozen=True)
class RepetitionStage:
    """Models trained on the same jets until their held-out loss rises: sizes and widths x unique jets x seeds.

    This gives the second law of data: the loss that U unique jets allow when they are repeated and training stops
    early. Inputs, dropout, changes to the shape and the learning rates of single sizes are those of the generator and
    tagger stages.

    Attributes
    ----------
    widths : list of int
        Widths of taggers; if empty, no tagger repeats data.
    sizes : list of str
        Sizes of generators; if empty, no generator repeats data.
    jets : list of int
        Numbers of unique jets, each a column of the phase diagram.
    seeds : list of int
        Seeds of the trainings, which choose the unique jets, too.
    epochs : int
        Largest number of passes over the unique jets.
    training : TrainingConfig
        ``jets`` is the largest number that any run may see; a run ends when its ``patience`` is over. Held-out losses
        are measured from the end of the first epoch on, each after 15 % more jets than the one before. ``jets_unique``,
        ``evaluations``, ``first_evaluation_jets`` and ``seed`` are replaced.
    """

    widths: list[int] = field(default_factory=list)
    sizes: list[str] = field(default_factory=list)
    jets: list[int] = field(default_factory=lambda: [1000, 2000, 4000, 8000, 16000])
    seeds: list[int] = field(default_factory=lambda: [1])
    epochs: int = 100
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(
            jets=10_000_000, batch_jets=128, learning_rate=0.0, patience=0.5
        )
    )

    def __post_init__(self) -> None:
        require_distinct("repetition.sizes", self.sizes)
        for key in ("widths", "jets", "seeds"):
            require_distinct(f"repetition.{key}", getattr(self, key))
        require(
            bool(self.jets and self.seeds) or not (self.widths or self.sizes),
            "repetition.jets and repetition.seeds: each needs one or more values",
        )
        require(self.epochs >= 1, f"repetition.epochs: {self.epochs} is not at least 1")
        require(
            self.training.patience > 0,
            "repetition.training.patience: 0 would never end a run; with 0.5 a run continues until it has seen half as "
            "many jets again as at its lowest held-out loss",
        )
        for jets in self.jets:
            require(
                jets >= self.training.batch_jets,
                f"repetition.jets: {jets} is less than one batch of {self.training.batch_jets}",
            )

    def training_on(self, jets: int, seed: int) -> TrainingConfig:
        """Training on this many unique jets."""
        most = max(jets, min(self.training.jets, jets * self.epochs))
        return replace(
            self.training,
            seed=seed,
            jets_unique=jets,
            jets=most,
            first_evaluation_jets=jets,
            evaluations=2 + math.floor(math.log(most / jets) / math.log(EVALUATION_RATIO)),
        )


@dataclass(frozen=True)
class Inputs:
    """The inputs of a tagger.

    Attributes
    ----------
    features : str
        Name of a set of particle features (docs/data.md).
    max_particles : int
        Number of leading particles by pT.
    """

    features: str = TaggerRun.features
    max_particles: int = TaggerRun.max_particles


@dataclass(frozen=True)
class InputsStage:
    """The repetition stage's column of one width again, with other inputs.

    Attributes
    ----------
    width : int
        One of the widths of the repetition stage, whose own runs have the inputs of the tagger stage; 0: inputs are
        not compared.
    others : dict of Inputs
        Other inputs by name.
    """

    width: int = 0
    others: dict[str, Inputs] = field(default_factory=dict)


@dataclass(frozen=True)
class ControlStage:
    """Tests of what limits the losses of a grid: the data, or the training.

    Attributes
    ----------
    repetition : bool
        Train one size of each grid on a quarter of its jets, seen four times, with the steps and the recipe of the
        grid's own run. If the losses are equal, that of the grid is limited by training and not by data.
    size : str
        Size of that generator; by default the one in the middle of the grid.
    width : int
        Width of that tagger; by default the one in the middle of the grid.
    recipe : bool or list of str
        Train the corners of each grid with half and twice the batch, and with half and twice the learning rate. The
        corners are the smallest and the largest size (true), or the sizes of this list (``small``, ``d32``), each at
        the least and the most of its jets that are fitted.
    """

    repetition: bool = True
    size: str = ""
    width: int = 0
    recipe: Any = False

    def __post_init__(self) -> None:
        listed = isinstance(self.recipe, list) and all(isinstance(name, str) for name in self.recipe)
        require(
            listed or isinstance(self.recipe, bool),
            f"control.recipe: {self.recipe} is neither true nor false nor a list of sizes such as [pico, d32]",
        )
        if listed:
            require_distinct("control.recipe", self.recipe)

    def corners(self, sizes: list[str]) -> list[str]:
        """Return those of a grid's sizes at which other recipes are tried."""
        if isinstance(self.recipe, list):
            return [name for name in sizes if name in self.recipe]
        return list(dict.fromkeys((sizes[0], sizes[-1]))) if self.recipe else []


@dataclass(frozen=True)
class FitStage:
    """Options of the fits of scaling laws.

    Attributes
    ----------
    bootstrap : int
        Number of resamples behind every interval.
    min_jets : int
        Points with fewer jets seen are not fitted. They must not lie within five warm-ups, nor within ``min_steps``, of
        any grid of the study; 0, the default, becomes the smallest number that this allows.
    min_steps : int
        The first optimizer steps belong to the start of training and not to a scaling law, however many jets they see.
    seed : int
        Seed of the resampling.
    """

    bootstrap: int = 200
    min_jets: int = 0
    min_steps: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("bootstrap", 2), ("min_jets", 0), ("min_steps", 0), ("seed", 0)):
            require(
                getattr(self, name) >= least, f"fit.{name}: {getattr(self, name)} is not at least {least}"
            )
