"""Rate of the whole simulation against Pythia's bare `nextBatch`, on one core, in one run.

Both sides generate the same events (same seeds), batch by batch in turn, so that whatever else the machine
does falls on both alike. "Whole" is everything that `genscale simulate` does for a shard: generation,
truth, detector, clustering, substructure, rows of the schema, and the write into a jet store.
Initialisation of Pythia, some tenths of a second a shard, is outside both.

    python scripts/bench_simulate.py [--classes QCD,Tbqq] [--batches 5] [--repeats 3] [--mpi on|off|both]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import awkward as ak
import numpy as np
from tqdm import tqdm

from genscale.data.schema import CLASSES
from genscale.data.simulation.processes import Process, find_processes
from genscale.data.simulation.shard import EVENTS_PER_BATCH, jet_rows
from genscale.data.simulation.shower import Shower
from genscale.data.store import StoreWriter


def measure(
    process: Process, mpi: bool, batches: int, seed: int, folder: Path
) -> tuple[float, float, int, int]:
    """Seconds of the bare and of the whole chain, events and jets."""
    seeds = [seed + variant for variant in range(len(process.variants))]
    bare, whole = Shower(process, seeds, mpi), Shower(process, seeds, mpi)
    rng = np.random.default_rng(seed)
    bare_s = whole_s = 0.0
    events = 0
    rows = []
    for _ in range(batches):
        start = time.process_time()
        bare.next_batch(EVENTS_PER_BATCH)
        middle = time.process_time()
        record = whole.next_batch(EVENTS_PER_BATCH)
        rows.append(jet_rows(whole, record, rng))
        bare_s += middle - start
        whole_s += time.process_time() - middle
        events += record.n_events
    start = time.process_time()
    jets = ak.concatenate(rows)
    StoreWriter(folder / f"{process.name}-{mpi}-{seed}", "jets", {}).write_shard("0", jets)
    whole_s += time.process_time() - start
    return bare_s, whole_s, events, len(jets)


def main() -> None:
    """Print one line per class and multiparton setting, and the mix of all classes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--classes", default=",".join(CLASSES), help="comma-separated class names")
    parser.add_argument(
        "--batches", type=int, default=3, help=f"batches of {EVENTS_PER_BATCH} events in a repeat"
    )
    parser.add_argument("--repeats", type=int, default=3, help="repeats with different seeds")
    parser.add_argument(
        "--mpi", choices=("on", "off", "both"), default="both", help="multiparton interactions"
    )
    arguments = parser.parse_args()
    processes = find_processes(arguments.classes.split(","))
    settings = {"on": (True,), "off": (False,), "both": (True, False)}[arguments.mpi]
    lines = []
    with (
        tempfile.TemporaryDirectory() as folder,
        tqdm(total=len(settings) * len(processes) * arguments.repeats, unit="run") as bar,
    ):
        for mpi in settings:
            totals = np.zeros((arguments.repeats, 4))
            for process in processes:
                runs = np.empty((arguments.repeats, 4))
                for repeat in range(arguments.repeats):
                    runs[repeat] = measure(process, mpi, arguments.batches, 1 + 1000 * repeat, Path(folder))
                    bar.update()
                lines.append(line(process.name, mpi, runs))
                # In a store classes have equally many jets, so the mix weights each by time per jet.
                totals += runs / runs[:, 3:]
            if len(processes) > 1:
                lines.append(line("mix", mpi, totals))
    header = ("class", "MPI", "bare ms/event", "whole ms/event", "ratio", "spread", "jets/event", "jets/s")
    print("{:6s} {:4s} {:>14s} {:>15s} {:>6s} {:>13s} {:>11s} {:>7s}".format(*header))
    print("\n".join(lines))
    print("ratio = bare time / whole time for the same events; spread = least and largest over the repeats")


def line(name: str, mpi: bool, runs: np.ndarray) -> str:
    """One row of the table from `runs` [repeats, (bare s, whole s, events, jets)]."""
    bare, whole, events, jets = runs.sum(axis=0)
    ratios = runs[:, 0] / runs[:, 1]
    return (
        f"{name:6s} {'on' if mpi else 'off':4s} {1e3 * bare / events:14.2f} {1e3 * whole / events:15.2f} "
        f"{bare / whole:6.3f} {ratios.min():6.3f}-{ratios.max():.3f} "
        f"{jets / events:11.2f} {jets / whole:7.0f}"
    )


if __name__ == "__main__":
    main()
