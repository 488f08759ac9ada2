"""Simulation of a jet store: shards of one class each, in parallel and resumable.

A shard is a pure function of class, shard number, number of jets, seed and settings. Results therefore depend neither
on the number of workers nor on interruptions, and a run that was killed is resumed with the missing shards.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
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
from genscale.errors import InputError
from genscale.processes import worker_pool

#: Part of a store's settings; it is raised whenever a change of the code makes the same seed give other jets.
SIMULATION_VERSION: Final = 1

#: Default number of jets in a shard: a few seconds to half a minute of work.
SHARD_JETS: Final = 1000


@dataclass(frozen=True)
class ShardTask:
    """One shard to simulate: jets of class `name`, shard number `index` of this class."""

    name: str
    index: int
    n_jets: int

    @property
    def key(self) -> str:
        """Key of the shard; the order of the keys makes the classes alternate in the store."""
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
    split: str | None = None,
) -> Manifest:
    """Simulate jets and write them as a jet store.

    Parameters
    ----------
    out : Path or str
        Folder of the store. A run with the same settings that was interrupted is resumed.
    n_jets : int
        Total number of jets, divided equally among the classes; a remainder goes to the first classes, one jet each.
    classes : sequence of str
        Names of the classes.
    seed : int
        Not negative; together with the other settings it determines every jet.
    workers : int
        Number of processes, which has no influence on the result. Workers are spawned, so that a script that asks for
        more than one must call this function under ``if __name__ == "__main__":``.
    mpi : bool
        Simulate multiparton interactions: more realistic and several times slower.
    shard_jets : int
        Number of jets in a shard; another number gives other jets.
    progress : bool
        Show a progress bar.
    reuse : bool
        Accept a finished store of the same settings instead of raising an error.
    jets_of : mapping of str to int, optional
        Number of jets of classes that differ from their equal share of `n_jets`: rejections of thousands need more
        background than signal jets. The jets of a class are the same, only fewer or more of them.
    split : str, optional
        "train", "validation" or "test". It is recorded in the store's meta, so that training can refuse a test split.

    Returns
    -------
    Manifest
        Manifest of the finished store.

    Raises
    ------
    InputError
        A value is impossible, a class is unknown, Pythia or FastJet is not installed, or the folder holds something
        else or a store with other settings.
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
    if split is not None:
        meta["split"] = split
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
) -> list[ShardTask]:
    """Return the shards of a run in the order of their keys; the last shard of each class takes the remainder."""
    tasks = []
    for position, name in enumerate(classes):
        share = n_jets // len(classes) + (position < n_jets % len(classes))
        wanted = (jets_of or {}).get(name, share)
        for index, start in enumerate(range(0, wanted, shard_jets)):
            tasks.append(ShardTask(name, index, min(shard_jets, wanted - start)))
    return sorted(tasks, key=lambda task: task.key)


def _in_parallel(
    writer: StoreWriter, tasks: Sequence[ShardTask], seed: int, mpi: bool, workers: int, bar: tqdm
) -> None:
    """Simulate and write the shards in worker processes, and show the number of jets that all have made."""
    made = multiprocessing.get_context("spawn").Value("q", 0)
    shown = 0
    with worker_pool(min(workers, len(tasks)), _share_counter, made) as pool:
        futures = {pool.submit(_make_shard, writer, task, seed, mpi) for task in tasks}
        while futures:
            finished, futures = wait(futures, timeout=0.5, return_when=FIRST_EXCEPTION)
            for future in finished:
                future.result()
            total = made.value
            bar.update(total - shown)
            shown = total


_made: Any = None  # in a worker: the shared counter of jets


def _share_counter(made: Any) -> None:
    global _made
    _made = made


def _make_shard(writer: StoreWriter, task: ShardTask, seed: int, mpi: bool) -> None:
    writer.write_shard(
        task.key, simulate_shard(task.name, task.n_jets, seed, task.index, mpi, advance=_count)
    )


def _count(n_jets: int) -> None:
    with _made.get_lock():
        _made.value += n_jets
