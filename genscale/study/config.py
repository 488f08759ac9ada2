"""What a study is: one YAML file from jets to report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from genscale.config import require
from genscale.data.schema import CLASSES
from genscale.training.task import TrainingConfig
from tokenizer import VQVAEConfig


@dataclass(frozen=True)
class JetsConfig:
    """Where the jets come from.

    Attributes
    ----------
    stores : str
        Folder with jet stores ``train``, ``validation`` and ``test`` (``genscale convert`` makes them from
        JetClass files); empty: jets are simulated.
    classes : list of str
        Classes to simulate.
    train, validation, test : int
        Jets to simulate for each.
    mpi : bool
        Simulate multiparton interactions: more realistic, seven times slower.
    seed : int
        Of the training jets; validation and test use the next two.
    """

    stores: str = ""
    classes: list[str] = field(default_factory=lambda: list(CLASSES))
    train: int = 60_000
    validation: int = 6_000
    test: int = 6_000
    mpi: bool = True
    seed: int = 1


@dataclass(frozen=True)
class TokenizerStage:
    """The tokenizer that all generators of the study share."""

    model: VQVAEConfig = field(default_factory=VQVAEConfig)
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(jets=100_000, batch_jets=128, evaluations=6)
    )


@dataclass(frozen=True)
class GeneratorStage:
    """Grid of generator trainings: sizes x seeds; held-out losses on the way give the D axis.

    Attributes
    ----------
    sizes : list of str
        Rungs of the ladder.
    seeds : list of int
    learning_rates : dict
        Peak rate of a size, where it differs from ``training.learning_rate``.
    class_conditional : bool
    model : dict
        Changes to the shape of every rung.
    training : TrainingConfig
        Its ``seed`` is replaced by each of ``seeds``.
    """

    sizes: list[str] = field(default_factory=lambda: ["pico", "nano", "micro", "small"])
    seeds: list[int] = field(default_factory=lambda: [1])
    learning_rates: dict[str, float] = field(default_factory=dict)
    class_conditional: bool = False
    model: dict[str, Any] = field(default_factory=dict)
    training: TrainingConfig = field(default_factory=TrainingConfig)


@dataclass(frozen=True)
class SamplesStage:
    """Jets drawn from every generator and scored; at most as many reference jets are used."""

    jets: int = 5_000
    temperature: float = 1.0
    seed: int = 1


@dataclass(frozen=True)
class TaggerStage:
    """Grid of tagger trainings: widths x seeds; held-out losses on the way give the D axis."""

    widths: list[int] = field(default_factory=lambda: [4, 8, 16, 32])
    seeds: list[int] = field(default_factory=lambda: [1])
    features: str = "full21"
    max_particles: int = 128
    dropout: float = 0.01
    learning_rates: dict[str, float] = field(default_factory=dict)
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(batch_jets=128))


@dataclass(frozen=True)
class FitStage:
    """How the scaling laws are fitted.

    Attributes
    ----------
    bootstrap : int
        Resamples behind every interval.
    min_jets : int
        Points with fewer jets seen are left out: warm-up is no scaling law.
    seed : int
    """

    bootstrap: int = 200
    min_jets: int = 5_000
    seed: int = 0


@dataclass(frozen=True)
class StudyConfig:
    """A whole study.

    Attributes
    ----------
    name : str
        Results go to ``runs/<name>`` unless another folder is given.
    threads_per_cell : int
        CPU threads of each training; part of the definition, for it changes the last digits.
    """

    name: str = "study"
    threads_per_cell: int = 1
    jets: JetsConfig = field(default_factory=JetsConfig)
    tokenizer: TokenizerStage = field(default_factory=TokenizerStage)
    generator: GeneratorStage = field(default_factory=GeneratorStage)
    samples: SamplesStage = field(default_factory=SamplesStage)
    tagger: TaggerStage = field(default_factory=TaggerStage)
    fit: FitStage = field(default_factory=FitStage)

    def __post_init__(self) -> None:
        require(bool(self.name) and "/" not in self.name, f"name: {self.name!r} is not a folder name")
        require(self.threads_per_cell >= 1, f"threads_per_cell: {self.threads_per_cell} is not at least 1")
        for stage, rates, names in (
            ("generator", self.generator.learning_rates, self.generator.sizes),
            ("tagger", self.tagger.learning_rates, [f"d{w}" for w in self.tagger.widths]),
        ):
            for name in rates:
                require(
                    name in names, f"{stage}.learning_rates: {name} is not in the grid ({', '.join(names)})"
                )
