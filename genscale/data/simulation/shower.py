"""Events from Pythia 8 as flat arrays: the visible final state and the decays that make the jets.

`Pythia.nextBatch` returns events as one awkward array; everything here works on its flat buffers, so that Python never
loops over particles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np

from genscale.data.simulation.processes import Process
from genscale.errors import InputError

#: Maximal number of copies through which a particle is followed in the shower; real records have far fewer.
_MAX_COPIES = 200

_NEUTRINOS = (12, 14, 16)


def import_pythia() -> Any:
    """Import Pythia 8; raises InputError if it is not installed."""
    try:
        import pythia8mc
    except ImportError as error:
        raise InputError(f"Pythia 8 is missing ({error}): pip install 'genscale[simulate]'") from error
    return pythia8mc


@dataclass(frozen=True)
class FinalState:
    """Visible stable particles of a batch, grouped by event; every array has the shape (n_particles,).

    Momenta and masses are in GeV, production vertices in mm, charges in units of e.
    """

    n_events: int
    event: np.ndarray
    pdg: np.ndarray
    charge: np.ndarray
    px: np.ndarray
    py: np.ndarray
    pz: np.ndarray
    energy: np.ndarray
    mass: np.ndarray
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray

    def take(self, index: np.ndarray) -> FinalState:
        """Return the particles at `index` (integers or a mask)."""
        arrays = {name: value[index] for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        return FinalState(n_events=self.n_events, **arrays)


@dataclass(frozen=True)
class Truth:
    """Decaying particles of a batch and their decay products.

    `event`, `pdg`, `pt`, `eta` and `phi` have the shape (n,). `prong_eta` and `prong_phi`, shape (n, n_prongs), are
    the directions of the quarks, gluons and charged leptons of the whole decay chain; NaN for neutrinos.
    """

    event: np.ndarray
    pdg: np.ndarray
    pt: np.ndarray
    eta: np.ndarray
    phi: np.ndarray
    prong_eta: np.ndarray
    prong_phi: np.ndarray


class Record:
    """Flat view of the event records of a batch; indices run over all particles of all events."""

    def __init__(self, batch: ak.Array) -> None:
        layout = batch["prt"].layout
        self.offsets = np.asarray(layout.offsets)
        self._content = layout.content
        self.id = self._column("id")
        self.status = self._column("status")
        self.n_events = len(self.offsets) - 1

    def _column(self, name: str) -> np.ndarray:
        return np.asarray(self._content[name].data)

    def momentum(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return px, py, pz and E in GeV, each of shape (n,)."""
        p = self._content["p"]
        return tuple(np.asarray(p[axis].data)[index] for axis in ("px", "py", "pz", "e"))

    def vertex(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return x, y and z of the production vertex in mm, each of shape (n,); the origin if there is none."""
        option = self._content["vProd"]
        position = np.asarray(option.index.data)[index]
        known = position >= 0
        where = position[known]
        out = []
        for axis in ("px", "py", "pz"):  # nextBatch stores four-vectors of position under momentum names
            values = np.zeros(len(index))
            values[known] = np.asarray(option.content[axis].data)[where]
            out.append(values)
        return out[0], out[1], out[2]

    def event_of(self, index: np.ndarray) -> np.ndarray:
        """Return the event numbers of particles, shape (n,)."""
        return np.searchsorted(self.offsets, index, side="right") - 1

    def mass(self, index: np.ndarray) -> np.ndarray:
        """Return masses in GeV, shape (n,)."""
        return self._column("m")[index]

    def daughters(self, index: np.ndarray) -> np.ndarray:
        """Return flat indices of the first and last daughter, shape (n, 2); the particle itself if it has none."""
        start = self.offsets[self.event_of(index)]
        pair = np.stack([self._column("daughter1")[index], self._column("daughter2")[index]], axis=1)
        return np.where(pair > 0, pair + start[:, None], index[:, None])

    def last_copy(self, index: np.ndarray) -> np.ndarray:
        """Follow particles through the copies that the shower makes, up to the last copy of each."""
        index = index.copy()
        for _ in range(_MAX_COPIES):
            pair = self.daughters(index)
            same = (self.id[pair] == self.id[index][:, None]) & (pair != index[:, None])
            if not same.any():
                return index
            index = np.where(same[:, 0], pair[:, 0], np.where(same[:, 1], pair[:, 1], index))
        raise RuntimeError(f"a particle has more than {_MAX_COPIES} copies in the event record")


class Shower:
    """Pythia 8 set up for one process.

    Parameters
    ----------
    process : Process
        Process to generate.
    seeds : sequence of int
        One seed, 1 .. 900,000,000, for each variant of the process.
    mpi : bool
        Simulate multiparton interactions.
    first_variant : int
        Number of the variant (modulo their number) that makes the first batch.

    Raises
    ------
    InputError
        Pythia 8 is not installed.
    """

    def __init__(
        self, process: Process, seeds: Sequence[int], mpi: bool = True, first_variant: int = 0
    ) -> None:
        pythia8mc = import_pythia()
        self.process = process
        self._generators: list[Any] = []
        self._turn = first_variant
        for variant, seed in zip(range(len(process.variants)), seeds, strict=True):
            generator = pythia8mc.Pythia("", False)
            for line in (
                "Print:quiet = on",
                *process.lines(mpi, variant),
                "Random:setSeed = on",
                f"Random:seed = {seed}",
            ):
                if not generator.readString(line):
                    raise RuntimeError(f"Pythia does not know the setting {line!r}")
            if not generator.init():
                raise RuntimeError(f"Pythia could not be initialised for {process.name}")
            self._generators.append(generator)
        self._charges: dict[int, float] = {}

    def next_batch(self, n_events: int) -> Record:
        """Generate `n_events` events, or fewer if Pythia gives some up."""
        generator = self._generators[self._turn % len(self._generators)]
        self._turn += 1
        return Record(generator.nextBatch(n_events))

    def final_state(self, record: Record) -> FinalState:
        """Return the visible stable particles of a batch."""
        index = np.flatnonzero(record.status > 0)
        kind = np.abs(record.id[index])
        index = index[~np.isin(kind, _NEUTRINOS)]
        px, py, pz, energy = record.momentum(index)
        x, y, z = record.vertex(index)
        pdg = record.id[index]
        return FinalState(
            n_events=record.n_events,
            event=record.event_of(index),
            pdg=pdg,
            charge=self._charge(pdg),
            px=px,
            py=py,
            pz=pz,
            energy=energy,
            mass=record.mass(index),
            x=x,
            y=y,
            z=z,
        )

    def _charge(self, pdg: np.ndarray) -> np.ndarray:
        """Return charges from Pythia's particle data, with one look-up per type of particle."""
        kinds, inverse = np.unique(pdg, return_inverse=True)
        data = self._generators[0].particleData
        return np.array([data.charge(int(kind)) for kind in kinds])[inverse]

    def truth(self, record: Record) -> Truth | None:
        """Return the decays that make the jets of this class; None for QCD."""
        if self.process.resonance is None:
            return None
        return find_truth(record, self.process.resonance)


def find_truth(record: Record, resonance: int) -> Truth:
    """Find the last copies of particles with PDG code +-`resonance`, and their visible decay products.

    W bosons among the daughters are replaced by their own daughters, so that a Higgs boson that decays to WW has four
    prongs and a top quark three. As in JetClass, quarks and gluons are taken before they radiate, leptons after.
    """
    copies = np.flatnonzero(np.abs(record.id) == resonance)
    heads = np.unique(record.last_copy(copies))
    columns = list(record.daughters(heads).T)
    if all(np.all(np.abs(record.id[c]) == 24) for c in columns):
        columns = [d for w in columns for d in record.daughters(record.last_copy(w)).T]
    elif resonance == 6:
        # The daughters of a top quark are a W and a quark, in either order.
        w_first = np.abs(record.id[columns[0]]) == 24
        w_boson = np.where(w_first, columns[0], columns[1])
        quark = np.where(w_first, columns[1], columns[0])
        columns = [*record.daughters(record.last_copy(w_boson)).T, quark]
    prongs = np.stack(columns, axis=1)
    kind = np.abs(record.id[prongs])
    leptons = (kind >= 11) & (kind <= 15)
    prongs[leptons] = record.last_copy(prongs[leptons])
    _, prong_eta, prong_phi = pt_eta_phi(*record.momentum(prongs)[:3])
    unseen = np.isin(kind, _NEUTRINOS)
    prong_eta[unseen] = prong_phi[unseen] = np.nan
    pt, eta, phi = pt_eta_phi(*record.momentum(heads)[:3])
    return Truth(record.event_of(heads), record.id[heads], pt, eta, phi, prong_eta, prong_phi)


def pt_eta_phi(px: np.ndarray, py: np.ndarray, pz: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return transverse momentum, pseudorapidity, and azimuth in (-pi, pi]."""
    pt = np.hypot(px, py)
    return pt, np.arcsinh(pz / np.maximum(pt, 1e-12)), np.arctan2(py, px)


def delta_phi(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the difference of azimuths, in [-pi, pi)."""
    return (first - second + np.pi) % (2 * np.pi) - np.pi
