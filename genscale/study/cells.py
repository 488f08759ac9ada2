"""The cells of a study: independent pieces of work, each with one output that is whole or absent.

The grid becomes a list of cells; a cell runs when those it needs are done, is skipped when its output is
there, and goes on from its checkpoint when it was killed. A cell's work is one of the functions below, on
plain values, so that it can run in this process, in another, or on another machine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genscale.config import from_mapping, to_mapping
from genscale.errors import InputError
from genscale.files import write_json
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
        Key of :data:`WORK`.
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


# -- the work of each kind of cell: (arguments, study folder, output folder) -----------------------------------


def _simulate(a: dict[str, Any], study: Path, out: Path) -> None:
    import os

    from genscale.data.simulation import simulate

    simulate(out, a["n_jets"], a["classes"], a["seed"], workers=os.cpu_count() or 1, mpi=a["mpi"])


def _train_tokenizer(a: dict[str, Any], study: Path, out: Path) -> None:
    from genscale.training.loop import train
    from genscale.training.tokenizer import TokenizerRun, TokenizerTask

    run = from_mapping(TokenizerRun, _within(a, study, "jets", "validation"), "tokenizer")
    train(TokenizerTask(run), run.training, out)


def _encode(a: dict[str, Any], study: Path, out: Path) -> None:
    from genscale.tokens import encode_store

    encode_store(study / a["jets"], study / a["tokenizer"], out)


def _decode(a: dict[str, Any], study: Path, out: Path) -> None:
    from genscale.tokens import decode_store

    decode_store(study / a["tokens"], study / a["tokenizer"], out, n_jets=a["n_jets"])


def _quality(a: dict[str, Any], study: Path, out: Path) -> None:
    from genscale.tokens import tokenizer_quality

    out.mkdir(parents=True, exist_ok=True)
    tokenizer_quality(
        study / a["tokenizer"], study / a["jets"], out / "quality.json", figure=out / "quality.png"
    )


def _train_generator(a: dict[str, Any], study: Path, out: Path) -> None:
    from genscale.training.generator import GeneratorRun, GeneratorTask
    from genscale.training.loop import train

    run = from_mapping(GeneratorRun, _within(a, study, "tokens", "validation", "tokenizer"), "generator")
    train(GeneratorTask(run), run.training, out)


def _generate(a: dict[str, Any], study: Path, out: Path) -> None:
    from genscale.generation import SamplingConfig
    from genscale.tokens import generate_store

    config = SamplingConfig(temperature=a["temperature"], seed=a["seed"])
    generate_store(study / a["run"], out, a["jets"], config)


def _train_tagger(a: dict[str, Any], study: Path, out: Path) -> None:
    from genscale.training.loop import train
    from genscale.training.tagger import TaggerRun, TaggerTask

    run = from_mapping(TaggerRun, _within(a, study, "jets", "validation"), "tagger")
    train(TaggerTask(run), run.training, out)


def _fidelity(a: dict[str, Any], study: Path, out: Path) -> None:
    from genscale.fidelity import evaluate_stores

    out.mkdir(parents=True, exist_ok=True)
    evaluate_stores(
        study / a["generated"], study / a["reference"], out / "fidelity.json",
        tokenizer_floor=study / a["tokenizer_floor"], n_jets=a["n_jets"], figures=out,
    )  # fmt: skip


def _report(a: dict[str, Any], study: Path, out: Path) -> None:
    from genscale.study.report import write_report

    write_report(study, from_mapping(StudyConfig, a["study"], "study"))
    write_json(out / "done.json", {"report": "report.html"})


def _within(arguments: dict[str, Any], study: Path, *keys: str) -> dict[str, Any]:
    """The arguments with these paths taken from the study's folder."""
    return {**arguments, **{key: str(study / arguments[key]) for key in keys}}


WORK: dict[str, Callable[[dict[str, Any], Path, Path], None]] = {
    "simulate": _simulate,
    "train_tokenizer": _train_tokenizer,
    "encode": _encode,
    "decode": _decode,
    "quality": _quality,
    "train_generator": _train_generator,
    "generate": _generate,
    "train_tagger": _train_tagger,
    "fidelity": _fidelity,
    "report": _report,
}


def run_cell(study: Path, cell_id: str) -> None:
    """Do the work of one cell of a study whose resolved configuration lies in its folder.

    Raises
    ------
    InputError
        If the study has no such cell.
    """
    from genscale.config import load_config

    config = load_config(StudyConfig, study / "study.yaml")
    for cell in study_cells(config):
        if cell.id == cell_id:
            WORK[cell.work](cell.arguments, study, cell.output(study))
            return
    raise InputError(f"{study}: this study has no cell {cell_id}")
