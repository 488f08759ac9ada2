"""Running a study: cells start when those that they need are done; finished ones are skipped."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from genscale.config import save_yaml, to_mapping
from genscale.data.manifest import Manifest
from genscale.errors import CellFailed, InputError, Interrupted
from genscale.files import locked
from genscale.processes import on_stop_signals
from genscale.records import RunRecord
from genscale.study.backends import Backend, Job
from genscale.study.cells import REJECTION, TOKEN_SPLITS, Cell, splits_read, study_cells
from genscale.study.config import StudyConfig
from genscale.study.costs import Costs
from genscale.study.jobs import Train
from genscale.study.plan import REPORT, new_since, planned_cells
from genscale.study.report.page import Report
from genscale.study.results.study import read_config


@dataclass
class _Running:
    cell: Cell
    job: Job
    started: float


def run_study(config: StudyConfig, folder: Path, backend: Backend, *, progress: bool = True) -> Path:
    """Run all cells of a study that are not done yet, and write its report.

    Parameters
    ----------
    config : StudyConfig
        The study.
    folder : Path
        Folder of its results.
    backend : Backend
        Where the cells run.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Path
        The report.

    Raises
    ------
    InputError
        The folder is in use or holds a study with another configuration.
    CellFailed
        A cell failed; the other running cells are stopped and are resumed by the next call.
    """
    config = _anchored(config)
    cells = planned_cells(config)  # raises for unknown sizes or features, before a folder is made
    with locked(folder):
        if grown := new_since(folder):
            tqdm.write(f"{grown}; they are run now")
        _claim(config, folder)
        if all(c.done(folder) for c in cells):
            return folder / "report.html"
        (folder / REPORT / Report.done_file).unlink(missing_ok=True)  # it is made again with the new cells
        waiting = [c for c in cells if not c.done(folder)]
        bar = tqdm(
            total=len(cells), initial=len(cells) - len(waiting), unit="step",
            disable=None if progress else True,  # None: shown on a terminal only, where it overwrites itself
            bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} steps [{elapsed}] {postfix}",
        )  # fmt: skip
        running: list[_Running] = []
        ahead = Costs(cells).seconds_ahead()

        def interrupt(number: int) -> None:
            raise Interrupted(number, folder)

        with on_stop_signals(interrupt):  # an orderly stop, so that cells are told to save
            try:
                while waiting or running:
                    _start_ready(cells, ahead, waiting, running, folder, backend, config.threads_per_cell)
                    running = _collect(running, folder, bar)
                    bar.set_postfix_str(", ".join(_progress(r) for r in running))
                    if running:
                        time.sleep(0.2)
            finally:
                for r in running:  # all at once, because a batch system soon kills what does not end
                    r.job.stop()
                for r in running:
                    r.job.join()
                backend.close()
                bar.close()
    return folder / "report.html"


def _anchored(config: StudyConfig) -> StudyConfig:
    """Return the configuration with absolute paths, because cells may run elsewhere, for example on a cluster."""
    jets, tokenizer = config.jets, config.tokenizer
    if jets.parameters.get("run"):  # of a teacher
        run = str(Path(jets.parameters["run"]).absolute())
        jets = dataclasses.replace(jets, parameters={**jets.parameters, "run": run})
    if jets.stores:
        jets = dataclasses.replace(
            jets, stores=_checked("jets.stores", jets.stores, splits_read(config, study_cells(config)))
        )
    if tokenizer.folder:
        folder, tokens = str(Path(tokenizer.folder).absolute()), tokenizer.tokens
        if tokens:
            tokens = _checked("tokenizer.tokens", tokens, TOKEN_SPLITS)
        tokenizer = dataclasses.replace(tokenizer, folder=folder, tokens=tokens)
    return dataclasses.replace(config, jets=jets, tokenizer=tokenizer)


def _checked(key: str, folder: str, splits: Sequence[str]) -> str:
    """Return the absolute path of a folder of stores, after checking its splits, which must not share a shard.

    Only the jets for rejections, which are test jets as well, may contain those of the test split.
    """
    stores = Path(folder).absolute()
    split_of: dict[str, str] = {}
    for split in splits:
        if not (stores / split).is_dir():
            raise InputError(f"{key}: {stores} has no folder {split} (expected {', '.join(splits)})")
    for split in splits:
        for shard in Manifest.load(stores / split).shards:
            other = split_of.setdefault(shard.sha256, split)
            if other != split and {other, split} != {"test", REJECTION}:
                raise InputError(
                    f"{key}: {stores}: {other} and {split} hold the same jets (shard {shard.key})"
                )
    return str(stores)


def _claim(config: StudyConfig, folder: Path) -> None:
    """Write the resolved configuration, or check that the existing one differs in variations only.

    Variations may change, because the name of each run contains what it varies: a grid can be extended if its best
    value lies at its edge.
    """
    there = folder / "study.yaml"
    if there.exists():
        old = read_config(folder)
        if old == config:
            return
        changed = _differences(
            to_mapping(old) | {"variations": None}, to_mapping(config) | {"variations": None}
        )
        if changed:
            raise InputError(
                f"{folder}: holds a study with another configuration ({'; '.join(changed[:3])}); "
                "choose another folder with --out, or remove this one"
            )
        (folder / REPORT / Report.done_file).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / ".study.yaml.tmp"
    save_yaml(config, aside)
    aside.replace(there)


def _differences(old: object, new: object, prefix: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new})
        return [
            d
            for k in keys
            for d in _differences(old.get(k), new.get(k), f"{prefix}.{k}" if prefix else str(k))
        ]
    return [] if old == new else [f"{prefix} is {old} there, {new} here"]


def _start_ready(
    cells: Sequence[Cell],
    ahead: Mapping[str, float],
    waiting: list[Cell],
    running: list[_Running],
    folder: Path,
    backend: Backend,
    threads: int,
) -> None:
    """Start cells that can start; a cell that uses all cores runs alone.

    Cells that use all cores come first, then those on which most work depends, so that no long cell runs alone at the
    end.
    """
    done = {c.id for c in cells} - {c.id for c in waiting} - {r.cell.id for r in running}
    for cell in sorted(waiting, key=lambda c: (not c.job.all_cores, -ahead[c.id])):
        if any(r.cell.job.all_cores for r in running) or len(running) >= backend.slots:
            return
        if cell.job.all_cores and running:
            continue
        if all(need in done for need in cell.needs):
            waiting.remove(cell)
            started = time.monotonic()
            running.append(_Running(cell, backend.start(folder, cell, threads), started))


def _collect(running: list[_Running], folder: Path, bar: tqdm) -> list[_Running]:
    """Report the cells that have ended, and return the others."""
    left = []
    for r in running:
        code = r.job.poll()
        if code is None:
            left.append(r)
            continue
        if code != 0 or not r.cell.done(folder):
            raise CellFailed(_failure(r.cell, code, r.job.log))
        bar.write(
            f"  {r.cell.id:28s} done in {_duration(time.monotonic() - r.started)}{_found(r.cell, folder)}"
        )
        bar.update()
    return left


def _failure(cell: Cell, code: int, log: Path) -> str:
    tail = log.read_text(errors="replace").replace("\r", "\n").splitlines()[-8:] if log.exists() else []
    return "\n".join([f"{cell.id}: failed (exit code {code}); the end of {log}:", *tail])


def _found(cell: Cell, folder: Path) -> str:
    """Return the result to print when a training ends."""
    if not isinstance(cell.job, Train):
        return ""
    saved = RunRecord.load(cell.output(folder)).saved
    return f"   loss {saved.metrics['loss']:.4f} after {saved.jets_seen:,} jets"


def _progress(r: _Running) -> str:
    """Return the name of a cell and its progress, from the progress bar at the end of its log."""
    log = r.job.log
    size = log.stat().st_size if log.exists() else 0
    tail = b""
    if size:
        with log.open("rb") as f:
            f.seek(max(0, size - 400))
            tail = f.read()
    percent = re.findall(rb"(\d+)%\|", tail)
    return f"{r.cell.id} {percent[-1].decode()} %" if percent else r.cell.id


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
