"""The cells of a study: independent pieces of work, each with one output that is complete or absent.

A cell runs when the cells that it needs are done, is skipped if its output exists, and is resumed from its checkpoint
if it was killed. The work itself is in ``genscale.study.work``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import torch

from genscale.config import from_mapping, require, to_mapping
from genscale.data.features import resolve_features
from genscale.errors import InputError
from genscale.models.counting import generator_flops, tagger_flops
from genscale.study.config import Grid, Inputs, StudyConfig
from genscale.study.controls import CHANGES, recipe_corners, repeated_trainings
from genscale.training.generator import GeneratorRun
from genscale.training.tagger import TaggerRun
from genscale.training.task import TrainingConfig, weights_folder
from genscale.training.tokenizer import TokenizerRun
from tokenizer import Tokenizer

#: Number of constituents of a jet for estimates of FLOPs before a run (the mean of JetClass is 40).
ASSUMED_PARTICLES = 40

#: Stores and stages by their folders within a study.
SPLITS = ("train", "validation", "test")
REJECTION = "rejection"
TOKEN_SPLITS = ("train", "validation")


@dataclass(frozen=True)
class Cell:
    """One piece of work.

    Attributes
    ----------
    id : str
        Also the path of its output within the study's folder.
    work : str
        Key of ``genscale.study.work.WORK``.
    arguments : dict
        Plain values.
    needs : tuple of str
        Cells that must be done before.
    done_file : str
        File within the output whose presence says that the output is whole.
    all_cores : bool
        It uses every core by itself.
    flops : float
        Estimated floating-point operations of a training with its branches, 0 for other work. Those of a tokenizer are
        6 x parameters x particles, as in its record.
    held_out_flops : float
        Estimated floating-point operations of its held-out losses, which come on top.
    steps : int
        Optimizer steps, of a training.
    """

    id: str
    work: str
    arguments: dict[str, Any]
    needs: tuple[str, ...] = ()
    done_file: str = ""
    all_cores: bool = False
    flops: float = field(default=0.0, compare=False)
    held_out_flops: float = field(default=0.0, compare=False)
    steps: int = field(default=0, compare=False)

    def output(self, study: Path) -> Path:
        """Return the folder of the result."""
        return study / self.id

    def done(self, study: Path) -> bool:
        """Whether the result is complete."""
        return (self.output(study) / self.done_file).exists()


@dataclass(frozen=True)
class _Source:
    """A store or a model that cells read, and the cell that makes it, unless it was given."""

    path: str
    made_by: tuple[str, ...]


def _source(cell: str, given: str = "") -> _Source:
    return _Source(given, ()) if given else _Source(cell, (cell,))


@dataclass(frozen=True)
class _Sources:
    """The jets and tokens of a study by split, and its tokenizer."""

    config: StudyConfig

    @property
    def jets(self) -> dict[str, _Source]:
        folder = self.config.jets.stores
        splits = (*SPLITS, REJECTION) if self.more_background else SPLITS
        return {split: _source(f"jets/{split}", folder and f"{folder}/{split}") for split in splits}

    @property
    def more_background(self) -> bool:
        """Whether taggers are judged on a store with more background than the test jets."""
        given = self.config.jets.stores
        return (Path(given) / REJECTION).is_dir() if given else bool(self.config.jets.rejection_of)

    @property
    def judged(self) -> _Source:
        """The jets that taggers are judged on."""
        return self.jets[REJECTION if self.more_background else "test"]

    @property
    def tokens(self) -> dict[str, _Source]:
        folder = self.config.tokenizer.tokens
        return {split: _source(f"tokens/{split}", folder and f"{folder}/{split}") for split in TOKEN_SPLITS}

    @property
    def tokenizer(self) -> _Source:
        return _source("tokenizer", self.config.tokenizer.folder)

    @property
    def trained_on(self) -> tuple[str, ...]:
        """The cells that make the jets of trainings and of held-out losses."""
        return (*self.jets["train"].made_by, *self.jets["validation"].made_by)

    @cached_property
    def codes(self) -> tuple[int, int]:
        """Return the size of the vocabulary and the length of the longest jet of the tokenizer."""
        if self.config.tokenizer.folder:
            given = Tokenizer.load(self.config.tokenizer.folder)
            return given.vocab_size, given.max_constituents
        model = self.config.tokenizer.model
        return model.codebook_size + 2, model.preprocessing.max_constituents


def token_codes(config: StudyConfig) -> tuple[int, int]:
    """Vocabulary and longest jet of a study's tokenizer, trained or given."""
    return _Sources(config).codes


def study_cells(config: StudyConfig) -> list[Cell]:
    """Return all cells of a study, each after those that it needs.

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
    sources = _Sources(config)
    cells = _tokenizer(sources)
    cells += _generators(sources)
    cells += _codebooks(sources)
    cells += _taggers(sources)
    cells += _repetition(sources)
    cells += _controls(sources)
    cells += _variations(sources)
    inner = {need for c in cells for need in c.needs}
    ends = tuple(c.id for c in cells if c.id not in inner)
    report = {"study": to_mapping(config)}
    cells.append(Cell("report", "report", report, ends, "done.json"))
    return [c for c in _simulations(config) if c.id in inner] + cells


def splits_read(config: StudyConfig) -> tuple[str, ...]:
    """Return the splits of the jets that are read by some cell of the study."""
    read = {
        value for cell in study_cells(config) for value in cell.arguments.values() if isinstance(value, str)
    }
    return tuple(split for split, store in _Sources(config).jets.items() if store.path in read)


def _simulations(config: StudyConfig) -> list[Cell]:
    cells = []
    jets = config.jets
    shared = {"classes": list(jets.classes), "mpi": jets.mpi}
    for i, split in enumerate(SPLITS):
        arguments = {"n_jets": getattr(jets, split), "seed": jets.seed + i, **shared}
        cells.append(Cell(f"jets/{split}", "simulate", arguments, (), "manifest.json", all_cores=True))
    if jets.rejection_of:
        more = {**cells[-1].arguments, "jets_of": dict(jets.rejection_of)}  # than the test jets
        cells.append(Cell(f"jets/{REJECTION}", "simulate", more, (), "manifest.json", all_cores=True))
    return cells


def _tokenizer(sources: _Sources) -> list[Cell]:
    """Return the cells of the tokenizer and its tokens, as far as they are needed and not given."""
    config, jets, tokenizer = sources.config, sources.jets, sources.tokenizer
    if not (config.generator.sizes or config.variations.generator):
        return []
    stage = config.tokenizer
    cells = []
    if tokenizer.made_by:
        with _naming("tokenizer"):
            run = TokenizerRun(jets["train"].path, jets["validation"].path, stage.model, stage.training)
        cells.append(_tokenizer_cell("tokenizer", run, sources))
    for split, tokens in sources.tokens.items():
        if tokens.made_by:
            arguments = {"jets": jets[split].path, "tokenizer": tokenizer.path}
            needs = (*tokenizer.made_by, *jets[split].made_by)
            cells.append(Cell(tokens.path, "encode", arguments, needs, "manifest.json"))
    if config.generator.sizes:
        # The jets that are only encoded and decoded differ from those of the reference, as generated jets do, so that
        # their distance from the reference contains the same sampling noise.
        held_out = sources.tokens["validation"]
        decoded = {"tokens": held_out.path, "tokenizer": tokenizer.path, "n_jets": config.samples.jets}
        needs = (*held_out.made_by, *tokenizer.made_by)
        cells.append(Cell("samples/tokenizer", "decode", decoded, needs, "manifest.json"))
        measured = {"tokenizer": tokenizer.path, "jets": jets["test"].path}
        needs = (*tokenizer.made_by, *jets["test"].made_by)
        cells.append(Cell("quality", "quality", measured, needs, "quality.json"))
    return cells


def _tokenizer_cell(name: str, run: TokenizerRun, sources: _Sources) -> Cell:
    with torch.device("meta"):  # only shapes are needed
        parameters = sum(p.numel() for p in Tokenizer.create(run.model).model.parameters())
    flops = 6.0 * parameters * run.training.jets * ASSUMED_PARTICLES
    return _training(sources.config, name, "train_tokenizer", run, sources.trained_on, flops)


def _grid(stage: Grid, on_the_way: Sequence[int] = ()) -> Iterator[tuple[str, TrainingConfig, list[int]]]:
    """Yield name and training of every run (names x seeds), and the numbers of jets at which its weights are kept."""
    for name in stage.names:
        for seed in stage.seeds_for(name):
            training = dataclasses.replace(stage.trained(name), seed=seed)
            at = [jets for jets in on_the_way if jets < training.jets]
            kept = sorted({*training.keep_weights_at, *at})
            yield name, dataclasses.replace(training, keep_weights_at=kept), at


def _weights(run: str, jets: int | None) -> str:
    """Return the folder of the weights of a run after some jets, or (None) at its end."""
    return run if jets is None else str(weights_folder(Path(run), jets))


def _generators(sources: _Sources) -> list[Cell]:
    cells = []
    for size, training, at in _grid(sources.config.generator, sources.config.samples.at):
        run = f"generator/{size}-s{training.seed}"
        cells.append(_trained("generator", run, size, training, sources))
        for jets in (*at, None):
            cells += _sample(run, jets, sources)
    return cells


def sample_name(run: str, jets: int | None = None) -> str:
    """Name of the sample that a run's weights make after this many jets, or (None) at its end."""
    name = run.split("/")[-1]
    return name if jets is None else f"{name}-d{jets}"


def sample_seed(seed: int, name: str) -> int:
    """Seed of a named sample: samples of different names share no random numbers, so their errors are independent."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:4], "big")


def _sample(run: str, jets: int | None, sources: _Sources) -> list[Cell]:
    """Return the cells that sample a generator after some jets, or (None) at its end, and score the sample."""
    stage, name = sources.config.samples, sample_name(run, jets)
    drawn = {
        "run": _weights(run, jets), "jets": stage.jets,
        "temperature": stage.temperature, "seed": sample_seed(stage.seed, name),
    }  # fmt: skip
    scored = {
        "generated": f"samples/{name}", "reference": sources.jets["test"].path,
        "tokenizer_floor": "samples/tokenizer", "n_jets": stage.jets, "figures": jets is None,
    }  # fmt: skip
    needs = (f"samples/{name}", "samples/tokenizer", *sources.jets["test"].made_by)
    return [
        Cell(f"samples/{name}", "generate", drawn, (run,), "manifest.json"),
        Cell(f"fidelity/{name}", "fidelity", scored, needs, "fidelity.json"),
    ]


def _codebooks(sources: _Sources) -> list[Cell]:
    """Return the cells that train a generator on the tokens of each coarser tokenizer and of the tokenizer itself."""
    stage, cells = sources.config.codebooks, list[Cell]()
    if not (stage.merged and sources.config.generator.sizes):
        return cells
    vocabulary, longest = sources.codes
    for codes in stage.merged:
        require(
            2 <= codes < vocabulary - 2,
            f"codebooks.merged: {codes} is not from 2 to {vocabulary - 3}, fewer than the tokenizer's codes",
        )
    jets = {"train": stage.training.jets, "validation": stage.training.validation_jets}
    for codes in (*stage.merged, vocabulary - 2):
        folder, tokenizer = codebook_folder(codes), sources.tokenizer
        if codes < vocabulary - 2:
            merge = {"tokenizer": tokenizer.path, "codes": codes}
            tokenizer = _source(f"{folder}/tokenizer")
            done = "tokenizer.json"
            cells.append(Cell(tokenizer.path, "coarsen", merge, sources.tokenizer.made_by, done))
        tokens = [f"{folder}/{split}" for split in TOKEN_SPLITS]
        for path, split in zip(tokens, TOKEN_SPLITS, strict=True):
            store = sources.jets[split]
            arguments = {"jets": store.path, "tokenizer": tokenizer.path, "n_jets": jets[split]}
            needs = (*tokenizer.made_by, *store.made_by)
            cells.append(Cell(path, "encode", arguments, needs, "manifest.json"))
        with _naming(f"{folder}/generator"):
            run = GeneratorRun(tokens[0], tokens[1], tokenizer.path, stage.size, training=stage.training)
            shape = run.shape(codes + 2, longest)
        flops = generator_flops(shape, stage.training.jets, stage.training.jets * (ASSUMED_PARTICLES + 1))
        cells.append(
            _training(sources.config, f"{folder}/generator", "train_generator", run, tuple(tokens), flops)
        )
    return cells


def codebook_folder(codes: int) -> str:
    """Return the folder, within a study, of what is trained with this number of codes."""
    return f"codebooks/k{codes}"


def _trained(task: str, cell: str, name: str, training: TrainingConfig, sources: _Sources) -> Cell:
    """A training of a task's size in the form of its grid."""
    config = sources.config
    with _naming(cell):
        if task == "tagger":
            inputs = Inputs(config.tagger.features, config.tagger.max_particles)
            return _tagger_cell(cell, _tagger_run(sources, int(name[1:]), inputs, training), sources)
        train, validation = (sources.tokens[split].path for split in TOKEN_SPLITS)
        model = dict(config.generator.model)
        run = GeneratorRun(train, validation, sources.tokenizer.path, name, model=model, training=training)
        return _generator_cell(cell, run, sources)


def _generator_cell(name: str, run: GeneratorRun, sources: _Sources) -> Cell:
    jets = run.training.jets
    flops = generator_flops(run.shape(*sources.codes), jets, jets * (ASSUMED_PARTICLES + 1))
    made_by = (cell for store in sources.tokens.values() for cell in store.made_by)
    needs = (*made_by, *sources.tokenizer.made_by)
    return _training(sources.config, name, "train_generator", run, needs, flops)


def _taggers(sources: _Sources) -> list[Cell]:
    cells, stage, jets = [], sources.config.tagger, sources.judged
    for width, training, at in _grid(stage, stage.predict_at):
        run = f"tagger/{width}-s{training.seed}"
        cells.append(_trained("tagger", run, width, training, sources))
        for seen in (*at, None):
            name = f"predictions/{sample_name(run, seen)}"
            predicted = {"run": _weights(run, seen), "jets": jets.path}
            cells.append(Cell(name, "predict", predicted, (run, *jets.made_by), "predictions.npz"))
    return cells


def _repetition(sources: _Sources) -> list[Cell]:
    config, cells = sources.config, []
    stage = config.repetition
    columns = [("generator", size) for size in stage.sizes] + [("tagger", f"d{w}") for w in stage.widths]
    for (task, name), jets, seed in itertools.product(columns, stage.jets, stage.seeds):
        training = _at_rate_of(config.grids[task], name, stage.training_on(jets, seed))
        cells.append(_trained(task, f"repetition/{name}-u{jets}-s{seed}", name, training, sources))
    others = config.inputs.others.items() if config.inputs.width else ()
    for (name, inputs), jets, seed in itertools.product(others, stage.jets, stage.seeds):
        width = config.inputs.width
        training = _at_rate_of(config.tagger, f"d{width}", stage.training_on(jets, seed))
        cell = f"inputs/{name}/d{width}-u{jets}-s{seed}"
        with _naming(cell):
            cells.append(_tagger_cell(cell, _tagger_run(sources, width, inputs, training), sources))
    return cells


def _at_rate_of(grid: Grid, name: str, training: TrainingConfig) -> TrainingConfig:
    """A training at the learning rate of a size, where its grid names one."""
    rate = grid.learning_rates.get(name, training.learning_rate)
    return dataclasses.replace(training, learning_rate=rate)


def _controls(sources: _Sources) -> list[Cell]:
    """Runs that say whether data or their training limit the losses of the grids."""
    config = sources.config
    cells = [
        _trained(task, f"control/{task}/{name}-s{training.seed}", name, training, sources)
        for task, name in config.controlled.items()
        for training in repeated_trainings(config.grids[task], name)
    ]
    for corner in recipe_corners(config):
        for change in CHANGES:
            cells.append(
                _trained(corner.task, corner.cell(change), corner.name, corner.changed(change), sources)
            )
    return cells


def _tagger_run(sources: _Sources, width: int, inputs: Inputs, training: TrainingConfig) -> TaggerRun:
    return TaggerRun(
        sources.jets["train"].path, sources.jets["validation"].path, width, features=inputs.features,
        max_particles=inputs.max_particles, dropout=sources.config.tagger.dropout, training=training,
    )  # fmt: skip


def _tagger_cell(name: str, run: TaggerRun, sources: _Sources) -> Cell:
    shape, jets = run.shape(len(resolve_features(run.features))), run.training.jets
    flops = tagger_flops(shape, jets, jets * min(ASSUMED_PARTICLES, run.max_particles))
    return _training(sources.config, name, "train_tagger", run, sources.trained_on, flops)


#: Tasks that vary: the run's configuration, the keys of its stage that it begins with, and what makes its cell.
_VARIED: Final[dict[str, tuple[type, tuple[str, ...], Callable[..., Cell]]]] = {
    "tagger": (TaggerRun, ("features", "max_particles", "dropout", "training"), _tagger_cell),
    "generator": (GeneratorRun, ("model", "training"), _generator_cell),
    "tokenizer": (TokenizerRun, ("model", "training"), _tokenizer_cell),
}


def _variations(sources: _Sources) -> list[Cell]:
    """Return the cells of trainings that differ from their stage in some keys."""
    cells = []
    for variation in sources.config.variations.runs():
        run_cls, keys, cell = _VARIED[variation.task]
        stage = to_mapping(getattr(sources.config, variation.task))
        stores = sources.tokens if variation.task == "generator" else sources.jets
        base = {key: stage[key] for key in keys} | {"validation": stores["validation"].path}
        if variation.task == "generator":
            base |= {"tokens": stores["train"].path, "tokenizer": sources.tokenizer.path}
        else:
            base |= {"jets": stores["train"].path}
        with _naming(variation.cell):
            run: Any = from_mapping(run_cls, variation.applied_to(base), variation.task)
            cells.append(cell(variation.cell, run, sources))
    return cells


def _training(
    config: StudyConfig,
    name: str,
    work: str,
    run: TokenizerRun | GeneratorRun | TaggerRun,
    needs: tuple[str, ...],
    flops: float,
) -> Cell:
    training = run.training
    trained = flops * training.total_jets / training.jets
    held_out_jets = len(training.evaluated_after) * (training.validation_jets or config.jets.validation)
    # Forward passes, a third of a step each.
    held_out_flops = held_out_jets * flops / (3 * training.jets)
    return Cell(
        name, work, to_mapping(run), needs, "record.json",
        flops=trained, held_out_flops=held_out_flops, steps=training.total_steps,
    )  # fmt: skip


@contextmanager
def _naming(cell: str) -> Iterator[None]:
    """Put the name of a cell before the message of an error, because a run knows only its own keys."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{cell}: {error}") from error
