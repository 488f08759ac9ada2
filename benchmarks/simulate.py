"""Rate of the whole simulation against Pythia's bare `nextBatch`, on one core.

Both sides generate the same events (same seeds), batch by batch in turn. "Whole" is everything that `genscale simulate`
does for a shard: generation, truth, detector, clustering, substructure, rows of the schema, and the write into a jet
store. Initialisation of Pythia, some tenths of a second per shard, is outside both.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import awkward as ak
import numpy as np
from tqdm import tqdm

from benchmarks.harness import parser, seconds
from genscale.data.schema import CLASSES
from genscale.data.simulation.processes import Process, find_processes
from genscale.data.simulation.shard import EVENTS_PER_BATCH, jet_rows
from genscale.data.simulation.shower import Record, Shower
from genscale.data.store import StoreWriter


def measure(process: Process, mpi: bool, batches: int, seed: int) -> tuple[float, float, int, int]:
    """Seconds of the bare and of the whole chain, events and jets."""
    seeds = [seed + variant for variant in range(len(process.variants))]
    bare, whole = Shower(process, seeds, mpi), Shower(process, seeds, mpi)
    rng, records, rows = np.random.default_rng(seed), list[Record](), list[ak.Array]()

    def make_jets() -> None:
        records.append(whole.next_batch(EVENTS_PER_BATCH))
        rows.append(jet_rows(whole, records[-1], rng))

    bare_s = whole_s = 0.0
    for _ in range(batches):
        bare_s += seconds(lambda: bare.next_batch(EVENTS_PER_BATCH))
        whole_s += seconds(make_jets)
    with tempfile.TemporaryDirectory() as folder:
        writer = StoreWriter(Path(folder) / "store", "jets", {})
        whole_s += seconds(lambda: writer.write_shard("0", ak.concatenate(rows)))
    return bare_s, whole_s, sum(record.n_events for record in records), sum(map(len, rows))


def line(name: str, mpi: bool, runs: np.ndarray) -> str:
    """One row of the table from `runs` [repeats, (bare s, whole s, events, jets)]."""
    bare, whole, events, jets = runs.sum(axis=0)
    ratios = runs[:, 0] / runs[:, 1]
    return (
        f"{name:6s} {'on' if mpi else 'off':4s} {1e3 * bare / events:14.2f} {1e3 * whole / events:15.2f} "
        f"{bare / whole:6.3f} {ratios.min():6.3f}-{ratios.max():.3f} {jets / events:11.2f} {jets / whole:7.0f}"
    )


def main() -> None:
    """Print one line per class and multiparton setting, and the mix of all classes."""
    options = parser(__doc__)
    options.add_argument("--classes", default=",".join(CLASSES), help="comma-separated class names")
    options.add_argument(
        "--batches", type=int, default=3, help=f"batches of {EVENTS_PER_BATCH} events in a repeat"
    )
    options.add_argument(
        "--mpi", choices=("on", "off", "both"), default="both", help="multiparton interactions"
    )
    arguments = options.parse_args()
    processes = find_processes(arguments.classes.split(","))
    settings = {"on": (True,), "off": (False,), "both": (True, False)}[arguments.mpi]
    lines = []
    with tqdm(total=len(settings) * len(processes) * arguments.repeats, unit="run") as bar:
        for mpi in settings:
            totals = np.zeros((arguments.repeats, 4))
            for process in processes:
                runs = np.empty((arguments.repeats, 4))
                for repeat in range(arguments.repeats):
                    runs[repeat] = measure(process, mpi, arguments.batches, 1 + 1000 * repeat)
                    bar.update()
                lines.append(line(process.name, mpi, runs))
                # In a store classes have equally many jets, so the mix weights each by time per jet.
                totals += runs / runs[:, 3:]
            if len(processes) > 1:
                lines.append(line("mix", mpi, totals))
    header = ("class", "MPI", "bare ms/event", "whole ms/event", "ratio", "spread", "jets/event", "jets/s")
    print("{:6s} {:4s} {:>14s} {:>15s} {:>6s} {:>13s} {:>11s} {:>7s}".format(*header))
    print("\n".join(lines))
    print("ratio = bare time / whole time for the same events; spread = least and greatest over the repeats")


if __name__ == "__main__":
    main()
