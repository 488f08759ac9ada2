"""The cells of a study: its jobs by the names of their outputs, and what each of them needs.

A cell runs when the cells that it needs are done, is skipped if its output exists, and is resumed from its checkpoint
if it was killed.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import torch

from genscale.config import from_mapping, to_mapping
from genscale.data.features import resolve_features
from genscale.errors import InputError, require
from genscale.models.counting import generator_flops, tagger_flops
from genscale.study.config import WORLD, Grid, Inputs, StudyConfig
from genscale.study.controls import CHANGES, recipe_corners, repeated_trainings
from genscale.study.jobs import (
    Coarsen,
    Decode,
    Encode,
    Fidelity,
    Floors,
    Generate,
    Job,
    Predict,
    Quality,
    Run,
    Sample,
    Simulate,
    Train,
)
from genscale.training.generator import GeneratorRun
from genscale.training.tagger import TaggerRun
from genscale.training.task import TrainingConfig, weights_folder
from genscale.training.tokenizer import TokenizerRun
from tokenizer import Tokenizer

#: Number of constituents of a jet for estimates of FLOPs before a run (the mean of JetClass is 40).
ASSUMED_PARTICLES: Final = 40

#: Stores by their folders within a study.
SPLITS: Final = ("train", "validation", "test")
REJECTION: Final = "rejection"
TOKEN_SPLITS: Final = ("train", "validation")

#: The cell of a world's floors.
FLOORS: Final = "floors"


@dataclass(frozen=True)
class Cell:
    """A job of a study.

    Attributes
    ----------
    id : str
        Name of the cell, and path of its output within the study's folder.
    job : Job
        The work.
    needs : tuple of str
        Cells that must be done before.
    """

    id: str
    job: Job
    needs: tuple[str, ...] = ()

    def output(self, study: Path) -> Path:
        """Folder of the output."""
        return study / self.id

    def done(self, study: Path) -> bool:
        """Whether the output is complete."""
        return (self.output(study) / self.job.done_file).exists()


def study_cells(config: StudyConfig) -> list[Cell]:
    """Return all cells of a study but its report, each after those that it needs.

    Parameters
    ----------
    config : StudyConfig
        The study.

    Returns
    -------
    list of Cell

    Raises
    ------
    InputError
        The configuration of a training is invalid; this is reported before any work is done.
    """
    planned = _Jobs(config)
    jobs = {
        name: job
        for group in (
            planned.world, planned.tokenizer, planned.generators, planned.codebooks, planned.taggers,
            planned.repetition, planned.controls, planned.variations,
        )
        for name, job in group()
    }  # fmt: skip
    read = {path for job in jobs.values() for path in job.reads}
    jobs = {name: job for name, job in planned.simulations() if name in read} | jobs
    return [Cell(name, job, tuple(_makers(job, jobs))) for name, job in jobs.items()]


def _makers(job: Job, jobs: Mapping[str, Job]) -> Iterator[str]:
    """Yield the jobs that make what a job reads; stores and models that were given are made by none."""
    for path in job.reads:
        yield from (str(folder) for folder in (Path(path), *Path(path).parents) if str(folder) in jobs)


def splits_read(config: StudyConfig, cells: Sequence[Cell]) -> tuple[str, ...]:
    """Return the splits of the jets of a study that are read by some of its cells."""
    read = {path for cell in cells for path in cell.job.reads}
    return tuple(split for split, store in _Jobs(config).jets.items() if store in read)


def token_codes(config: StudyConfig) -> tuple[int, int]:
    """Vocabulary and longest jet of a study's tokenizer, trained or given."""
    return _Jobs(config).codes


def sample_name(run: str, jets: int | None = None) -> str:
    """Name of the sample that a run's weights make after this many jets, or (None) at its end."""
    name = run.split("/")[-1]
    return name if jets is None else f"{name}-d{jets}"


def sample_seed(seed: int, name: str) -> int:
    """Seed of a named sample: samples of different names share no random numbers, so their errors are independent."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:4], "big")


Named = Iterator[tuple[str, Job]]


@dataclass(frozen=True)
class _Jobs:
    """The jobs of a study by the names of their cells, one method a stage; stores and models are paths."""

    config: StudyConfig

    @property
    def jets(self) -> dict[str, str]:
        """Jet stores by split."""
        splits = (*SPLITS, REJECTION) if self.more_background else SPLITS
        return {split: f"{self.config.jets.folder}/{split}" for split in splits}

    @property
    def more_background(self) -> bool:
        """Whether taggers are judged on a store with more background than the test jets."""
        given, wanted = self.config.jets.stores, bool(self.config.jets.rejection_of)
        if not given:
            return wanted
        there = (Path(given) / REJECTION).is_dir()
        require(
            there or not wanted,
            f"jets.rejection_of: {given} has no store {REJECTION}, which genscale simulate --jets-of makes",
        )
        return there

    @property
    def tokens(self) -> dict[str, str]:
        """Token stores by split."""
        return {split: f"{self.config.tokens}/{split}" for split in TOKEN_SPLITS}

    @property
    def coder(self) -> str:
        """The tokenizer."""
        if self.config.jets.world:
            return f"{WORLD}/tokenizer"
        return self.config.tokenizer.folder or "tokenizer"

    @cached_property
    def codes(self) -> tuple[int, int]:
        """Size of the vocabulary and length of the longest jet of the tokenizer."""
        if self.config.jets.world or self.config.tokenizer.folder:
            given = self._given_tokenizer()
            return given.vocab_size, given.max_constituents
        model = self.config.tokenizer.model
        return model.codebook_size + 2, model.preprocessing.max_constituents

    def _given_tokenizer(self) -> Tokenizer:
        jets = self.config.jets
        if not jets.world:
            return Tokenizer.load(self.config.tokenizer.folder)
        from genscale.worlds import make_world
        from genscale.worlds.stores import tokenizer_of

        return tokenizer_of(make_world(jets.world, jets.parameters))

    def world(self) -> Named:
        """The jets, tokens and tokenizer of a world, and its floors."""
        jets = self.config.jets
        if jets.world:
            sizes = {split: getattr(jets, split) for split in SPLITS}
            yield WORLD, Sample(jets.world, dict(jets.parameters), sizes, jets.seed)
            yield FLOORS, Floors(jets.world, dict(jets.parameters))

    def simulations(self) -> Named:
        """Jets of every split, unless they are given."""
        jets = self.config.jets
        if jets.stores or jets.world:
            return
        for i, split in enumerate(SPLITS):
            job = Simulate(getattr(jets, split), list(jets.classes), jets.seed + i, jets.mpi, split=split)
            yield f"jets/{split}", job
        if jets.rejection_of:  # more jets of the test split, which is the last
            yield f"jets/{REJECTION}", replace(job, jets_of=dict(jets.rejection_of))

    def tokenizer(self) -> Named:
        """The tokenizer and its tokens, unless they are not needed or given."""
        config, stage = self.config, self.config.tokenizer
        if config.jets.world or not (config.generator.sizes or config.variations.generator):
            return
        if not stage.folder:
            with _naming("tokenizer"):
                run = TokenizerRun(self.jets["train"], self.jets["validation"], stage.model, stage.training)
            yield "tokenizer", self.trained(run)
        if not stage.tokens:
            for split, tokens in self.tokens.items():
                yield tokens, Encode(self.jets[split], self.coder)
        if config.generator.sizes:
            # The jets that are only encoded and decoded differ from those of the reference, as generated jets do, so
            # that their distance from the reference contains the same sampling noise.
            yield "samples/tokenizer", Decode(self.tokens["validation"], self.coder, config.samples.jets)
            yield "quality", Quality(self.coder, self.jets["test"])

    def generators(self) -> Named:
        """Generators, and their samples with scores, at the end of each run and on the way."""
        stage = self.config.samples
        for size, training, at in _grid(self.config.generator, stage.at):
            run = f"generator/{size}-s{training.seed}"
            yield run, self.of_size("generator", run, size, training)
            if self.config.jets.world:  # its particles are names of tokens, whose distances mean nothing
                continue
            for jets in (*at, None):
                name = sample_name(run, jets)
                seed = sample_seed(stage.seed, name)
                yield f"samples/{name}", Generate(_weights(run, jets), stage.jets, stage.temperature, seed)
                scored = (f"samples/{name}", self.jets["test"], "samples/tokenizer")
                yield f"fidelity/{name}", Fidelity(*scored, n_jets=stage.jets, figures=jets is None)

    def codebooks(self) -> Named:
        """A generator on the tokens of each coarser tokenizer, and of the tokenizer itself."""
        stage = self.config.codebooks
        if not (stage.merged and self.config.generator.sizes):
            return
        vocabulary, longest = self.codes
        for codes in stage.merged:
            require(
                2 <= codes < vocabulary - 2,
                f"codebooks.merged: {codes} is not from 2 to {vocabulary - 3}, fewer than the tokenizer's codes",
            )
        for codes in (*stage.merged, vocabulary - 2):
            folder, coder = f"codebooks/k{codes}", self.coder
            if codes < vocabulary - 2:
                coder = f"{folder}/tokenizer"
                yield coder, Coarsen(self.coder, codes)
            yield f"{folder}/train", Encode(self.jets["train"], coder, stage.training.jets)
            held_out = Encode(self.jets["validation"], coder, stage.training.validation_jets)
            yield f"{folder}/validation", held_out
            stores = (f"{folder}/train", f"{folder}/validation", coder)
            with _naming(f"{folder}/generator"):
                run = GeneratorRun(*stores, stage.size, training=stage.training)
                yield f"{folder}/generator", self.trained(run, (codes + 2, longest))

    def taggers(self) -> Named:
        """Taggers and their predictions, at the end of each run and on the way."""
        stage = self.config.tagger
        for width, training, at in _grid(stage, stage.predict_at):
            run = f"tagger/{width}-s{training.seed}"
            yield run, self.of_size("tagger", run, width, training)
            judged = self.jets[REJECTION if self.more_background else "test"]
            for jets in (*at, None):
                yield f"predictions/{sample_name(run, jets)}", Predict(_weights(run, jets), judged)

    def repetition(self) -> Named:
        """Trainings on repeated jets, and those with other inputs."""
        config, stage = self.config, self.config.repetition
        columns = [("generator", size) for size in stage.sizes] + [("tagger", f"d{w}") for w in stage.widths]
        for (task, name), jets, seed in itertools.product(columns, stage.jets, stage.seeds):
            training = _at_rate_of(config.grids[task], name, stage.training_on(jets, seed))
            cell = f"repetition/{name}-u{jets}-s{seed}"
            yield cell, self.of_size(task, cell, name, training)
        others = config.inputs.others.items() if config.inputs.width else ()
        for (name, inputs), jets, seed in itertools.product(others, stage.jets, stage.seeds):
            width = f"d{config.inputs.width}"
            training = _at_rate_of(config.tagger, width, stage.training_on(jets, seed))
            cell = f"inputs/{name}/{width}-u{jets}-s{seed}"
            yield cell, self.of_size("tagger", cell, width, training, inputs)

    def controls(self) -> Named:
        """Trainings that say whether data or their training limit the losses of the grids."""
        for task, name in self.config.controlled.items():
            for training in repeated_trainings(self.config.grids[task], name):
                cell = f"control/{task}/{name}-s{training.seed}"
                yield cell, self.of_size(task, cell, name, training)
        for corner, change in itertools.product(recipe_corners(self.config), CHANGES):
            cell = corner.cell(change)
            yield cell, self.of_size(corner.task, cell, corner.name, corner.changed(change))

    def variations(self) -> Named:
        """Trainings that differ from their stage in some keys."""
        for variation in self.config.variations.runs():
            run_cls, keys = _VARIED[variation.task]
            stage = to_mapping(getattr(self.config, variation.task))
            base = {key: stage[key] for key in keys} | self.data(variation.task)
            with _naming(variation.cell):
                run: Any = from_mapping(run_cls, variation.applied_to(base), variation.task)
                yield variation.cell, self.trained(run)

    def data(self, task: str) -> dict[str, Any]:
        """What the runs of a task read."""
        if task == "generator":
            return {
                "tokens": self.tokens["train"],
                "validation": self.tokens["validation"],
                "tokenizer": self.coder,
            }
        return {"jets": self.jets["train"], "validation": self.jets["validation"]}

    def of_size(
        self, task: str, cell: str, name: str, training: TrainingConfig, inputs: Inputs | None = None
    ) -> Train:
        """Training of a size of a grid, with the grid's settings (taggers: its inputs, or others)."""
        data, tagger, generator = self.data(task), self.config.tagger, self.config.generator
        with _naming(cell):
            if task == "generator":
                return self.trained(
                    GeneratorRun(**data, size=name, model=dict(generator.model), training=training)
                )
            inputs = inputs or Inputs(tagger.features, tagger.max_particles)
            width = int(name.removeprefix("d"))
            run = TaggerRun(
                **data, **asdict(inputs), d_model=width, dropout=tagger.dropout, training=training
            )
            return self.trained(run)

    def trained(self, run: Run, codes: tuple[int, int] | None = None) -> Train:
        """Training of a run, with estimates of its cost; ``codes`` are those of another tokenizer."""
        training = run.training
        flops = self._flops(run, codes)
        held_out_jets = len(training.evaluated_after) * (
            training.validation_jets or self.config.jets.validation
        )
        # Forward passes, a third of a step each.
        held_out_flops = held_out_jets * flops / (3 * training.jets)
        return Train(run, flops * training.total_jets / training.jets, held_out_flops)

    def _flops(self, run: Run, codes: tuple[int, int] | None) -> float:
        """Floating-point operations of a run without branches; of a tokenizer 6 x parameters x particles."""
        jets = run.training.jets
        if isinstance(run, GeneratorRun):
            return generator_flops(run.shape(*(codes or self.codes)), jets, jets * (ASSUMED_PARTICLES + 1))
        if isinstance(run, TaggerRun):
            shape = run.shape(len(resolve_features(run.features)))
            return tagger_flops(shape, jets, jets * min(ASSUMED_PARTICLES, run.max_particles))
        with torch.device("meta"):  # only shapes are needed
            parameters = sum(p.numel() for p in Tokenizer.create(run.model).model.parameters())
        return 6.0 * parameters * jets * ASSUMED_PARTICLES


#: Tasks that vary: the run's configuration, and the keys of the task's stage with which it begins.
_VARIED: Final[dict[str, tuple[type[Run], tuple[str, ...]]]] = {
    "tagger": (TaggerRun, ("features", "max_particles", "dropout", "training")),
    "generator": (GeneratorRun, ("model", "training")),
    "tokenizer": (TokenizerRun, ("model", "training")),
}


def _grid(stage: Grid, on_the_way: Sequence[int]) -> Iterator[tuple[str, TrainingConfig, list[int]]]:
    """Yield name and training of every run (names x seeds), and the numbers of jets at which its weights are kept."""
    for name in stage.names:
        for seed in stage.seeds_for(name):
            training = replace(stage.trained(name), seed=seed)
            at = [jets for jets in on_the_way if jets < training.jets]
            kept = sorted({*training.keep_weights_at, *at})
            yield name, replace(training, keep_weights_at=kept), at


def _weights(run: str, jets: int | None) -> str:
    """Folder of the weights of a run after some jets, or (None) at its end."""
    return run if jets is None else str(weights_folder(Path(run), jets))


def _at_rate_of(grid: Grid, name: str, training: TrainingConfig) -> TrainingConfig:
    """A training at the learning rate of a size, where its grid names one."""
    rate = grid.learning_rates.get(name, training.learning_rate)
    return replace(training, learning_rate=rate)


@contextmanager
def _naming(cell: str) -> Iterator[None]:
    """Put the name of a cell before the message of an error, because a run knows only its own keys."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{cell}: {error}") from error
