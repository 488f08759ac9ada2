"""One shard of simulated jets of one class: the whole chain, and its result as rows of the jet schema."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import awkward as ak
import numpy as np

from genscale.data import schema
from genscale.data.simulation.clustering import (
    Jets,
    can_have_jets,
    find_jets,
    import_fastjet,
    match,
    substructure,
)
from genscale.data.simulation.detector import Candidates, reconstruct
from genscale.data.simulation.processes import Process, find_processes
from genscale.data.simulation.shower import Record, Shower, Truth, delta_phi, pt_eta_phi

#: Number of events generated at a time: fixed costs are small, and memory stays below 200 MB.
EVENTS_PER_BATCH: Final = 200

#: A process that gives less than one jet in this number of events has wrong settings.
_MOST_EVENTS_PER_JET = 1000

_PYTHIA_SEED_MAX = 900_000_000


def simulate_shard(
    name: str,
    n_jets: int,
    seed: int,
    index: int = 0,
    mpi: bool = True,
    advance: Callable[[int], object] | None = None,
) -> ak.Array:
    """Simulate one shard of one class.

    Parameters
    ----------
    name : str
        Class name.
    n_jets : int
        Number of jets. A shard with fewer jets is the beginning of one with more.
    seed : int
        Seed of the run.
    index : int
        Number of the shard.
    mpi : bool
        Simulate multiparton interactions.
    advance : callable, optional
        Called with the number of new jets after every batch of events.

    Returns
    -------
    ak.Array
        Jets with the columns and types of `genscale.data.schema`. They depend on class, seed, index and `mpi` only.

    Raises
    ------
    InputError
        The class is unknown, or Pythia or FastJet is not installed.
    """
    (process,) = find_processes([name])
    import_fastjet()  # raises before the work, not after the first events
    stream = np.random.SeedSequence([seed, process.label, index])
    pythia_seeds = 1 + stream.generate_state(len(process.variants)).astype(np.int64) % _PYTHIA_SEED_MAX
    rng = np.random.default_rng(stream.spawn(1)[0])
    # The last batch is truncated; shards begin with different variants, so that none is favoured overall.
    shower = Shower(process, [int(s) for s in pythia_seeds], mpi, first_variant=index)
    batches: list[ak.Array] = []
    found = events = 0
    while found < n_jets:
        record = shower.next_batch(EVENTS_PER_BATCH)
        rows = jet_rows(shower, record, rng)[: n_jets - found]
        batches.append(rows)
        found += len(rows)
        events += record.n_events
        if events > _MOST_EVENTS_PER_JET * (found + 1):
            raise RuntimeError(f"{name}: only {found} jets in {events} events")
        if advance is not None:
            advance(len(rows))
    return ak.concatenate(batches)


def jet_rows(shower: Shower, record: Record, rng: np.random.Generator) -> ak.Array:
    """Return all jets of the process's class in a batch of events, as rows of the schema."""
    truth = shower.truth(record)
    particles = shower.final_state(record)
    if truth is not None:
        possible = can_have_jets(truth, record.n_events)
        particles = particles.take(np.flatnonzero(possible[particles.event]))
    candidates = reconstruct(particles, rng)
    jets = find_jets(candidates)
    truth_row = None
    if truth is not None:
        truth_row = match(jets, truth)
        matched = np.flatnonzero(truth_row >= 0)
        jets, truth_row = jets.take(matched), truth_row[matched]
    return _rows(shower.process, candidates, jets, truth, truth_row)


def _rows(
    process: Process, candidates: Candidates, jets: Jets, truth: Truth | None, truth_row: np.ndarray | None
) -> ak.Array:
    """Return jets as records in the conventions of JetClass."""
    soft_drop_mass, taus = substructure(candidates, jets)
    columns: dict[str, np.ndarray] = {
        **_particle_columns(candidates, jets),
        "jet_pt": jets.pt,
        "jet_eta": jets.eta,
        "jet_phi": jets.phi,
        "jet_energy": jets.energy,
        "jet_nparticles": np.diff(jets.offsets),
        "jet_sdmass": soft_drop_mass,
        **{f"jet_tau{n}": taus[:, n - 1] for n in (1, 2, 3, 4)},
        **{label: np.full(len(jets.pt), label == f"label_{process.name}") for label in schema.LABELS},
    }
    for name in ("eta", "phi", "pid", "pt"):  # JetClass has zeros for QCD
        columns[f"aux_genpart_{name}"] = np.zeros(len(jets.pt))
    columns["aux_truth_match"] = np.full(len(jets.pt), truth is not None)
    if truth is not None and truth_row is not None:
        columns["aux_genpart_eta"] = truth.eta[truth_row]
        columns["aux_genpart_phi"] = truth.phi[truth_row]
        columns["aux_genpart_pid"] = truth.pdg[truth_row]
        columns["aux_genpart_pt"] = truth.pt[truth_row]

    offsets = ak.index.Index64(jets.offsets)
    contents: list[ak.contents.Content] = []
    for name in schema.COLUMNS:
        content: ak.contents.Content = ak.contents.NumpyArray(columns[name].astype(schema.DTYPES[name]))
        if name in schema.PARTICLE_COLUMNS:
            content = ak.contents.ListOffsetArray(offsets, content)
        contents.append(content)
    return ak.Array(ak.contents.RecordArray(contents, list(schema.COLUMNS), length=len(jets.pt)))


def _particle_columns(candidates: Candidates, jets: Jets) -> dict[str, np.ndarray]:
    """Return flat particle columns, jet after jet."""
    index = jets.constituents
    jet = np.repeat(np.arange(len(jets.pt)), np.diff(jets.offsets))
    px, py, pz = candidates.px[index], candidates.py[index], candidates.pz[index]
    _, eta, phi = pt_eta_phi(px, py, pz)
    kind = np.abs(candidates.pdg[index])
    charged = candidates.charge[index] != 0.0
    electron, muon = kind == 11, kind == 13
    # JetClass mirrors jets at negative eta, so that part_deta always points away from the centre.
    outwards = np.where(jets.eta > 0.0, 1.0, -1.0)[jet]
    return {
        "part_px": px,
        "part_py": py,
        "part_pz": pz,
        "part_energy": candidates.energy[index],
        "part_deta": outwards * (eta - jets.eta[jet]),
        "part_dphi": delta_phi(phi, jets.phi[jet]),
        "part_d0val": candidates.d0[index],
        "part_d0err": candidates.d0_error[index],
        "part_dzval": candidates.dz[index],
        "part_dzerr": candidates.dz_error[index],
        "part_charge": candidates.charge[index],
        "part_isChargedHadron": charged & ~electron & ~muon,
        "part_isNeutralHadron": ~charged & (kind == 0),
        "part_isPhoton": ~charged & (kind == 22),
        "part_isElectron": charged & electron,
        "part_isMuon": charged & muon,
    }
