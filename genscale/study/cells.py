"""The cells of a study: independent pieces of work, each with one output that is whole or absent.

The grid becomes a list of cells; a cell runs when those it needs are done, is skipped when its output is
there, and goes on from its checkpoint when it was killed. What a cell does is in ``genscale.study.work``.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from genscale.config import to_mapping
from genscale.data.features import resolve_features
from genscale.errors import InputError
from genscale.models.counting import generator_flops, tagger_flops
from genscale.study.config import GeneratorStage, Inputs, StudyConfig, TaggerStage
from genscale.training.generator import GeneratorRun
from genscale.training.tagger import TaggerRun
from genscale.training.task import TrainingConfig
from genscale.training.tokenizer import TokenizerRun
from tokenizer import Tokenizer

#: Constituents of a jet that FLOP estimates before a run assume (JetClass: 40 on average).
ASSUMED_PARTICLES = 40

#: Stores and stages by their places in a study's folder.
SPLITS = ("train", "validation", "test")


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
        Estimated floating-point operations of a training, 0 for other work. Those of a tokenizer are
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
        """Where the result lies."""
        return study / self.id

    def done(self, study: Path) -> bool:
        """Whether the result is there."""
        return (self.output(study) / self.done_file).exists()


def study_cells(config: StudyConfig) -> list[Cell]:
    """All cells of a study, each after those that it needs.

    Raises
    ------
    InputError
        If a training would refuse its configuration: now, not when its turn comes.
    """
    cells: list[Cell] = []
    jets = {split: f"jets/{split}" for split in SPLITS}
    if not config.jets.stores:
        for i, split in enumerate(SPLITS):
            arguments = {
                "n_jets": getattr(config.jets, split),
                "classes": list(config.jets.classes),
                "seed": config.jets.seed + i,
                "mpi": config.jets.mpi,
            }
            cells.append(Cell(jets[split], "simulate", arguments, (), "manifest.json", all_cores=True))
    stores = {s: (f"{config.jets.stores}/{s}" if config.jets.stores else jets[s]) for s in SPLITS}
    have = {s: () if config.jets.stores else (jets[s],) for s in SPLITS}
    if config.generator.sizes:
        cells += _tokenizer(config, stores, have)
        cells += _generators(config, stores["test"])
    cells += _taggers(config, stores, (*have["train"], *have["validation"], *have["test"]))
    cells += _repetition(config, stores, (*have["train"], *have["validation"]))
    inner = {need for c in cells for need in c.needs}
    ends = tuple(c.id for c in cells if c.id not in inner)
    report = {"study": to_mapping(config)}
    cells.append(Cell("report", "report", report, ends, "done.json"))
    return cells


def _tokenizer(config: StudyConfig, stores: dict[str, str], have: dict[str, Any]) -> list[Cell]:
    stage = config.tokenizer
    with _naming("tokenizer"):
        run = TokenizerRun(stores["train"], stores["validation"], stage.model, stage.training)
    needs = (*have["train"], *have["validation"])
    cells = [_training(config, "tokenizer", "train_tokenizer", run, needs, _tokenizer_flops(run))]
    for split in ("train", "validation"):
        arguments = {"jets": stores[split], "tokenizer": "tokenizer"}
        cells.append(
            Cell(f"tokens/{split}", "encode", arguments, ("tokenizer", *have[split]), "manifest.json")
        )
    # The tokenizer-only jets are other jets than the reference, as generated ones are: their distance to the
    # reference holds the same sampling noise.
    decoded = {"tokens": "tokens/validation", "tokenizer": "tokenizer", "n_jets": config.samples.jets}
    cells.append(Cell("samples/tokenizer", "decode", decoded, ("tokens/validation",), "manifest.json"))
    measured = {"tokenizer": "tokenizer", "jets": stores["test"]}
    cells.append(Cell("quality", "quality", measured, ("tokenizer", *have["test"]), "quality.json"))
    return cells


def _tokenizer_flops(run: TokenizerRun) -> float:
    with torch.device("meta"):  # only the shapes are wanted
        parameters = sum(p.numel() for p in Tokenizer.create(run.model).model.parameters())
    return 6.0 * parameters * run.training.jets * ASSUMED_PARTICLES


def _grid(stage: GeneratorStage | TaggerStage) -> Iterator[tuple[int, str, TrainingConfig]]:
    """Place in the grid, name and training of every run: names x seeds."""
    for place, name in enumerate(stage.names):
        for seed in stage.seeds_of.get(name, stage.seeds):
            yield (
                place,
                name,
                dataclasses.replace(
                    stage.training,
                    seed=seed,
                    jets=stage.jets_of.get(name, stage.training.jets),
                    learning_rate=stage.learning_rates.get(name, stage.training.learning_rate),
                ),
            )


def _generators(config: StudyConfig, test: str) -> list[Cell]:
    stage, cells = config.generator, []
    tokens = ("tokens/train", "tokens/validation")
    codes = config.tokenizer.model
    for _, size, training in _grid(stage):
        name = f"{size}-s{training.seed}"
        run = f"generator/{name}"
        with _naming(run):
            generator = GeneratorRun(*tokens, "tokenizer", size, model=dict(stage.model), training=training)
            shape = generator.shape(codes.codebook_size + 2, codes.preprocessing.max_constituents)
        flops = generator_flops(shape, training.jets, training.jets * (ASSUMED_PARTICLES + 1))
        cells.append(_training(config, run, "train_generator", generator, tokens, flops))
        samples = to_mapping(config.samples)
        cells.append(Cell(f"samples/{name}", "generate", {"run": run, **samples}, (run,), "manifest.json"))
        scored = {
            "generated": f"samples/{name}", "reference": test, "tokenizer_floor": "samples/tokenizer",
            "n_jets": config.samples.jets,
        }  # fmt: skip
        needs = (f"samples/{name}", "samples/tokenizer")
        cells.append(Cell(f"fidelity/{name}", "fidelity", scored, needs, "fidelity.json"))
    return cells


def _taggers(config: StudyConfig, stores: dict[str, str], needs: tuple[str, ...]) -> list[Cell]:
    stage, cells = config.tagger, []
    for place, size, training in _grid(stage):
        inputs = Inputs(stage.features, stage.max_particles)
        name, width = f"{size}-s{training.seed}", stage.widths[place]
        cells.append(_tagger(config, stores, f"tagger/{name}", width, inputs, training, needs))
        predicted = {"run": f"tagger/{name}", "jets": stores["test"]}
        cells.append(
            Cell(f"predictions/{name}", "predict", predicted, (f"tagger/{name}",), "predictions.npz")
        )
    return cells


def _repetition(config: StudyConfig, stores: dict[str, str], needs: tuple[str, ...]) -> list[Cell]:
    stage, cells = config.repetition, []
    own = Inputs(config.tagger.features, config.tagger.max_particles)
    columns = [("repetition", width, own) for width in stage.widths]
    if config.inputs.width:
        others = config.inputs.others.items()
        columns += [(f"inputs/{name}", config.inputs.width, other) for name, other in others]
    for (folder, width, inputs), jets, seed in itertools.product(columns, stage.jets, stage.seeds):
        training = dataclasses.replace(
            stage.training,
            seed=seed,
            jets_unique=jets,
            jets=min(stage.training.jets, jets * stage.epochs),
            evaluate_every_jets=max(stage.training.evaluate_every_jets, jets),
            learning_rate=config.tagger.learning_rates.get(f"d{width}", stage.training.learning_rate),
        )
        name = f"{folder}/d{width}-u{jets}-s{seed}"
        cells.append(_tagger(config, stores, name, width, inputs, training, needs))
    return cells


def _tagger(
    config: StudyConfig,
    stores: dict[str, str],
    name: str,
    width: int,
    inputs: Inputs,
    training: TrainingConfig,
    needs: tuple[str, ...],
) -> Cell:
    with _naming(name):
        run = TaggerRun(
            stores["train"], stores["validation"], width, features=inputs.features,
            max_particles=inputs.max_particles, dropout=config.tagger.dropout, training=training,
        )  # fmt: skip
        shape = run.shape(len(resolve_features(run.features)))
    flops = tagger_flops(shape, training.jets, training.jets * min(ASSUMED_PARTICLES, run.max_particles))
    return _training(config, name, "train_tagger", run, needs, flops)


def _training(
    config: StudyConfig,
    name: str,
    work: str,
    run: TokenizerRun | GeneratorRun | TaggerRun,
    needs: tuple[str, ...],
    flops: float,
) -> Cell:
    training = run.training
    held_out_jets = len(training.evaluated_after) * (training.validation_jets or config.jets.validation)
    # Forward passes, a third of a step each.
    held_out_flops = held_out_jets * flops / (3 * training.jets)
    return Cell(
        name, work, to_mapping(run), needs, "record.json",
        flops=flops, held_out_flops=held_out_flops, steps=training.n_steps,
    )  # fmt: skip


@contextmanager
def _naming(cell: str) -> Iterator[None]:
    """Put a cell's name before an error: a run knows its own keys only."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{cell}: {error}") from error
