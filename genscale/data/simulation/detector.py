"""A parametrised CMS-like detector, which turns stable particles into energy-flow candidates.

The model is that of Delphes (de Favereau et al., arXiv:1307.6346) with the numbers of the CMS card with which JetClass
was made; the implementation is independent and works on flat arrays of all particles of a batch:

1. Particles are propagated to the calorimeter surface, a cylinder with a radius of 1.29 m and a half-length of 3 m:
   neutral particles on straight lines, charged ones on exact helices in 3.8 T.
2. Charged particles with |eta| < 2.5 become tracks with an efficiency that depends on type, pT and eta; their pT is
   smeared, as are their impact parameters, taken at the helix's closest approach to the beam line.
3. All particles deposit energy in the cells of an electromagnetic and a hadronic calorimeter, and the energy of each
   cell is smeared. The excess of a cell's energy over that of its tracks becomes a photon or a neutral hadron if it is
   significant; otherwise the cell's energy improves the momenta of its tracks.

Not simulated are pile-up, showers in matter, energy sharing between cells, the forward calorimeter (|eta| > 2.95, where
jets with |eta| < 2 and R = 0.8 have no constituents), and correlations between the errors of a track.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from genscale.data.simulation.shower import FinalState, pt_eta_phi

#: Magnetic field along the beam, and the cylinder at which the calorimeters begin.
FIELD_T: Final = 3.8
RADIUS_MM: Final = 1290.0
HALF_LENGTH_MM: Final = 3000.0

#: Maximal |eta| of the calorimeters and of the tracker.
CALO_ETA_MAX: Final = 2.95
TRACK_ETA_MAX: Final = 2.5

#: Track efficiencies: rows |eta| <= 1.5 and <= 2.5; columns 0.1 < pT <= 1, 1 < pT <= 100, pT > 100 GeV.
TRACK_EFFICIENCY: Final = {
    "hadron": np.array([[0.70, 0.95, 0.95], [0.60, 0.85, 0.85]]),
    "electron": np.array([[0.73, 0.95, 0.99], [0.50, 0.83, 0.90]]),
    "muon": np.array([[0.75, 0.99, 0.99], [0.70, 0.98, 0.98]]),
}

#: Relative pT resolution sqrt(a^2 + (b pT)^2): rows |eta| <= 0.5, 1.5, 2.5; columns a and b in 1/GeV.
PT_RESOLUTION: Final = {
    "hadron": np.array([[0.06, 1.3e-3], [0.10, 1.7e-3], [0.25, 3.1e-3]]),
    "electron": np.array([[0.03, 1.3e-3], [0.05, 1.7e-3], [0.15, 3.1e-3]]),
    "muon": np.array([[0.010, 1.0e-4], [0.015, 1.5e-4], [0.025, 3.5e-4]]),
}

#: Impact-parameter resolution a + b (pT / GeV)^-c in mm; rows |eta| <= 0.9, 1.4, 2.5. A smooth form fitted
#: to the CMS measurement (arXiv:1405.6569, fig. 15) that the card tabulates; it follows the table to 6 % on
#: average.
D0_RESOLUTION_MM: Final = np.array([[0.0097, 0.0737, 0.915], [0.0087, 0.0921, 0.932], [0.0122, 0.145, 1.001]])
DZ_RESOLUTION_MM: Final = np.array([[0.0288, 0.0861, 0.937], [0.0310, 0.165, 0.927], [0.0707, 0.556, 0.988]])

#: The measurement ends at this pT; below it the resolution is that at this pT.
_RESOLUTION_PT_MIN_GEV = 0.18

#: PDG codes of particles with energy in both calorimeters (K0S, Lambda), and their electromagnetic fraction.
_MIXED = (310, 3122)
_MIXED_ECAL_FRACTION = 0.3

#: Radius of curvature, in mm, of a transverse momentum of 1 GeV in 1 T.
_CURVATURE_MM = 1e12 / 2.99792458e8

_HCAL_BARREL = 0.087 * np.arange(19)
_HCAL_ENDCAP = np.array([1.653, 1.74, 1.83, 1.93, 2.043, 2.172, 2.322, 2.5, 2.65, 2.868, 2.95])


@dataclass(frozen=True)
class Calorimeter:
    """Cells and resolution of one calorimeter.

    `eta_edges`, shape (n + 1,), increase over both sides; `phi_bins`, shape (n,), is the number of cells in each ring.
    A deposit counts if it exceeds both `energy_min_gev` and `significance_min` standard deviations.
    """

    eta_edges: np.ndarray
    phi_bins: np.ndarray
    energy_min_gev: float
    significance_min: float
    electromagnetic: bool

    def sigma(self, energy: np.ndarray, eta: np.ndarray) -> np.ndarray:
        """Return the energy resolution in GeV."""
        if not self.electromagnetic:
            return np.sqrt((0.050 * energy) ** 2 + 1.50**2 * energy)
        eta = np.abs(eta)
        shape = np.where(eta <= 1.5, 1.0 + 0.64 * eta**2, 2.16 + 5.6 * (eta - 2.0) ** 2)
        inner = shape * np.sqrt((0.008 * energy) ** 2 + 0.11**2 * energy + 0.40**2)
        return np.where(eta <= 2.5, inner, np.sqrt((0.107 * energy) ** 2 + 2.08**2 * energy))


def _both_sides(edges: np.ndarray) -> np.ndarray:
    return np.concatenate([-edges[:0:-1], edges])


_ECAL_EDGES = _both_sides(0.0174 * np.arange(171))
_HCAL_EDGES = _both_sides(np.concatenate([_HCAL_BARREL, _HCAL_ENDCAP]))

ECAL: Final = Calorimeter(
    eta_edges=_ECAL_EDGES,
    phi_bins=np.full(len(_ECAL_EDGES) - 1, 360),
    energy_min_gev=0.5,
    significance_min=2.0,
    electromagnetic=True,
)
HCAL: Final = Calorimeter(
    eta_edges=_HCAL_EDGES,
    # 5 degrees in the barrel, 10 in the endcaps.
    phi_bins=np.where(np.abs(_HCAL_EDGES[:-1] + _HCAL_EDGES[1:]) / 2 < 1.653, 72, 36),
    energy_min_gev=1.0,
    significance_min=1.0,
    electromagnetic=False,
)


@dataclass(frozen=True)
class Candidates:
    """Energy-flow candidates of a batch, grouped by event; every array has the shape (n_candidates,).

    `pdg` is the PDG code of the particle for tracks, 22 for electromagnetic and 0 for hadronic cells. Momenta are in
    GeV, impact parameters in mm (zero for cells).
    """

    n_events: int
    event: np.ndarray
    pdg: np.ndarray
    charge: np.ndarray
    px: np.ndarray
    py: np.ndarray
    pz: np.ndarray
    energy: np.ndarray
    d0: np.ndarray
    d0_error: np.ndarray
    dz: np.ndarray
    dz_error: np.ndarray


@dataclass
class _Tracks:
    """Reconstructed tracks; `source` holds indices of the particles, momenta in GeV, impact parameters in mm."""

    source: np.ndarray
    pt: np.ndarray
    eta: np.ndarray
    phi: np.ndarray
    mass: np.ndarray
    resolution: np.ndarray
    d0: np.ndarray
    d0_error: np.ndarray
    dz: np.ndarray
    dz_error: np.ndarray

    @property
    def energy(self) -> np.ndarray:
        return np.sqrt((self.pt * np.cosh(self.eta)) ** 2 + self.mass**2)


def reconstruct(particles: FinalState, rng: np.random.Generator) -> Candidates:
    """Measure the stable particles of a batch of events.

    Parameters
    ----------
    particles : FinalState
        Visible stable particles, grouped by event.
    rng : np.random.Generator
        Source of all random numbers; the same state gives the same candidates.

    Returns
    -------
    Candidates
    """
    momentum = np.hypot(np.hypot(particles.px, particles.py), particles.pz)
    inside = np.hypot(particles.x, particles.y) < RADIUS_MM
    inside &= np.abs(particles.z) < HALF_LENGTH_MM
    inside &= np.abs(particles.pz) < np.tanh(CALO_ETA_MAX) * momentum
    particles = particles.take(np.flatnonzero(inside))

    pt, eta, phi = pt_eta_phi(particles.px, particles.py, particles.pz)
    calo_eta, calo_phi, d0, dz = _propagate(particles, pt, phi)
    tracks = _track(particles, pt, eta, phi, d0, dz, rng)

    kind = np.abs(particles.pdg)
    ecal_share = np.where((kind == 11) | (kind == 22), 1.0, 0.0)
    ecal_share[np.isin(kind, _MIXED)] = _MIXED_ECAL_FRACTION
    hcal_share = np.where(kind == 13, 0.0, 1.0 - ecal_share)
    cells = []
    for calorimeter, share in ((ECAL, ecal_share), (HCAL, hcal_share)):
        cells.append(_measure(calorimeter, particles, share, calo_eta, calo_phi, tracks, rng))
    return _merge(particles, tracks, cells)


def _propagate(
    particles: FinalState, pt: np.ndarray, phi: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return eta and phi at the calorimeter, and the true impact parameters d0 and dz in mm."""
    n = len(pt)
    x, y, z = particles.x, particles.y, particles.z
    slope = particles.pz / np.maximum(pt, 1e-12)  # dz per transverse path length
    # Transverse path length to the end plate in the direction of flight.
    to_end = (np.copysign(HALF_LENGTH_MM, slope) - z) / np.copysign(np.maximum(np.abs(slope), 1e-12), slope)
    end_x, end_y, path = np.empty(n), np.empty(n), np.empty(n)
    d0, dz = np.zeros(n), np.zeros(n)

    bent = np.abs(particles.charge) > 0.5
    i = np.flatnonzero(~bent)
    ux, uy = np.cos(phi[i]), np.sin(phi[i])
    along = x[i] * ux + y[i] * uy
    across2 = (x[i] * uy - y[i] * ux) ** 2
    path[i] = np.minimum(np.sqrt(np.maximum(RADIUS_MM**2 - across2, 0.0)) - along, to_end[i])
    end_x[i] = x[i] + ux * path[i]
    end_y[i] = y[i] + uy * path[i]

    i = np.flatnonzero(bent)
    turn = -np.sign(particles.charge[i])  # positive particles turn clockwise in a field along +z
    radius = np.maximum(pt[i], 1e-6) * _CURVATURE_MM / (np.abs(particles.charge[i]) * FIELD_T)
    # The centre lies to the left of the motion for turn = +1, to the right for turn = -1.
    centre_x = x[i] - turn * radius * np.sin(phi[i])
    centre_y = y[i] + turn * radius * np.cos(phi[i])
    centre = np.maximum(np.hypot(centre_x, centre_y), 1e-12)
    start = np.arctan2(y[i] - centre_y, x[i] - centre_x)
    # Azimuth of the position as seen from the centre, measured from the direction of the beam line.
    beamwards = np.arctan2(-centre_y, -centre_x)
    now = turn * (start - beamwards)
    arc = radius * ((now + np.pi) % (2 * np.pi) - np.pi)  # path since the closest approach
    d0[i] = -turn * (centre - radius)
    dz[i] = z[i] - arc * slope[i]
    cosine = (centre**2 + radius**2 - RADIUS_MM**2) / (2 * centre * radius)
    leaves = np.abs(cosine) < 1.0
    out = np.arccos(np.clip(cosine, -1.0, 1.0))
    # The track crosses the barrel at angles +out and -out; the first crossing in the direction of motion counts.
    first = np.minimum((out - now) % (2 * np.pi), (-out - now) % (2 * np.pi))
    path[i] = np.minimum(np.where(leaves, first * radius, np.inf), to_end[i])
    angle = start + turn * path[i] / radius
    end_x[i] = centre_x + radius * np.cos(angle)
    end_y[i] = centre_y + radius * np.sin(angle)

    end_z = z + slope * path
    eta = np.arcsinh(end_z / np.maximum(np.hypot(end_x, end_y), 1e-6))
    return eta, np.arctan2(end_y, end_x), d0, dz


def _kind_of_track(pdg: np.ndarray) -> list[tuple[str, np.ndarray]]:
    kind = np.abs(pdg)
    electron, muon = kind == 11, kind == 13
    return [("hadron", ~(electron | muon)), ("electron", electron), ("muon", muon)]


def _track(
    particles: FinalState,
    pt: np.ndarray,
    eta: np.ndarray,
    phi: np.ndarray,
    d0: np.ndarray,
    dz: np.ndarray,
    rng: np.random.Generator,
) -> _Tracks:
    """Decide which charged particles are found, and smear their momenta and impact parameters."""
    index = np.flatnonzero((np.abs(particles.charge) > 0.5) & (np.abs(eta) <= TRACK_ETA_MAX) & (pt > 0.1))
    eta_row = (np.abs(eta[index]) > 1.5).astype(int)
    pt_column = np.searchsorted([1.0, 100.0], pt[index])
    efficiency = np.empty(len(index))
    for name, chosen in _kind_of_track(particles.pdg[index]):
        efficiency[chosen] = TRACK_EFFICIENCY[name][eta_row[chosen], pt_column[chosen]]
    index = index[rng.random(len(index)) < efficiency]

    true_pt, abs_eta = pt[index], np.abs(eta[index])
    region = np.searchsorted([0.5, 1.5], abs_eta)
    resolution = np.empty(len(index))
    for name, chosen in _kind_of_track(particles.pdg[index]):
        constant, linear = PT_RESOLUTION[name][region[chosen]].T
        resolution[chosen] = np.hypot(constant, linear * true_pt[chosen])
    measured_pt = _log_normal(true_pt, resolution * true_pt, rng)

    region = np.searchsorted([0.9, 1.4], abs_eta)
    effective_pt = np.maximum(true_pt, _RESOLUTION_PT_MIN_GEV)
    errors = []
    for table in (D0_RESOLUTION_MM, DZ_RESOLUTION_MM):
        floor, size, power = table[region].T
        errors.append(floor + size * effective_pt**-power)
    return _Tracks(
        source=index,
        pt=measured_pt,
        eta=eta[index],
        phi=phi[index],
        mass=particles.mass[index],
        resolution=resolution,
        d0=d0[index] + errors[0] * rng.standard_normal(len(index)),
        d0_error=errors[0],
        dz=dz[index] + errors[1] * rng.standard_normal(len(index)),
        dz_error=errors[1],
    )


def _log_normal(mean: np.ndarray, sigma: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw from log-normal distributions, which are positive, with the given means and standard deviations."""
    width2 = np.log1p((sigma / mean) ** 2)
    return mean * np.exp(np.sqrt(width2) * rng.standard_normal(len(mean)) - 0.5 * width2)


@dataclass(frozen=True)
class _Cells:
    """Cells with significant neutral energy; every array has one entry per cell."""

    event: np.ndarray
    pdg: int
    energy: np.ndarray
    eta: np.ndarray
    phi: np.ndarray


def _measure(
    calorimeter: Calorimeter,
    particles: FinalState,
    share: np.ndarray,
    eta: np.ndarray,
    phi: np.ndarray,
    tracks: _Tracks,
    rng: np.random.Generator,
) -> _Cells:
    """Fill the cells of one calorimeter, smear them, and divide their energy between tracks and neutrals.

    `share` is the fraction of each particle's energy that this calorimeter measures, `eta` and `phi` are the position
    of the particle at its surface. The momenta of `tracks` in cells without a significant neutral excess are replaced
    by the best estimate from both measurements.
    """
    edges, phi_bins = calorimeter.eta_edges, calorimeter.phi_bins
    hit = np.flatnonzero((share > 0.0) & (eta > edges[0]) & (eta < edges[-1]))
    ring = np.searchsorted(edges, eta[hit], side="right") - 1
    around = np.minimum(
        ((phi[hit] + np.pi) / (2 * np.pi) * phi_bins[ring]).astype(np.int64), phi_bins[ring] - 1
    )
    cell_number = (particles.event[hit] * len(phi_bins) + ring) * 360 + around
    numbers, cell_of_hit = np.unique(cell_number, return_inverse=True)
    n = len(numbers)

    deposit = np.bincount(cell_of_hit, share[hit] * particles.energy[hit], minlength=n)
    ring = numbers // 360 % len(phi_bins)
    centre = 0.5 * (edges[ring] + edges[ring + 1])
    energy = _log_normal(deposit, calorimeter.sigma(deposit, centre), rng)
    sigma = calorimeter.sigma(energy, centre)
    energy[(energy < calorimeter.energy_min_gev) | (energy < calorimeter.significance_min * sigma)] = 0.0

    # Tracks that reach a cell of this calorimeter, and the energy that they are expected to deposit there.
    cell_of_particle = np.full(len(share), -1)
    cell_of_particle[hit] = cell_of_hit
    cell_of_track = cell_of_particle[tracks.source]
    here = np.flatnonzero(cell_of_track >= 0)
    cell_of_track = cell_of_track[here]
    announced = tracks.energy[here] * share[tracks.source[here]]
    track_energy = np.bincount(cell_of_track, announced, minlength=n)
    track_sigma2 = np.bincount(cell_of_track, (tracks.resolution[here] * announced) ** 2, minlength=n)

    neutral = np.maximum(energy - track_energy, 0.0)
    significant = neutral > calorimeter.energy_min_gev
    significant &= neutral > calorimeter.significance_min * np.sqrt(track_sigma2 + sigma**2)

    # Best estimate of the charged energy: the two measurements weighted with their inverse variances.
    combine = ~significant & (track_energy > 0.0) & (energy > 0.0)
    scale = np.ones(n)
    variance = sigma[combine] ** 2
    best = track_energy[combine] * variance + energy[combine] * track_sigma2[combine]
    scale[combine] = best / (variance + track_sigma2[combine]) / track_energy[combine]
    tracks.pt[here] *= scale[cell_of_track]

    # A random position within the cell, so that the granularity acts as a resolution and not as a lattice.
    chosen = np.flatnonzero(significant)
    ring, around = ring[chosen], numbers[chosen] % 360
    u, v = rng.random(len(chosen)), rng.random(len(chosen))
    return _Cells(
        event=numbers[chosen] // (360 * len(phi_bins)),
        pdg=22 if calorimeter.electromagnetic else 0,
        energy=neutral[chosen],
        eta=edges[ring] + u * (edges[ring + 1] - edges[ring]),
        phi=(around + v) * (2 * np.pi / phi_bins[ring]) - np.pi,
    )


def _merge(particles: FinalState, tracks: _Tracks, cells: list[_Cells]) -> Candidates:
    """Return tracks and cells together, grouped by event."""
    source = tracks.source
    event = np.concatenate([particles.event[source], *(c.event for c in cells)])
    order = np.argsort(event, kind="stable")
    n_cells = sum(len(c.event) for c in cells)

    def column(of_tracks: np.ndarray, of_cells: np.ndarray | None = None) -> np.ndarray:
        tail = np.zeros(n_cells, dtype=of_tracks.dtype) if of_cells is None else of_cells
        return np.concatenate([of_tracks, tail])[order]

    cell_energy = np.concatenate([c.energy for c in cells])
    cell_eta = np.concatenate([c.eta for c in cells])
    pt = column(tracks.pt, cell_energy / np.cosh(cell_eta))
    eta = column(tracks.eta, cell_eta)
    phi = column(tracks.phi, np.concatenate([c.phi for c in cells]))
    return Candidates(
        n_events=particles.n_events,
        event=event[order],
        pdg=column(
            particles.pdg[source],
            np.concatenate([np.full(len(c.event), c.pdg, dtype=np.int32) for c in cells]),
        ),
        charge=column(particles.charge[source]),
        px=pt * np.cos(phi),
        py=pt * np.sin(phi),
        pz=pt * np.sinh(eta),
        energy=column(tracks.energy, cell_energy),
        d0=column(tracks.d0),
        d0_error=column(tracks.d0_error),
        dz=column(tracks.dz),
        dz_error=column(tracks.dz_error),
    )
