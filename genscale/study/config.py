"""The configuration of a study, from jets to report, in one YAML file."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from genscale.config import require
from genscale.data.schema import CLASSES
from genscale.data.simulation.processes import find_processes
from genscale.study.variations import Variations
from genscale.training.task import TrainingConfig
from tokenizer import VQVAEConfig

#: Ratio of the jets seen at consecutive held-out losses of a run on repeated data.
EVALUATION_RATIO: Final = 1.15

#: Passes of the repetition control over its jets. Up to four are worth about as much as fresh data in language models
#: (Muennighoff et al., arXiv:2305.16264).
CONTROL_EPOCHS: Final = 4


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
    rejection_of : dict of int
        Test jets of these classes, where rejections need more of them than a share of ``test``. Taggers are then judged
        on a further store, ``rejection``, with the seed and otherwise the shares of the test jets. In ``stores``, a
        folder of that name is used if there is one.
    """

    stores: str = ""
    classes: list[str] = field(default_factory=lambda: list(CLASSES))
    train: int = 60_000
    validation: int = 6_000
    test: int = 6_000
    mpi: bool = True
    seed: int = 1
    rejection_of: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        find_processes(self.classes)
        for name, jets in self.rejection_of.items():
            require(
                name in self.classes,
                f"jets.rejection_of: {name} is not one of jets.classes ({', '.join(self.classes)})",
            )
            share = self.test // len(self.classes)
            require(
                jets > share,
                f"jets.rejection_of: {jets} jets of {name} are not more than its share of jets.test ({share})",
            )
        require(
            not (self.stores and self.rejection_of),
            "jets.rejection_of: jets are simulated only without jets.stores; put a store named rejection there",
        )
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


class Grid(ABC):
    """What the grids of both tasks have in common: sizes by name, each with seeds and a training of its own."""

    seeds: list[int]
    seeds_of: dict[str, list[int]]
    jets_of: dict[str, int]
    learning_rates: dict[str, float]
    training: TrainingConfig

    @property
    @abstractmethod
    def names(self) -> list[str]:
        """Sizes by the names that the dictionaries have them under."""

    def seeds_for(self, name: str) -> list[int]:
        """Seeds of a size."""
        return self.seeds_of.get(name, self.seeds)

    def trained(self, name: str) -> TrainingConfig:
        """Training of a size, but for its seed. One of fewer jets has its losses where the others have theirs."""
        jets = self.jets_of.get(name, self.training.jets)
        evaluations = self.training.evaluations
        if jets < self.training.jets:
            places = replace(self.training, keep_weights_at=[]).evaluated_at
            evaluations = max(1, sum(d <= 1.01 * jets for d in places))  # whole batches may end later
        return replace(
            self.training,
            jets=jets,
            evaluations=evaluations,
            learning_rate=self.learning_rates.get(name, self.training.learning_rate),
        )


@dataclass(frozen=True)
class GeneratorStage(Grid):
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
        """Return the sizes by their names in the dictionaries above."""
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
    """Dependence of the learnable window on the codebook: the study's tokenizer with fewer codes, a generator on each.

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
class TaggerStage(Grid):
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
    predict_at : list of int
        Numbers of jets seen on the way at which the test jets are classified, too.
    training : TrainingConfig
        Its ``seed`` is replaced by each of ``seeds``; a learning rate of 0, the default, is the rule of each width.
        The schedule is ``constant``, with or without cooldowns.
    """

    widths: list[int] = field(default_factory=lambda: [4, 8, 16, 32])
    seeds: list[int] = field(default_factory=lambda: [1])
    seeds_of: dict[str, list[int]] = field(default_factory=dict)
    jets_of: dict[str, int] = field(default_factory=dict)
    learning_rates: dict[str, float] = field(default_factory=dict)
    features: str = "full21"
    max_particles: int = 128
    dropout: float = 0.01
    predict_at: list[int] = field(default_factory=list)
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(batch_jets=128, learning_rate=0.0)
    )

    @property
    def names(self) -> list[str]:
        """Return the widths by their names in the dictionaries above."""
        return [f"d{width}" for width in self.widths]

    def __post_init__(self) -> None:
        _require_grid("tagger", "widths", self)
        _require_on_the_way("tagger.predict_at", self.predict_at, self)


@dataclass(frozen=True)
class RepetitionStage:
    """Models trained on the same jets until their held-out loss rises: sizes and widths x unique jets x seeds.

    This gives the second law of data: what unique jets are worth when they are repeated, and the early-stopped loss is
    taken. Inputs, dropout, changes to the shape and learning rates of single models are those of the generator and
    tagger stages.

    Attributes
    ----------
    widths : list of int
        Of taggers; none: no tagger repeats data.
    sizes : list of str
        Of generators; none: no generator repeats data.
    jets : list of int
        Unique jets of a training, each a column of the phase diagram.
    seeds : list of int
        They choose the unique jets, too.
    epochs : int
        Most passes over the unique jets.
    training : TrainingConfig
        ``jets`` is the most that any run may see; the run ends when its ``patience`` is over. Held-out losses are
        measured from the end of the first epoch on, each after 15 % more jets than the one before. ``jets_unique``,
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
        _require_distinct("repetition.sizes", self.sizes)
        for key in ("widths", "jets", "seeds"):
            _require_distinct(f"repetition.{key}", getattr(self, key))
        require(
            bool(self.jets and self.seeds) or not (self.widths or self.sizes),
            "repetition.jets and repetition.seeds: each needs one or more values",
        )
        require(self.epochs >= 1, f"repetition.epochs: {self.epochs} is not at least 1")
        require(
            self.training.patience > 0,
            "repetition.training.patience: 0 would never end a run; 0.5 goes on until half as many jets again were "
            "seen as at the lowest held-out loss",
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
class ControlStage:
    """Tests of what limits the losses of a grid: the data, or the training.

    Attributes
    ----------
    repetition : bool
        Train one size of each grid on a quarter of its jets, seen four times, with the steps and the recipe of the
        grid's own run. If the losses are equal, that of the grid is limited by training and not by data.
    size : str
        Size of the generator; by default the one in the middle of the grid.
    width : int
        Width of the tagger; by default the one in the middle of the grid.
    recipe : bool
        Train the smallest and the largest size, at the least and the most jets that are fitted, with half and twice the
        batch and with half and twice the learning rate.
    """

    repetition: bool = True
    size: str = ""
    width: int = 0
    recipe: bool = False


@dataclass(frozen=True)
class Inputs:
    """The inputs of a tagger: a set of particle features, and the number of leading particles."""

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
        Other inputs by name.
    """

    width: int = 0
    others: dict[str, Inputs] = field(default_factory=dict)


@dataclass(frozen=True)
class FitStage:
    """Options of the fits of scaling laws.

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
        Training on repeated data.
    control : ControlStage
        Tests of what limits the losses.
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
    control: ControlStage = field(default_factory=ControlStage)
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
        repeated = self.repetition
        require(not repeated.widths or bool(self.tagger.widths), "repetition.widths: needs tagger.widths")
        require(not repeated.sizes or bool(self.generator.sizes), "repetition.sizes: needs generator.sizes")
        require(
            not self.codebooks.merged or self.tokenizer.model.quantizer != "fsq",
            "codebooks.merged: the codes of quantizer fsq are a grid, which cannot be merged",
        )
        require(
            self.inputs.width in (0, *repeated.widths),
            f"inputs.width: {self.inputs.width} is not one of repetition.widths "
            f"({', '.join(map(str, repeated.widths)) or 'none'})",
        )
        control = self.control
        for key, value, known in (
            ("size", control.size, self.generator.sizes),
            ("width", control.width, self.tagger.widths),
        ):
            require(
                not value or value in known,
                f"control.{key}: {value} is not in the grid ({', '.join(map(str, known)) or 'none'})",
            )
        for task, name in self.controlled.items():
            training = self.grids[task].trained(name)
            require(
                training.jets >= CONTROL_EPOCHS * training.batch_jets,
                f"control.repetition: a quarter of the {training.jets} jets of {task} {name} is less than a batch of "
                f"{training.batch_jets}; give more jets, or control.repetition: false",
            )
        least = max(
            _first_fitted("generator", self.generator, self.fit),
            _first_fitted("tagger", self.tagger, self.fit),
        )
        object.__setattr__(self, "fit", replace(self.fit, min_jets=self.fit.min_jets or least))

    @property
    def grids(self) -> dict[str, Grid]:
        """Grids of the tasks that the study has, by ``generator`` and ``tagger``."""
        both: dict[str, Grid] = {"generator": self.generator, "tagger": self.tagger}
        return {task: grid for task, grid in both.items() if grid.names}

    @property
    def controlled(self) -> dict[str, str]:
        """The size of each grid that repeats data as a control, by task."""
        control = self.control
        if not control.repetition:
            return {}
        chosen = {"generator": control.size, "tagger": control.width and f"d{control.width}"}
        return {
            task: chosen[task] or grid.names[(len(grid.names) - 1) // 2] for task, grid in self.grids.items()
        }


def _first_fitted(stage: str, grid: Grid, fit: FitStage) -> int:
    """Return the smallest number of jets of fitted points; raises InputError for a fit that begins earlier."""
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


def _require_on_the_way(key: str, jets: Sequence[int], grid: Grid) -> None:
    """Raise InputError for numbers of jets that no run of the grid sees."""
    most = max((grid.trained(name).jets for name in grid.names), default=0)
    for number in jets:
        require(
            1 <= number < most or not grid.names,
            f"{key}: {number} is not between 1 and the {most} jets of the longest run",
        )
    _require_distinct(key, jets)


def _require_grid(stage: str, axis: str, grid: Grid) -> None:
    """Raise InputError for a grid that contains a run twice or an unknown name."""
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
