"""Grids of trainings: sizes, each with its seeds, its number of jets and its learning rate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any

from genscale.config import require
from genscale.training.generator import GeneratorRun
from genscale.training.tagger import TaggerRun
from genscale.training.task import TrainingConfig


def default_of(run: type, key: str) -> Callable[[], Any]:
    """Return the factory of a default of a run's configuration, so that stages have the same default."""
    (default,) = (f.default_factory for f in fields(run) if f.name == key)
    assert default is not MISSING
    return default


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
        """Names of the sizes, which are the keys of the dictionaries."""

    def seeds_for(self, name: str) -> list[int]:
        """Seeds of a size."""
        return self.seeds_of.get(name, self.seeds)

    def trained(self, name: str) -> TrainingConfig:
        """Training of a size, without its seed. Shorter ones are evaluated at the same numbers of jets as others."""
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
    """Grid of generators, sizes x seeds; the held-out losses during each training are its points in D.

    Attributes
    ----------
    sizes : list of str
        Rungs of the ladder; if empty, the study trains no generators.
    seeds : list of int
        Seeds of all sizes.
    seeds_of : dict of str to list of int
        Seeds of the sizes that do not use ``seeds``.
    jets_of : dict of str to int
        Jets seen by the sizes that do not see ``training.jets``.
    learning_rates : dict of str to float
        Peak learning rates of the sizes that do not use ``training.learning_rate``.
    model : dict of str to Any
        Changes to the configuration of every rung.
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
    training: TrainingConfig = field(default_factory=default_of(GeneratorRun, "training"))

    @property
    def names(self) -> list[str]:
        """The sizes themselves."""
        return list(self.sizes)

    def __post_init__(self) -> None:
        _require_grid("generator", "sizes", self)


@dataclass(frozen=True)
class TaggerStage(Grid):
    """Grid of taggers, widths x seeds; the held-out losses during each training are its points in D.

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
        Peak learning rates of ``d<width>``, for widths that do not use ``training.learning_rate``.
    features : str
        Name of a set of particle features (docs/data.md).
    max_particles : int
        Number of leading particles by pT.
    dropout : float
        Probability of dropout.
    predict_at : list of int
        Numbers of jets seen during the training after which the test jets are classified as well.
    training : TrainingConfig
        Its ``seed`` is replaced by each of ``seeds``; a learning rate of 0, the default, stands for the rule of each
        width. The schedule is ``constant``, with or without cooldowns.
    """

    widths: list[int] = field(default_factory=lambda: [4, 8, 16, 32])
    seeds: list[int] = field(default_factory=lambda: [1])
    seeds_of: dict[str, list[int]] = field(default_factory=dict)
    jets_of: dict[str, int] = field(default_factory=dict)
    learning_rates: dict[str, float] = field(default_factory=dict)
    features: str = TaggerRun.features
    max_particles: int = TaggerRun.max_particles
    dropout: float = TaggerRun.dropout
    predict_at: list[int] = field(default_factory=list)
    training: TrainingConfig = field(default_factory=default_of(TaggerRun, "training"))

    @property
    def names(self) -> list[str]:
        """The widths by their names in the dictionaries: ``d<width>``."""
        return [f"d{width}" for width in self.widths]

    def __post_init__(self) -> None:
        _require_grid("tagger", "widths", self)
        most = max((self.trained(name).jets for name in self.names), default=0)
        for jets in self.predict_at if self.names else ():
            require(
                1 <= jets < most,
                f"tagger.predict_at: {jets} is not between 1 and the {most} jets of the longest run",
            )
        require_distinct("tagger.predict_at", self.predict_at)


def require_distinct(key: str, values: Sequence[int] | Sequence[str]) -> None:
    """Raise InputError for values of which one occurs twice."""
    require(len(set(values)) == len(values), f"{key}: {list(values)} names one twice")


def _require_grid(stage: str, axis: str, grid: Grid) -> None:
    """Raise InputError for a grid that contains a run twice or an unknown name."""
    require_distinct(f"{stage}.{axis}", grid.names)
    for seeds in (grid.seeds, *grid.seeds_of.values()):
        require(
            bool(seeds) and min(seeds) >= 0, f"{stage}.seeds: {seeds} are not one or more seeds of at least 0"
        )
        require_distinct(f"{stage}.seeds", seeds)
    for key in ("seeds_of", "jets_of", "learning_rates"):
        for name in getattr(grid, key):
            require(name in grid.names, f"{stage}.{key}: {name} is not in the grid ({', '.join(grid.names)})")
    schedule = grid.training.schedule
    require(
        schedule == "constant" or not grid.names,
        f"{stage}.training.schedule: {schedule} would spoil the laws, because losses during a decay of the rate are "
        f"not those of runs on fewer jets; set it to constant, with {stage}.training.cooldown for losses at the end "
        "of a decay",
    )
