"""What a study is: one YAML file from jets to report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from genscale.config import require
from genscale.data.schema import CLASSES
from genscale.data.simulation.processes import find_processes
from genscale.study.variations import Variations
from genscale.training.task import TrainingConfig
from tokenizer import VQVAEConfig


@dataclass(frozen=True)
class JetsConfig:
    """Origin of the jets.

    Attributes
    ----------
    stores : str
        Folder with jet stores ``train``, ``validation`` and ``test`` (``genscale convert`` makes them from JetClass
        files). If empty, jets are simulated.
    classes : list of str
        Classes to simulate.
    train : int
        Number of training jets to simulate.
    validation : int
        Number of validation jets to simulate.
    test : int
        Number of test jets to simulate.
    mpi : bool
        Simulate multiparton interactions: more realistic, and seven times slower.
    seed : int
        Seed of the training jets; validation and test jets use the next two.
    """

    stores: str = ""
    classes: list[str] = field(default_factory=lambda: list(CLASSES))
    train: int = 60_000
    validation: int = 6_000
    test: int = 6_000
    mpi: bool = True
    seed: int = 1

    def __post_init__(self) -> None:
        find_processes(self.classes)
        least = 0 if self.stores else len(self.classes)
        for name in ("train", "validation", "test"):
            jets = getattr(self, name)
            require(jets >= least, f"jets.{name}: {jets} is less than one jet of each class")
        require(self.seed >= 0, f"jets.seed: {self.seed} is negative")


@dataclass(frozen=True)
class TokenizerStage:
    """The tokenizer that all generators of the study share.

    Attributes
    ----------
    folder : str
        A tokenizer that is there already; empty: one is trained.
    tokens : str
        Folder with its token stores ``train`` and ``validation``; empty: the study's jets are encoded.
    model : VQVAEConfig
    training : TrainingConfig
    """

    folder: str = ""
    tokens: str = ""
    model: VQVAEConfig = field(default_factory=VQVAEConfig)
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(jets=100_000, batch_jets=128, evaluations=6)
    )

    def __post_init__(self) -> None:
        require(
            bool(self.folder) or not self.tokens,
            "tokenizer.tokens: needs tokenizer.folder, which made the tokens",
        )


@dataclass(frozen=True)
class GeneratorStage:
    """Grid of generator trainings, sizes x seeds; held-out losses during each training give the points in D.

    Attributes
    ----------
    sizes : list of str
        Rungs of the ladder; if empty, the study trains no generators.
    seeds : list of int
        Seeds of all sizes.
    seeds_of : dict of str to list of int
        Seeds of sizes that do not use ``seeds``.
    jets_of : dict of str to int
        Jets seen by sizes that do not see ``training.jets``.
    learning_rates : dict of str to float
        Peak rates of sizes that do not use ``training.learning_rate``.
    model : dict of str to Any
        Changes of the configuration of every rung.
    training : TrainingConfig
        Its ``seed`` is replaced by each of the seeds. A learning rate of 0, the default, stands for the rule of each
        size. The schedule is ``constant``, with or without cooldowns.
    """

    sizes: list[str] = field(default_factory=lambda: ["pico", "nano", "micro", "small"])
    seeds: list[int] = field(default_factory=lambda: [1])
    seeds_of: dict[str, list[int]] = field(default_factory=dict)
    jets_of: dict[str, int] = field(default_factory=dict)
    learning_rates: dict[str, float] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(learning_rate=0.0))

    @property
    def names(self) -> list[str]:
        """Sizes, as the dictionaries above call them."""
        return list(self.sizes)

    def __post_init__(self) -> None:
        _require_grid("generator", "sizes", self)


@dataclass(frozen=True)
class SamplesStage:
    """Jets drawn from every generator and scored; at most as many reference jets are used.

    Attributes
    ----------
    jets : int
    at : list of int
        Numbers of jets seen on the way at which generators are sampled, too: the distances get laws in D.
    temperature : float
    seed : int
        Every sample has random numbers of its own, which follow from this seed and its name.
    """

    jets: int = 5_000
    at: list[int] = field(default_factory=list)
    temperature: float = 1.0
    seed: int = 1

    def __post_init__(self) -> None:
        require(self.jets >= 1, f"samples.jets: {self.jets} is not at least 1")
        require(not self.at or min(self.at) >= 1, f"samples.at: {self.at} are not numbers of jets")
        _require_distinct("samples.at", self.at)
        require(self.temperature > 0, f"samples.temperature: {self.temperature} is not positive")
        require(self.seed >= 0, f"samples.seed: {self.seed} is negative")


@dataclass(frozen=True)
class CodebooksStage:
    """How the learnable window depends on the codebook: the study's tokenizer with fewer codes, a generator on each.

    Attributes
    ----------
    merged : list of int
        Codes that are left when the vectors of the codebook are merged; none: this is not measured. Only studies with
        generators measure it.
    size : str
        Rung of the ladder that is trained on the tokens of each of them, and of the tokenizer as it is.
    training : TrainingConfig
        Only as many jets as it sees are encoded.
    """

    merged: list[int] = field(default_factory=list)
    size: str = "nano"
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(jets=20_000, batch_jets=8, learning_rate=0.0, average=0.1)
    )

    def __post_init__(self) -> None:
        _require_distinct("codebooks.merged", self.merged)


@dataclass(frozen=True)
class TaggerStage:
    """Grid of single-pass tagger trainings, widths x seeds; held-out losses during each training give the points in D.

    Attributes
    ----------
    widths : list of int
        ``d_model`` of the set transformers; if empty, the study trains no taggers.
    seeds : list of int
        Seeds of all widths.
    seeds_of : dict of str to list of int
        Seeds of ``d<width>``, for widths that do not use ``seeds``.
    jets_of : dict of str to int
        Jets seen by ``d<width>``, for widths that do not see ``training.jets``.
    learning_rates : dict of str to float
        Peak rates of ``d<width>``, for widths that do not use ``training.learning_rate``.
    features : str
        Name of a set of particle features (docs/data.md).
    max_particles : int
        Number of leading particles by pT.
    dropout : float
        Probability of dropout.
    training : TrainingConfig
        Its ``seed`` is replaced by each of the seeds. The schedule is ``constant``, with or without cooldowns.
    """

    widths: list[int] = field(default_factory=lambda: [4, 8, 16, 32])
    seeds: list[int] = field(default_factory=lambda: [1])
    seeds_of: dict[str, list[int]] = field(default_factory=dict)
    jets_of: dict[str, int] = field(default_factory=dict)
    learning_rates: dict[str, float] = field(default_factory=dict)
    features: str = "full21"
    max_particles: int = 128
    dropout: float = 0.01
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(batch_jets=128))

    @property
    def names(self) -> list[str]:
        """Widths, as the dictionaries above call them."""
        return [f"d{width}" for width in self.widths]

    def __post_init__(self) -> None:
        _require_grid("tagger", "widths", self)


@dataclass(frozen=True)
class RepetitionStage:
    """Taggers trained on the same jets until their held-out loss rises: widths x unique jets x seeds.

    Features, particles and dropout are those of the tagger stage, and so are the learning rates of its
    widths where ``tagger.learning_rates`` names them.

    Attributes
    ----------
    widths : list of int
        None: the study repeats no data.
    jets : list of int
        Unique jets of a training, each a column of the phase diagram.
    seeds : list of int
        They choose the unique jets, too.
    epochs : int
        Most passes over the unique jets.
    training : TrainingConfig
        ``jets`` is the most that any run may see, ``evaluate_every_jets`` the least distance of evaluations (one
        epoch, if that is longer); ``jets_unique`` and ``seed`` are replaced.
    """

    widths: list[int] = field(default_factory=list)
    jets: list[int] = field(default_factory=lambda: [1000, 2000, 4000, 8000, 16000])
    seeds: list[int] = field(default_factory=lambda: [1])
    epochs: int = 50
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(batch_jets=128, evaluate_every_jets=4000, patience=5)
    )

    def __post_init__(self) -> None:
        for key in ("widths", "jets", "seeds"):
            _require_distinct(f"repetition.{key}", getattr(self, key))
        require(self.epochs >= 1, f"repetition.epochs: {self.epochs} is not at least 1")
        for jets in self.jets:
            require(
                jets >= self.training.batch_jets,
                f"repetition.jets: {jets} is less than one batch of {self.training.batch_jets}",
            )


@dataclass(frozen=True)
class Inputs:
    """What a tagger sees of a jet: a set of particle features, and how many leading particles."""

    features: str = "full21"
    max_particles: int = 128


@dataclass(frozen=True)
class InputsStage:
    """The repetition stage's column of one width again, with other inputs.

    Attributes
    ----------
    width : int
        One of the repetition stage's widths, which gives the column with the tagger stage's own inputs; 0: inputs
        are not compared.
    others : dict of Inputs
        By name.
    """

    width: int = 0
    others: dict[str, Inputs] = field(default_factory=dict)


@dataclass(frozen=True)
class FitStage:
    """How the scaling laws are fitted.

    Attributes
    ----------
    bootstrap : int
        Resamples behind every interval.
    min_jets : int
        Points with fewer jets seen are left out. They must not lie within five warm-ups, nor within ``min_steps``, of
        any grid of the study; 0, the default, becomes the least number that this allows.
    min_steps : int
        The first optimizer steps are start-up and no scaling law, however many jets they see.
    seed : int
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


@dataclass(frozen=True)
class StudyConfig:
    """A whole study.

    Attributes
    ----------
    name : str
        Results are written to ``runs/<name>`` unless another folder is given.
    threads_per_cell : int
        CPU threads of each training. They are part of the study because they change the last digits.
    jets : JetsConfig
        Origin of the jets.
    tokenizer : TokenizerStage
        Training of the tokenizer.
    generator : GeneratorStage
        Grid of generators.
    samples : SamplesStage
        Samples of the generators, and their scores.
    codebooks : CodebooksStage
        Generators on codebooks of other sizes.
    tagger : TaggerStage
        Grid of taggers.
    repetition : RepetitionStage
        Taggers on repeated data.
    inputs : InputsStage
        Taggers with other inputs.
    variations : Variations
        Runs that differ from their stage.
    fit : FitStage
        Options of the fits.
    """

    name: str = "study"
    threads_per_cell: int = 1
    jets: JetsConfig = field(default_factory=JetsConfig)
    tokenizer: TokenizerStage = field(default_factory=TokenizerStage)
    generator: GeneratorStage = field(default_factory=GeneratorStage)
    samples: SamplesStage = field(default_factory=SamplesStage)
    codebooks: CodebooksStage = field(default_factory=CodebooksStage)
    tagger: TaggerStage = field(default_factory=TaggerStage)
    repetition: RepetitionStage = field(default_factory=RepetitionStage)
    inputs: InputsStage = field(default_factory=InputsStage)
    variations: Variations = field(default_factory=Variations)
    fit: FitStage = field(default_factory=FitStage)

    def __post_init__(self) -> None:
        require(bool(self.name) and "/" not in self.name, f"name: {self.name!r} is not a folder name")
        require(self.threads_per_cell >= 1, f"threads_per_cell: {self.threads_per_cell} is not at least 1")
        require(
            bool(self.generator.sizes or self.tagger.widths or any(self.variations.runs())),
            "generator.sizes, tagger.widths and variations: all empty, the study would do nothing",
        )
        require(
            not self.codebooks.merged or self.tokenizer.model.quantizer != "fsq",
            "codebooks.merged: the codes of quantizer fsq are a grid, which cannot be merged",
        )
        repeated = self.repetition
        require(not repeated.widths or bool(self.tagger.widths), "repetition.widths: needs tagger.widths")
        require(
            self.inputs.width in (0, *repeated.widths),
            f"inputs.width: {self.inputs.width} is not one of repetition.widths "
            f"({', '.join(map(str, repeated.widths)) or 'none'})",
        )
        least = max(
            _first_fitted("generator", self.generator, self.fit),
            _first_fitted("tagger", self.tagger, self.fit),
        )
        object.__setattr__(self, "fit", replace(self.fit, min_jets=self.fit.min_jets or least))


def _first_fitted(stage: str, grid: GeneratorStage | TaggerStage, fit: FitStage) -> int:
    """Least number of jets of a point that may be fitted; refuse a fit that would begin before."""
    training = grid.training
    if not grid.names:
        return 0
    least, plan = max(5 * training.warmup_steps, fit.min_steps), training.plan
    require(
        fit.min_jets == 0 or plan.steps(fit.min_jets) >= least,
        f"fit.min_jets: {fit.min_jets} jets are {plan.steps(fit.min_jets)} steps of {stage}.training; fits begin after "
        f"{least} (five warm-ups of {training.warmup_steps} steps, at least fit.min_steps={fit.min_steps}); give "
        f"{plan.jets(least)} or more jets, or smaller batches",
    )
    return plan.jets(least)


def _require_grid(stage: str, axis: str, grid: GeneratorStage | TaggerStage) -> None:
    """Refuse a grid in which a run would come twice or a name means nothing."""
    _require_distinct(f"{stage}.{axis}", grid.names)
    for seeds in (grid.seeds, *grid.seeds_of.values()):
        require(
            bool(seeds) and min(seeds) >= 0, f"{stage}.seeds: {seeds} are not one or more seeds from 0 on"
        )
        _require_distinct(f"{stage}.seeds", seeds)
    for key in ("seeds_of", "jets_of", "learning_rates"):
        for name in getattr(grid, key):
            require(name in grid.names, f"{stage}.{key}: {name} is not in the grid ({', '.join(grid.names)})")
    schedule = grid.training.schedule
    require(
        schedule == "constant" or not grid.names,
        f"{stage}.training.schedule: {schedule} would spoil the laws, because losses on the way of a decaying rate are "
        f"not those of runs of fewer jets; set it to constant, with {stage}.training.cooldown for losses at the end "
        "of a decay",
    )


def _require_distinct(key: str, values: Sequence[int] | Sequence[str]) -> None:
    require(len(set(values)) == len(values), f"{key}: {list(values)} names one twice")
