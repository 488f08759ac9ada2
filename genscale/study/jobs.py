"""Jobs, the pieces of work of a study: frozen values that can be run in any process on any machine.

Paths are relative to the folder of the study unless they are absolute. A job writes one output, which is complete or
absent, and resumes its work if it is run again after it was killed. Modules that a job alone needs are imported when it
runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from genscale.inference.device import resolve_device
from genscale.training.generator import GeneratorRun, GeneratorTask
from genscale.training.tagger import TaggerRun, TaggerTask
from genscale.training.tokenizer import TokenizerRun, TokenizerTask

Run = TokenizerRun | GeneratorRun | TaggerRun


class Job(ABC):
    """One piece of work."""

    #: File within the output whose presence says that the output is complete.
    done_file: ClassVar[str] = "manifest.json"

    #: Whether it uses every core by itself.
    all_cores: ClassVar[bool] = False

    @property
    def kind(self) -> str:
        """Name of this kind of work."""
        return type(self).__name__.lower()

    @property
    def reads(self) -> tuple[str, ...]:
        """Stores and models that it reads: all of its texts are paths."""
        return tuple(value for value in vars(self).values() if isinstance(value, str))

    @abstractmethod
    def run(self, study: Path, out: Path) -> None:
        """Do the work.

        Parameters
        ----------
        study : Path
            Folder of the study.
        out : Path
            Folder of the output.
        """


@dataclass(frozen=True)
class Simulate(Job):
    """Simulate jets, equally many of all classes except for those that ``jets_of`` names."""

    all_cores = True

    n_jets: int
    classes: list[str]
    seed: int
    mpi: bool
    jets_of: dict[str, int] = field(default_factory=dict)
    split: str | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """Nothing that the study makes."""
        return ()

    def run(self, study: Path, out: Path) -> None:
        """Write a jet store."""
        from genscale.data.simulation import simulate
        from genscale.processes import available_cores

        simulate(
            out, self.n_jets, self.classes, self.seed,
            workers=available_cores(), mpi=self.mpi, jets_of=self.jets_of or None, split=self.split,
        )  # fmt: skip


@dataclass(frozen=True)
class Sample(Job):
    """Sample a world whose limits are known."""

    done_file = "world.json"

    name: str
    parameters: dict[str, Any]
    jets: dict[str, int]
    seed: int

    @property
    def reads(self) -> tuple[str, ...]:
        """Nothing that the study makes."""
        return ()

    def run(self, study: Path, out: Path) -> None:
        """Write jet stores, token stores and the tokenizer."""
        from genscale.worlds import make_world
        from genscale.worlds.stores import write_world

        write_world(make_world(self.name, self.parameters), out, self.jets, seed=self.seed)


@dataclass(frozen=True)
class Floors(Job):
    """Compute the floors of a world."""

    done_file = "floors.json"

    name: str
    parameters: dict[str, Any]

    @property
    def reads(self) -> tuple[str, ...]:
        """Nothing that the study makes."""
        return ()

    def run(self, study: Path, out: Path) -> None:
        """Write the floors."""
        from genscale.worlds import make_world
        from genscale.worlds.floors import write_floors

        world = make_world(self.name, self.parameters)
        write_floors(world, out / self.done_file, world.floor_jets)


@dataclass(frozen=True)
class Train(Job):
    """Train a tokenizer, a generator or a tagger.

    Attributes
    ----------
    done_file : str
        File whose presence says that the training is finished.
    of : TokenizerRun, GeneratorRun or TaggerRun
        Configuration of the run.
    flops : float
        Estimated floating-point operations of the training with its cooldown branches.
    held_out_flops : float
        Estimated floating-point operations of its held-out losses.
    """

    done_file = "record.json"

    of: Run
    flops: float = field(default=0.0, compare=False)
    held_out_flops: float = field(default=0.0, compare=False)

    @property
    def kind(self) -> str:
        """Name of this kind of work, by task."""
        return f"train_{_task(self.of).name}"

    @property
    def reads(self) -> tuple[str, ...]:
        """Stores and models that it reads."""
        return tuple(getattr(self.of, key) for key in _task(self.of).data_keys)

    def run(self, study: Path, out: Path) -> None:
        """Write the record and the model of the run."""
        from genscale.training.loop import train

        task = _task(self.of)
        paths: dict[str, Any] = {key: str(study / getattr(self.of, key)) for key in task.data_keys}
        run = replace(self.of, **paths)
        train(task(run), run.training, out)


def _task(run: Run) -> Any:
    """Return the class of a run's task."""
    if isinstance(run, TokenizerRun):
        return TokenizerTask
    return GeneratorTask if isinstance(run, GeneratorRun) else TaggerTask


@dataclass(frozen=True)
class Encode(Job):
    """Encode a jet store with a tokenizer; 0 jets stand for all."""

    jets: str
    tokenizer: str
    n_jets: int = 0

    def run(self, study: Path, out: Path) -> None:
        """Write a token store."""
        from genscale.inference.stores import encode_store

        encode_store(
            study / self.jets, study / self.tokenizer, out, n_jets=self.n_jets, device=resolve_device("auto")
        )


@dataclass(frozen=True)
class Coarsen(Job):
    """Merge the codes of a tokenizer."""

    done_file = "tokenizer.json"

    tokenizer: str
    codes: int

    def run(self, study: Path, out: Path) -> None:
        """Write a tokenizer."""
        from genscale.inference.stores import coarsen_tokenizer

        coarsen_tokenizer(study / self.tokenizer, out, self.codes)


@dataclass(frozen=True)
class Decode(Job):
    """Decode the first jets of a token store."""

    tokens: str
    tokenizer: str
    n_jets: int

    def run(self, study: Path, out: Path) -> None:
        """Write a jet store."""
        from genscale.inference.stores import decode_store

        decode_store(
            study / self.tokens,
            study / self.tokenizer,
            out,
            n_jets=self.n_jets,
            device=resolve_device("auto"),
        )


@dataclass(frozen=True)
class Quality(Job):
    """Measure what of a jet survives a tokenizer."""

    done_file = "quality.json"

    tokenizer: str
    jets: str

    def run(self, study: Path, out: Path) -> None:
        """Write the resolution of all features and its figure."""
        from genscale.inference.stores import tokenizer_quality

        out.mkdir(parents=True, exist_ok=True)
        tokenizer_quality(
            study / self.tokenizer, study / self.jets, out / self.done_file, figure=out / "quality.png",
            device=resolve_device("auto"),
        )  # fmt: skip


@dataclass(frozen=True)
class Generate(Job):
    """Draw jets from a generator."""

    of: str
    jets: int
    temperature: float
    seed: int

    def run(self, study: Path, out: Path) -> None:
        """Write a jet store."""
        from genscale.inference.sampling import SamplingConfig
        from genscale.inference.stores import generate_store

        config = SamplingConfig(temperature=self.temperature, seed=self.seed)
        generate_store(study / self.of, out, self.jets, config, device=resolve_device("auto"))


@dataclass(frozen=True)
class Fidelity(Job):
    """Score generated jets against reference jets."""

    done_file = "fidelity.json"

    generated: str
    reference: str
    tokenizer_floor: str
    n_jets: int
    figures: bool

    def run(self, study: Path, out: Path) -> None:
        """Write the score, and its figures where they are wanted."""
        from genscale.fidelity import evaluate_stores

        out.mkdir(parents=True, exist_ok=True)
        evaluate_stores(
            study / self.generated, study / self.reference, out / self.done_file,
            tokenizer_floor=study / self.tokenizer_floor, n_jets=self.n_jets, figures=out if self.figures else None,
        )  # fmt: skip


@dataclass(frozen=True)
class Predict(Job):
    """Classify the jets of a store with a tagger."""

    done_file = "predictions.npz"

    of: str
    jets: str

    def run(self, study: Path, out: Path) -> None:
        """Write the class probabilities of all jets."""
        from genscale.inference.prediction import predict_store

        out.mkdir(parents=True, exist_ok=True)
        predict_store(study / self.of, study / self.jets, out / self.done_file, device=resolve_device("auto"))
