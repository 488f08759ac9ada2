"""Simulate jets into a jet store: shards of one class each, in parallel and resumable.

A shard is a pure function of (class, shard number, number of jets, seed, settings). So results depend
neither on the number of workers nor on interruptions, and a run that was killed goes on with the shards
that are missing.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from genscale.data.manifest import MANIFEST, Manifest
from genscale.data.schema import CLASSES
from genscale.data.simulation.clustering import import_fastjet
from genscale.data.simulation.processes import find_processes
from genscale.data.simulation.shard import simulate_shard
from genscale.data.simulation.shower import import_pythia
from genscale.data.store import StoreWriter
from genscale.data.workers import exit_with_parent, one_thread_each
from genscale.errors import InputError

#: Part of a store's settings; raised whenever a change to the code makes the same seed give other jets.
SIMULATION_VERSION: Final = 1

#: Jets of one shard unless asked otherwise: some seconds to half a minute of work.
SHARD_JETS: Final = 1000


@dataclass(frozen=True)
class Task:
    """One shard to make: jets of class `name`, shard number `index` of that class."""

    name: str
    index: int
    n_jets: int

    @property
    def key(self) -> str:
        """Name of the shard; ordered so that the classes alternate in the store."""
        return f"{self.index:05d}-{CLASSES.index(self.name)}-{self.name}"


def simulate(
    out: Path | str,
    n_jets: int,
    classes: Sequence[str] = CLASSES,
    seed: int = 1,
    workers: int = 1,
    mpi: bool = True,
    shard_jets: int = SHARD_JETS,
    progress: bool = True,
    reuse: bool = False,
    jets_of: Mapping[str, int] | None = None,
) -> Manifest:
    """Simulate jets and write them as a jet store.

    Parameters
    ----------
    out
        Folder of the store. If an earlier run with the same settings was interrupted, this one completes it.
    n_jets
        Jets in total, divided equally over the classes; what remains goes one each to the first of them.
    classes
        Names of the classes wanted.
    seed
        Non-negative; together with the other settings it determines every jet.
    workers
        Processes that work on shards; no influence on the result. They are spawned, so a script that asks for
        more than one calls this under ``if __name__ == "__main__":``.
    mpi
        Whether multiparton interactions are simulated: more realistic and several times slower.
    shard_jets
        Jets of a shard; another value gives other jets.
    progress
        Whether a progress bar is shown.
    reuse
        Whether a finished store of the same settings is taken as it is, instead of being refused.
    jets_of
        Jets of a class where they differ from its equal share of `n_jets`: rejections of thousands need more
        background jets than signal jets. The jets of every class stay the same; there are more or fewer of them.

    Returns
    -------
    Manifest
        That of the finished store.

    Raises
    ------
    InputError
        For impossible values, an unknown class, Pythia or FastJet not installed, a folder that is taken or
        was begun with other settings.
    """
    processes = find_processes(classes)
    for name, value, least in (
        ("n_jets", n_jets, len(processes)),
        ("seed", seed, 0),
        ("workers", workers, 1),
        ("shard_jets", shard_jets, 1),
    ):
        if value < least:
            raise InputError(f"{name} is {value}: it must be at least {least}")
    jets_of = dict(jets_of or {})
    for name, jets in jets_of.items():
        if name not in classes:
            raise InputError(f"jets_of: {name} is not one of the classes to simulate ({', '.join(classes)})")
        if jets < 1:
            raise InputError(f"jets_of: {jets} jets of {name}: it must be at least 1")
    import_pythia()
    import_fastjet()
    asked: dict[str, Any] = {
        "n_jets": n_jets, "classes": list(classes), "seed": seed, "mpi": mpi, "shard_jets": shard_jets,
        "jets_of": jets_of,
    }  # fmt: skip
    if reuse and (Path(out) / MANIFEST).exists():
        return _same_settings(Path(out), asked)
    meta = {
        "source": "simulation",
        "simulation_version": SIMULATION_VERSION,
        **asked,
        "pythia_settings": {
            process.name: [process.lines(mpi, variant) for variant in range(len(process.variants))]
            for process in processes
        },
        "packages": {name: version(name) for name in ("pythia8mc", "fastjet")},
    }
    writer = StoreWriter(Path(out), "jets", meta)
    tasks = plan(n_jets, classes, shard_jets, jets_of)
    waiting = [task for task in tasks if not writer.has_shard(task.key)]
    total = sum(task.n_jets for task in tasks)
    done = total - sum(task.n_jets for task in waiting)
    with tqdm(total=total, initial=done, unit="jet", desc="simulate", disable=not progress) as bar:
        if workers == 1:
            for task in waiting:
                rows = simulate_shard(task.name, task.n_jets, seed, task.index, mpi, advance=bar.update)
                writer.write_shard(task.key, rows)
        elif waiting:
            _in_parallel(writer, waiting, seed, mpi, workers, bar)
    return writer.finish()


def _same_settings(store: Path, asked: dict[str, Any]) -> Manifest:
    found = Manifest.load(store)
    for name, value in asked.items():
        if found.meta.get(name, {}) != value:
            raise InputError(
                f"{store}: holds jets of other settings ({name} is {found.meta.get(name)} there, {value} here); "
                "choose another folder or remove it first"
            )
    return found


def plan(
    n_jets: int, classes: Sequence[str], shard_jets: int, jets_of: Mapping[str, int] | None = None
) -> list[Task]:
    """Shards of a run in key order; the last of each class takes what is left."""
    tasks = []
    for position, name in enumerate(classes):
        share = n_jets // len(classes) + (position < n_jets % len(classes))
        wanted = (jets_of or {}).get(name, share)
        for index, start in enumerate(range(0, wanted, shard_jets)):
            tasks.append(Task(name, index, min(shard_jets, wanted - start)))
    return sorted(tasks, key=lambda task: task.key)


def _in_parallel(
    writer: StoreWriter, tasks: Sequence[Task], seed: int, mpi: bool, workers: int, bar: tqdm
) -> None:
    """Make the shards in worker processes, which write them; show the jets that all of them have made."""
    context = multiprocessing.get_context("spawn")
    made = context.Value("q", 0)
    shown = 0
    pool = ProcessPoolExecutor(min(workers, len(tasks)), context, _start_worker, (made,))
    with one_thread_each():
        try:
            futures = {pool.submit(_make_shard, writer, task, seed, mpi) for task in tasks}
            while futures:
                finished, futures = wait(futures, timeout=0.5, return_when=FIRST_EXCEPTION)
                for future in finished:
                    future.result()
                total = made.value
                bar.update(total - shown)
                shown = total
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_made: Any = None  # in a worker: the shared counter of jets


def _start_worker(made: Any) -> None:
    global _made
    _made = made
    exit_with_parent()


def _make_shard(writer: StoreWriter, task: Task, seed: int, mpi: bool) -> None:
    writer.write_shard(
        task.key, simulate_shard(task.name, task.n_jets, seed, task.index, mpi, advance=_count)
    )


def _count(n_jets: int) -> None:
    with _made.get_lock():
        _made.value += n_jets
