"""Jets: anti-kT clustering, the JetClass selection, substructure and truth matching.

Clustering and substructure use FastJet and its contributions through the awkward interface, many events at a time.
The settings are those of JetClass: anti-kT with R = 0.8 (Cacciari, Salam and Soyez, arXiv:0802.1189), soft drop with
beta = 0 and zcut = 0.1 on the Cambridge/Aachen tree (Larkoski et al., arXiv:1402.2657), N-subjettiness with beta = 1,
normalised by R0 = 0.8, with one-pass minimisation from exclusive kT axes (Thaler and Van Tilburg, arXiv:1011.2268).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import awkward as ak
import numpy as np

from genscale.data.simulation.detector import Candidates
from genscale.data.simulation.shower import Truth, delta_phi, pt_eta_phi
from genscale.errors import InputError

RADIUS: Final = 0.8
PT_MIN_GEV: Final = 500.0
PT_MAX_GEV: Final = 1000.0
ETA_MAX: Final = 2.0
SOFT_DROP_ZCUT: Final = 0.1

_NO_MATCH = -1


def import_fastjet() -> Any:
    """Import FastJet without the banner of its first use; raises InputError if it is not installed."""
    try:
        import fastjet
        import fastjet._swig
    except ImportError as error:
        raise InputError(f"FastJet is missing ({error}): pip install 'genscale[simulate]'") from error
    # Standard output is reserved for the results of commands; the documentation has the citation that the
    # banner asks for.
    fastjet._swig.ClusterSequence.set_fastjet_banner_stream(None)
    return fastjet


@dataclass(frozen=True)
class Jets:
    """Jets of a batch of events; momenta in GeV, all arrays but two of shape (n_jets,).

    `constituents` holds indices of the candidates, `offsets`, shape (n_jets + 1,), divides it into jets. The
    constituents of a jet are in order of decreasing pT.
    """

    event: np.ndarray
    offsets: np.ndarray
    constituents: np.ndarray
    pt: np.ndarray
    eta: np.ndarray
    phi: np.ndarray
    energy: np.ndarray

    def take(self, chosen: np.ndarray) -> Jets:
        """Return the jets with indices `chosen`."""
        sizes = np.diff(self.offsets)[chosen]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        moved = np.repeat(self.offsets[chosen] - offsets[:-1], sizes) + np.arange(offsets[-1])
        values = {name: getattr(self, name)[chosen] for name in ("event", "pt", "eta", "phi", "energy")}
        return Jets(offsets=offsets, constituents=self.constituents[moved], **values)


def can_have_jets(truth: Truth, n_events: int) -> np.ndarray:
    """Return a mask, shape (n_events,), of the events that can give a matched jet in acceptance.

    The condition is necessary, so that no jet is lost: the prongs of a matched jet lie within R of an axis with
    |eta| < 2, so that no two prongs are further apart than 2 R, and none lies beyond |eta| = 2 + R.
    """
    eta, phi = truth.prong_eta, truth.prong_phi
    good = ~np.any(np.abs(eta) > ETA_MAX + RADIUS, axis=1)  # False for the NaN of neutrinos
    for first in range(eta.shape[1]):
        for second in range(first):
            distance = np.hypot(eta[:, first] - eta[:, second], delta_phi(phi[:, first], phi[:, second]))
            good &= ~(distance > 2 * RADIUS)
    possible = np.zeros(n_events, dtype=bool)
    possible[truth.event[good]] = True
    return possible


def find_jets(candidates: Candidates) -> Jets:
    """Find anti-kT jets with 500 < pT < 1000 GeV and |eta| < 2."""
    fastjet = import_fastjet()
    pt = np.hypot(candidates.px, candidates.py)
    # The pT of a jet is at most the scalar sum of its event: events below the window need no clustering.
    enough = np.bincount(candidates.event, pt, minlength=candidates.n_events) >= PT_MIN_GEV
    index = np.flatnonzero(enough[candidates.event])
    counts = np.bincount(candidates.event[index], minlength=candidates.n_events)[enough]
    starts = np.concatenate([[0], np.cumsum(counts)])
    if not len(counts):
        none = np.empty(0)
        return Jets(none.astype(int), np.zeros(1, int), none.astype(int), none, none, none, none)

    events = _four_momenta(candidates, index, starts)
    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, RADIUS)
    found = fastjet.ClusterSequence(events, definition).constituent_index(min_pt=PT_MIN_GEV)
    jets_per_event = ak.num(found).to_numpy()
    event_row = np.repeat(np.arange(len(counts)), jets_per_event)
    flat = ak.flatten(found, axis=1)
    sizes = ak.num(flat).to_numpy()
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    local = ak.flatten(flat).to_numpy()
    constituents = index[np.repeat(starts[event_row], sizes) + local]
    # Decreasing pT within each jet.
    jet_of = np.repeat(np.arange(len(sizes)), sizes)
    constituents = constituents[np.lexsort((-pt[constituents], jet_of))]

    px, py, pz, energy = (
        np.bincount(jet_of, getattr(candidates, name)[constituents], minlength=len(sizes))
        for name in ("px", "py", "pz", "energy")
    )
    jet_pt, eta, phi = pt_eta_phi(px, py, pz)
    jets = Jets(np.flatnonzero(enough)[event_row], offsets, constituents, jet_pt, eta, phi, energy)
    selected = (jet_pt > PT_MIN_GEV) & (jet_pt < PT_MAX_GEV) & (np.abs(eta) < ETA_MAX)
    return jets.take(np.flatnonzero(selected))


def match(jets: Jets, truth: Truth) -> np.ndarray:
    """Return the row of `truth` that each jet comes from, shape (n_jets,); -1 if there is none.

    As in JetClass, a jet is matched to a decaying particle if all visible prongs of the particle are within R of the
    jet axis.
    """
    matched = np.full(len(jets.event), _NO_MATCH)
    # An event has at most two such particles: try the first and the last of each event.
    for side in ("right", "left"):
        row = np.searchsorted(truth.event, jets.event, side=side) - (side == "right")
        row = np.minimum(row, len(truth.event) - 1)
        distance = np.hypot(
            truth.prong_eta[row] - jets.eta[:, None], delta_phi(truth.prong_phi[row], jets.phi[:, None])
        )
        inside = ~np.any(distance >= RADIUS, axis=1) & (truth.event[row] == jets.event)
        matched[inside] = row[inside]
    return matched


def substructure(candidates: Candidates, jets: Jets) -> tuple[np.ndarray, np.ndarray]:
    """Return the soft-drop masses in GeV, shape (n_jets,), and N-subjettiness tau1..tau4, shape (n_jets, 4)."""
    if not len(jets.event):
        return np.empty(0), np.empty((0, 4))
    fastjet = import_fastjet()
    constituents = _four_momenta(candidates, jets.constituents, jets.offsets)
    taus = fastjet.ClusterSequence(constituents, _one_tree(fastjet)).njettiness(
        measure_definition="NormalizedMeasure",
        axes_definition="OnePass_KT_Axes",
        njets=[1, 2, 3, 4],
        beta=1.0,
        R0=RADIUS,
    )
    return soft_drop_mass(constituents), ak.to_numpy(taus).reshape(-1, 4)


def soft_drop_mass(constituents: ak.Array) -> np.ndarray:
    """Return the jet masses in GeV, shape (n_jets,), after soft drop with beta = 0 and zcut = 0.1.

    The time of FastJet's interface grows with the square of the number of particles. Declustering proceeds from wide
    to narrow angles and usually ends early, and the Cambridge/Aachen tree above some angle does not change if all
    particles closer than this angle are merged beforehand. Each jet is therefore first groomed as a few narrow
    subjets, and with finer subjets only if no splitting between them passes. The result is exactly that of grooming
    all particles at once.
    """
    fastjet = import_fastjet()
    mass = np.empty(len(constituents))
    waiting = np.arange(len(constituents))
    for radius in (0.2, 0.05, 0.0):
        lists = constituents[waiting]
        if radius > 0.0:
            narrow = fastjet.JetDefinition(fastjet.cambridge_algorithm, radius)
            lists = fastjet.ClusterSequence(lists, narrow).inclusive_jets()
        groomed = fastjet.ClusterSequence(lists, _one_tree(fastjet)).exclusive_jets_softdrop_grooming(
            njets=1, beta=0.0, symmetry_cut=SOFT_DROP_ZCUT, R0=RADIUS
        )
        mass[waiting] = ak.to_numpy(groomed.msoftdrop)
        # A single remaining subjet means that every splitting failed, so that finer subjets are needed.
        waiting = waiting[ak.num(groomed.constituents.px, axis=1).to_numpy() == 1]
        if not len(waiting):
            break
    # The mass squared of a single massless particle may be negative by a rounding error.
    return np.maximum(mass, 0.0)


def _one_tree(fastjet: Any) -> Any:
    """Cambridge/Aachen with a radius above all distances in a jet, which gives one tree of all its particles."""
    return fastjet.JetDefinition(fastjet.cambridge_algorithm, 1000.0)


def _four_momenta(candidates: Candidates, index: np.ndarray, offsets: np.ndarray) -> ak.Array:
    """Return lists of four-momenta for FastJet."""
    fields = {"px": candidates.px, "py": candidates.py, "pz": candidates.pz, "E": candidates.energy}
    record = ak.contents.RecordArray(
        [ak.contents.NumpyArray(value[index]) for value in fields.values()],
        list(fields),
        parameters={"__record__": "Momentum4D"},
    )
    return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), record))
