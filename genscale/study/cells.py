"""The cells of a study: independent pieces of work, each with one output that is whole or absent.

The grid becomes a list of cells; a cell runs when those it needs are done, is skipped when its output is
there, and goes on from its checkpoint when it was killed. What a cell does is in ``genscale.study.work``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genscale.config import to_mapping
from genscale.study.config import StudyConfig

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
        Estimated floating-point operations, 0 if not known.
    """

    id: str
    work: str
    arguments: dict[str, Any]
    needs: tuple[str, ...] = ()
    done_file: str = ""
    all_cores: bool = False
    flops: float = field(default=0.0, compare=False)

    def output(self, study: Path) -> Path:
        """Where the result lies."""
        return study / self.id

    def done(self, study: Path) -> bool:
        """Whether the result is there."""
        return (self.output(study) / self.done_file).exists()


def study_cells(config: StudyConfig) -> list[Cell]:
    """All cells of a study, each after those that it needs."""
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

    tokenizer = {
        "jets": stores["train"], "validation": stores["validation"], **to_mapping(config.tokenizer),
    }  # fmt: skip
    needs = (*have["train"], *have["validation"])
    cells.append(Cell("tokenizer", "train_tokenizer", tokenizer, needs, "record.json"))
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
    cells += _taggers(config, stores, needs)
    cells += _generators(config, stores["test"])
    ends = tuple(c.id for c in cells if c.work in ("train_generator", "train_tagger", "fidelity", "quality"))
    report = {"study": to_mapping(config)}
    cells.append(Cell("report", "report", report, ends, "done.json"))
    return cells


def _generators(config: StudyConfig, test: str) -> list[Cell]:
    stage, cells = config.generator, []
    for size in stage.sizes:
        for seed in stage.seeds:
            name = f"{size}-s{seed}"
            rate = stage.learning_rates.get(size, stage.training.learning_rate)
            training = dataclasses.replace(stage.training, seed=seed, learning_rate=rate)
            arguments = {
                "tokens": "tokens/train", "validation": "tokens/validation", "tokenizer": "tokenizer", "size": size,
                "class_conditional": stage.class_conditional, "model": dict(stage.model),
                "training": to_mapping(training),
            }  # fmt: skip
            run = f"generator/{name}"
            cells.append(
                Cell(run, "train_generator", arguments, ("tokens/train", "tokens/validation"), "record.json",
                     flops=_generator_flops(config, size))
            )  # fmt: skip
            samples = to_mapping(config.samples)
            cells.append(
                Cell(f"samples/{name}", "generate", {"run": run, **samples}, (run,), "manifest.json")
            )
            scored = {
                "generated": f"samples/{name}", "reference": test, "tokenizer_floor": "samples/tokenizer",
                "n_jets": config.samples.jets,
            }  # fmt: skip
            needs = (f"samples/{name}", "samples/tokenizer")
            cells.append(Cell(f"fidelity/{name}", "fidelity", scored, needs, "fidelity.json"))
    return cells


def _taggers(config: StudyConfig, stores: dict[str, str], needs: tuple[str, ...]) -> list[Cell]:
    stage, cells = config.tagger, []
    for width in stage.widths:
        for seed in stage.seeds:
            rate = stage.learning_rates.get(f"d{width}", stage.training.learning_rate)
            training = dataclasses.replace(stage.training, seed=seed, learning_rate=rate)
            arguments = {
                "jets": stores["train"], "validation": stores["validation"], "d_model": width,
                "features": stage.features, "max_particles": stage.max_particles, "dropout": stage.dropout,
                "training": to_mapping(training),
            }  # fmt: skip
            cells.append(
                Cell(f"tagger/d{width}-s{seed}", "train_tagger", arguments, needs, "record.json",
                     flops=_tagger_flops(config, width))
            )  # fmt: skip
    return cells


#: Constituents of a jet that FLOP estimates before a run assume (JetClass: 40 on average).
ASSUMED_PARTICLES = 40


def _generator_flops(config: StudyConfig, size: str) -> float:
    from genscale.models.counting import generator_flops
    from genscale.models.ladder import generator_config

    shape = generator_config(size, config.tokenizer.model.codebook_size + 2, **config.generator.model)
    jets = config.generator.training.jets
    return generator_flops(shape, jets, jets * (ASSUMED_PARTICLES + 1))


def _tagger_flops(config: StudyConfig, width: int) -> float:
    from genscale.models.counting import tagger_flops
    from genscale.models.tagger import TaggerConfig

    jets = config.tagger.training.jets
    return tagger_flops(TaggerConfig(width), jets, jets * ASSUMED_PARTICLES)
