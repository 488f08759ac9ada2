"""The work of each kind of cell, with plain values as arguments, so that it can run in any process on any machine.

Every function takes the arguments of the cell, the folder of the study and the folder of the output, and resumes its
work if it is called again after it was killed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from genscale.config import from_mapping, load_config
from genscale.errors import InputError
from genscale.files import write_json
from genscale.inference.device import resolve_device
from genscale.study.cells import Cell, study_cells
from genscale.study.config import StudyConfig


def _simulate(a: dict[str, Any], study: Path, out: Path) -> None:
    from genscale.data.simulation import simulate
    from genscale.processes import available_cores

    simulate(
        out, a["n_jets"], a["classes"], a["seed"],
        workers=available_cores(), mpi=a["mpi"], jets_of=a.get("jets_of"),
    )  # fmt: skip


def _train_tokenizer(a: dict[str, Any], study: Path, out: Path) -> None:
    from genscale.training.loop import train
    from genscale.training.tokenizer import TokenizerRun, TokenizerTask

    run = from_mapping(TokenizerRun, _within(a, study, "jets", "validation"), "tokenizer")
    train(TokenizerTask(run), run.training, out)


def _encode(a: dict[str, Any], study: Path, out: Path) -> None:
    from genscale.inference.stores import encode_store

    encode_store(
        study / a["jets"],
        study / a["tokenizer"],
        out,
        n_jets=a.get("n_jets", 0),
        device=resolve_device("auto"),
    )


def _coarsen(a: dict[str, Any], study: Path, out: Path) -> None:
    from genscale.inference.stores import coarsen_tokenizer

    coarsen_tokenizer(study / a["tokenizer"], out, a["codes"])


def _decode(a: dict[str, Any], study: Path, out: Path) -> None:
    from genscale.inference.stores import decode_store

    decode_store(
        study / a["tokens"], study / a["tokenizer"], out, n_jets=a["n_jets"], device=resolve_device("auto")
    )


def _quality(a: dict[str, Any], study: Path, out: Path) -> None:
    from genscale.inference.stores import tokenizer_quality

    out.mkdir(parents=True, exist_ok=True)
    tokenizer_quality(
        study / a["tokenizer"], study / a["jets"], out / "quality.json", figure=out / "quality.png",
        device=resolve_device("auto"),
    )  # fmt: skip


def _train_generator(a: dict[str, Any], study: Path, out: Path) -> None:
    from genscale.training.generator import GeneratorRun, GeneratorTask
    from genscale.training.loop import train

    run = from_mapping(GeneratorRun, _within(a, study, "tokens", "validation", "tokenizer"), "generator")
    train(GeneratorTask(run), run.training, out)


def _generate(a: dict[str, Any], study: Path, out: Path) -> None:
    from genscale.inference.sampling import SamplingConfig
    from genscale.inference.stores import generate_store

    config = SamplingConfig(temperature=a["temperature"], seed=a["seed"])
    generate_store(study / a["run"], out, a["jets"], config, device=resolve_device("auto"))


def _train_tagger(a: dict[str, Any], study: Path, out: Path) -> None:
    from genscale.training.loop import train
    from genscale.training.tagger import TaggerRun, TaggerTask

    run = from_mapping(TaggerRun, _within(a, study, "jets", "validation"), "tagger")
    train(TaggerTask(run), run.training, out)


def _predict(a: dict[str, Any], study: Path, out: Path) -> None:
    from genscale.inference.prediction import predict_store

    out.mkdir(parents=True, exist_ok=True)
    predict_store(study / a["run"], study / a["jets"], out / "predictions.npz", device=resolve_device("auto"))


def _fidelity(a: dict[str, Any], study: Path, out: Path) -> None:
    from genscale.fidelity import evaluate_stores

    out.mkdir(parents=True, exist_ok=True)
    evaluate_stores(
        study / a["generated"], study / a["reference"], out / "fidelity.json",
        tokenizer_floor=study / a["tokenizer_floor"], n_jets=a["n_jets"], figures=out if a["figures"] else None,
    )  # fmt: skip


def _report(a: dict[str, Any], study: Path, out: Path) -> None:
    from genscale.study.report.page import write_report

    write_report(study, from_mapping(StudyConfig, a["study"], "study"))
    write_json(out / "done.json", {"report": "report.html"})


def _within(arguments: dict[str, Any], study: Path, *keys: str) -> dict[str, Any]:
    """Return the arguments with these paths relative to the study's folder made complete."""
    return {**arguments, **{key: str(study / arguments[key]) for key in keys}}


WORK: dict[str, Callable[[dict[str, Any], Path, Path], None]] = {
    "simulate": _simulate,
    "train_tokenizer": _train_tokenizer,
    "encode": _encode,
    "coarsen": _coarsen,
    "decode": _decode,
    "quality": _quality,
    "train_generator": _train_generator,
    "generate": _generate,
    "train_tagger": _train_tagger,
    "predict": _predict,
    "fidelity": _fidelity,
    "report": _report,
}


def run_cell(study: Path, cell_id: str) -> None:
    """Do the work of one cell of a study whose resolved configuration is in its folder.

    Parameters
    ----------
    study : Path
        Folder of the study.
    cell_id : str
        Name of the cell.

    Raises
    ------
    InputError
        The study has no such cell.
    """
    cells = read_cells(study)
    if cell_id not in cells:
        raise InputError(f"{study}: this study has no cell {cell_id}")
    do(cells[cell_id], study)


def read_cells(study: Path) -> dict[str, Cell]:
    """Return the cells by id of a study whose resolved configuration is in its folder."""
    return {cell.id: cell for cell in study_cells(load_config(StudyConfig, study / "study.yaml"))}


def do(cell: Cell, study: Path) -> None:
    """Do the work of a cell."""
    WORK[cell.work](cell.arguments, study, cell.output(study))
