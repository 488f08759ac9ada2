"""The detector on particles whose measurement is known in closed form."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genscale.data.simulation.clustering import find_jets, substructure
from genscale.data.simulation.detector import (
    ECAL,
    FIELD_T,
    HCAL,
    TRACK_EFFICIENCY,
    Candidates,
    reconstruct,
)
from genscale.data.simulation.shower import FinalState


def particles(pdg, charge, pt, eta, phi, mass=0.0, vertex=(0.0, 0.0, 0.0), n=1):
    """`n` equal particles, each in an event of its own; or arrays."""
    pt, eta, phi = (np.broadcast_to(np.asarray(v, float), n).copy() for v in (pt, eta, phi))
    pz = pt * np.sinh(eta)
    x, y, z = (np.broadcast_to(np.asarray(v, float), n).copy() for v in vertex)
    return FinalState(
        n_events=n,
        event=np.arange(n),
        pdg=np.full(n, pdg, dtype=np.int32),
        charge=np.full(n, float(charge)),
        px=pt * np.cos(phi),
        py=pt * np.sin(phi),
        pz=pz,
        energy=np.sqrt(pt**2 + pz**2 + mass**2),
        mass=np.full(n, mass),
        x=x,
        y=y,
        z=z,
    )


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("pdg", "kind", "pt", "eta", "expected"),
    [
        (211, "hadron", 5.0, 0.7, (0, 1)),
        (211, "hadron", 0.5, 2.0, (1, 0)),
        (11, "electron", 200.0, 0.7, (0, 2)),
        (13, "muon", 5.0, 2.0, (1, 1)),
    ],
)
def test_track_efficiency(pdg, kind, pt, eta, expected):
    n = 20_000
    found = reconstruct(particles(pdg, -1, pt, eta, 0.3, 0.1, n=n), rng())
    assert np.sum(found.charge != 0) / n == pytest.approx(TRACK_EFFICIENCY[kind][expected], abs=0.015)


def test_no_track_beyond_the_tracker_and_nothing_from_the_forward_region():
    assert not np.any(reconstruct(particles(211, 1, 5.0, 2.7, 0.0, 0.14, n=500), rng()).charge)
    assert not len(reconstruct(particles(22, 0, 50.0, 3.2, 0.0, n=500), rng()).event)


def test_photons_keep_energy_and_direction_within_the_resolution():
    n, energy, eta = 20_000, 50.0, 0.4
    found = reconstruct(particles(22, 0, energy / np.cosh(eta), eta, 1.0, n=n), rng())
    assert np.all(found.pdg == 22)
    assert len(found.event) == n
    assert np.mean(found.energy) == pytest.approx(energy, rel=2e-3)
    sigma = float(ECAL.sigma(np.array(energy), np.array(eta)))
    assert np.std(found.energy) == pytest.approx(sigma, rel=0.05)
    measured_eta = np.arcsinh(found.pz / np.hypot(found.px, found.py))
    assert np.max(np.abs(measured_eta - eta)) <= 0.0174
    assert np.max(np.abs(np.arctan2(found.py, found.px) - 1.0)) <= np.pi / 180


def test_photons_in_one_cell_merge_and_apart_they_do_not():
    both = particles(22, 0, 20.0, 0.3, np.array([0.5, 0.5002]), n=2)
    together = FinalState(**{**vars(both), "event": np.zeros(2, int), "n_events": 1})
    assert len(reconstruct(together, rng()).event) == 1
    apart = particles(22, 0, 20.0, 0.3, np.array([0.5, 0.6]), n=2)
    apart = FinalState(**{**vars(apart), "event": np.zeros(2, int), "n_events": 1})
    assert len(reconstruct(apart, rng()).event) == 2
    assert len(reconstruct(both, rng()).event) == 2  # different events never share a cell


def test_neutral_hadrons_are_measured_by_the_hadronic_calorimeter():
    n, energy, eta = 20_000, 100.0, 0.4
    found = reconstruct(particles(2112, 0, energy / np.cosh(eta), eta, 1.0, n=n), rng())
    assert np.all(found.pdg == 0)
    assert np.mean(found.energy) == pytest.approx(energy, rel=5e-3)
    assert np.std(found.energy) == pytest.approx(float(HCAL.sigma(np.array(energy), np.array(eta))), rel=0.05)


def test_energy_flow_counts_a_charged_pion_once():
    n, pt = 20_000, 30.0
    found = reconstruct(particles(211, 1, pt, 0.2, 0.0, 0.14, n=n), rng())
    total = np.bincount(found.event, found.energy, minlength=n)
    true = np.sqrt((pt * np.cosh(0.2)) ** 2 + 0.14**2)
    # Upward fluctuations of the calorimeter above the track survive as neutral hadrons: a small bias.
    assert np.mean(total) / true == pytest.approx(1.04, abs=0.05)
    charged = found.charge != 0
    track_pt = np.hypot(found.px, found.py)[charged]
    assert np.mean(track_pt) == pytest.approx(pt, rel=0.03)
    # Without a track (5 %) the calorimeter alone sees it.
    assert np.mean(total > 0.3 * true) > 0.97


def test_muons_leave_no_energy_in_the_calorimeters():
    found = reconstruct(particles(13, -1, 50.0, 0.5, 0.0, 0.106, n=2000), rng())
    assert np.all(np.abs(found.pdg) == 13)
    assert np.std(np.hypot(found.px, found.py)) / 50.0 == pytest.approx(np.hypot(0.010, 1e-4 * 50), rel=0.06)


@settings(max_examples=60, deadline=None)
@given(
    d0=st.floats(-50, 50),
    dz=st.floats(-50, 50),
    arc=st.floats(0, 300),
    pt=st.floats(0.5, 100),
    phi=st.floats(-3.1, 3.1),
    eta=st.floats(-2, 2),
    charge=st.sampled_from([-1, 1]),
)
def test_impact_parameters_are_those_of_the_helix(d0, dz, arc, pt, phi, eta, charge):
    """Start on a helix with known closest approach, `arc` mm downstream: d0 and dz come back.

    The sign is that of x sin(phi) - y cos(phi), in which a straight line's d0 is (x py - y px) / pt.
    """
    radius = pt / (0.299792458 * FIELD_T) * 1e3
    if abs(d0) >= 0.9 * radius or arc > 2.0 * radius:
        return
    # Closest approach: perpendicular to the direction there.
    x0, y0 = d0 * np.sin(phi), -d0 * np.cos(phi)
    turn = -charge * arc / radius
    x = x0 + (np.sin(phi + turn) - np.sin(phi)) * radius / -charge
    y = y0 - (np.cos(phi + turn) - np.cos(phi)) * radius / -charge
    z = dz + arc * np.sinh(eta)
    n = 40
    found = reconstruct(particles(13, charge, pt, eta, phi + turn, 0.106, (x, y, z), n), rng(1))
    tracks = found.charge != 0
    assert tracks.any()
    assert np.all(np.abs(found.d0[tracks] - d0) < 6 * found.d0_error[tracks])
    assert np.all(np.abs(found.dz[tracks] - dz) < 6 * found.dz_error[tracks])


def test_impact_parameter_resolution_is_its_stated_error_and_improves_with_pt():
    errors = []
    for pt in (0.5, 2.0, 10.0, 100.0):
        found = reconstruct(particles(13, 1, pt, 0.5, 0.0, 0.106, n=20_000), rng(2))
        assert np.std(found.d0 / found.d0_error) == pytest.approx(1.0, abs=0.03)
        assert np.std(found.dz / found.dz_error) == pytest.approx(1.0, abs=0.03)
        errors.append(found.d0_error[0])
    # CMS measures about 90 um at 1 GeV and 10 um at 100 GeV in the barrel (arXiv:1405.6569).
    assert np.all(np.diff(errors) < 0)
    assert errors[-1] == pytest.approx(0.011, abs=0.002)


def test_charged_particles_bend_before_they_reach_the_calorimeter():
    """Beyond the tracker only the cell shows where a pion went: half the turning angle from its direction."""
    pt, eta = 1.0, 2.7
    radius = pt / (0.299792458 * FIELD_T) * 1e3
    half_turn = 0.5 * 3000.0 / np.sinh(eta) / radius
    for charge in (1, -1):
        found = reconstruct(particles(211, charge, pt, eta, 0.35, 0.14, n=4000), rng())
        phi = np.arctan2(found.py, found.px)
        assert len(phi) > 1000
        assert np.mean(phi) == pytest.approx(0.35 - charge * half_turn, abs=np.pi / 36)


def test_low_energy_loopers_are_finite():
    found = reconstruct(particles(211, 1, 0.15, 0.0, 0.0, 0.14, n=200), rng())
    assert all(np.all(np.isfinite(v)) for v in vars(found).values() if isinstance(v, np.ndarray))


def test_same_generator_state_same_candidates():
    one, two = (reconstruct(particles(211, 1, 5.0, 0.5, 0.0, 0.14, n=300), rng(7)) for _ in range(2))
    assert all(
        np.array_equal(getattr(one, name), getattr(two, name)) for name in ("px", "energy", "d0", "event")
    )


def two_prongs(distance):
    pt, phi = np.array([400.0, 300.0, 3.0]), np.array([0.0, distance, 3.0])
    zero = np.zeros(3)
    return Candidates(
        n_events=2,
        event=np.array([1, 1, 1]),
        pdg=np.full(3, 22, np.int32),
        charge=zero,
        px=pt * np.cos(phi),
        py=pt * np.sin(phi),
        pz=zero,
        energy=pt,
        d0=zero,
        d0_error=zero,
        dz=zero,
        dz_error=zero,
    )


def test_two_particles_make_one_jet_with_known_substructure():
    distance = 0.4
    candidates = two_prongs(distance)
    jets = find_jets(candidates)
    assert jets.event.tolist() == [1]
    assert jets.constituents.tolist() == [0, 1]
    mass, taus = substructure(candidates, jets)
    assert mass[0] == pytest.approx(np.sqrt(2 * 400 * 300 * (1 - np.cos(distance))), rel=1e-9)
    # One axis between two particles: the best is on the harder one, beta = 1.
    assert taus[0, 0] == pytest.approx(300 * distance / (700 * 0.8), rel=0.02)
    assert taus[0, 1] == pytest.approx(0, abs=1e-9)


def test_particles_further_apart_than_the_radius_make_no_jet_in_the_window():
    assert len(find_jets(two_prongs(1.0)).event) == 0
