"""Simulated jets show the physics of their class: settings and PDG values are the reference."""

import awkward as ak
import fastjet
import numpy as np
import pytest

from genscale.data import schema
from genscale.data.schema import CLASSES
from genscale.data.simulation import simulate_shard
from genscale.data.simulation.clustering import soft_drop_mass

# Pole masses in GeV: PDG for W, Z; m0 as set for H; Pythia's for the top.
MASSES = {"Wqq": 80.4, "Zqq": 91.2, "Hcc": 125.0, "Hgg": 125.0, "Hbb": 125.0, "Tbqq": 173.0}
RESONANCE = dict(zip(CLASSES, (0, 25, 25, 25, 25, 25, 23, 24, 6, 6), strict=True))


def flat(values):
    return ak.to_numpy(ak.flatten(values))


def median(values):
    return float(np.median(ak.to_numpy(values)))


def four_momenta(jets):
    parts = {"px": jets.part_px, "py": jets.part_py, "pz": jets.part_pz, "E": jets.part_energy}
    parts = ak.zip({name: ak.values_astype(value, "float64") for name, value in parts.items()})
    return ak.with_name(parts, "Momentum4D")


@pytest.mark.parametrize("name", CLASSES)
def test_jets_have_the_schema_and_the_selection(simulated, name):
    jets = simulated[name]
    assert tuple(jets.fields) == schema.COLUMNS
    for column in schema.COLUMNS:
        content = ak.flatten(jets[column]) if column.startswith("part_") else jets[column]
        assert ak.to_numpy(content).dtype == schema.DTYPES[column]
        assert np.all(np.isfinite(ak.to_numpy(content)))
    pt = ak.to_numpy(jets.jet_pt)
    assert len(jets) == 80
    assert np.all((pt > 500) & (pt < 1000))
    assert np.all(np.abs(jets.jet_eta) < 2)
    labels = np.array([ak.to_numpy(jets[label]) for label in schema.LABELS])
    assert np.all(labels.argmax(axis=0) == CLASSES.index(name))
    assert np.all(labels.sum(axis=0) == 1)
    kinds = [name for name in schema.IDENTITY if name.startswith("part_is")]
    assert np.all(sum(flat(jets[kind]) for kind in kinds) == 1)
    neutral = flat(jets.part_charge) == 0
    assert np.all(neutral == (flat(jets.part_isPhoton) + flat(jets.part_isNeutralHadron) == 1))
    for column in schema.DISPLACEMENTS:
        assert np.all(flat(jets[column])[neutral] == 0)
    assert np.all(flat(jets.part_d0err)[~neutral] > 0)


@pytest.mark.parametrize("name", CLASSES)
def test_constituents_add_up_to_the_jet_and_fall_in_pt(simulated, name):
    jets = simulated[name]
    assert ak.all(ak.num(jets.part_px) == jets.jet_nparticles)
    px, py, pz = ak.sum(jets.part_px, 1), ak.sum(jets.part_py, 1), ak.sum(jets.part_pz, 1)
    pt = np.hypot(px, py)
    np.testing.assert_allclose(pt, jets.jet_pt, rtol=1e-5)
    np.testing.assert_allclose(np.arcsinh(pz / pt), jets.jet_eta, atol=1e-5)
    np.testing.assert_allclose(np.arctan2(py, px), jets.jet_phi, atol=1e-5)
    np.testing.assert_allclose(ak.sum(jets.part_energy, 1), jets.jet_energy, rtol=1e-5)
    part_pt = np.hypot(jets.part_px, jets.part_py)
    assert ak.all(part_pt[:, 1:] <= part_pt[:, :-1] * (1 + 1e-6))
    # JetClass: part_deta = sign(jet_eta) (eta - jet_eta).
    side = np.where(jets.jet_eta > 0, 1, -1)
    deta = side * (np.arcsinh(jets.part_pz / part_pt) - jets.jet_eta)
    np.testing.assert_allclose(flat(jets.part_deta), flat(deta), atol=1e-5)
    dphi = np.arctan2(jets.part_py, jets.part_px) - jets.jet_phi
    np.testing.assert_allclose(np.cos(flat(jets.part_dphi)), np.cos(flat(dphi)), atol=1e-5)
    np.testing.assert_allclose(np.sin(flat(jets.part_dphi)), np.sin(flat(dphi)), atol=1e-5)


@pytest.mark.parametrize(("name", "mass"), MASSES.items())
def test_soft_drop_mass_peaks_at_the_resonance(simulated, name, mass):
    found = ak.to_numpy(simulated[name].jet_sdmass)
    peak = found[np.abs(found / mass - 1) < 0.2]
    assert len(peak) > 0.5 * len(found)
    # Resolution is about 7 GeV; neutrinos of b and c decays shift the peak down a little.
    assert np.median(peak) == pytest.approx(mass, abs=4.0)


def test_qcd_has_no_mass_peak_and_lower_masses(simulated):
    assert median(simulated["QCD"].jet_sdmass) < 50


def test_prongs_show_in_subjettiness(simulated):
    tau21 = {n: median(j.jet_tau2 / j.jet_tau1) for n, j in simulated.items()}
    tau32 = {n: median(j.jet_tau3 / j.jet_tau2) for n, j in simulated.items()}
    for name in ("Hbb", "Hcc", "Zqq", "Wqq"):
        assert tau21[name] < tau21["QCD"] - 0.1
    assert tau32["Tbqq"] < min(tau32[n] for n in ("QCD", "Hbb", "Hcc", "Zqq", "Wqq")) - 0.1
    for jets in simulated.values():
        taus = np.stack([ak.to_numpy(jets[f"jet_tau{n}"]) for n in (1, 2, 3, 4)])
        assert np.all(taus >= 0)
        assert np.mean(np.diff(taus, axis=0) <= 1e-6) > 0.99


def test_multiplicity_rises_with_colour_and_prongs(simulated):
    n = {name: ak.mean(jets.jet_nparticles) for name, jets in simulated.items()}
    assert n["Hgg"] > n["Hbb"] > n["Wqq"]
    assert n["Tbqq"] > n["H4q"] > n["Zqq"]


def test_b_jets_are_displaced(simulated):
    def displaced(name):
        jets = simulated[name]
        value, error = np.abs(jets.part_d0val), jets.part_d0err
        # Below 2 mm: K0S and Lambda decay further out in every class.
        return ak.mean(ak.sum((jets.part_charge != 0) & (value > 4 * error) & (value < 2.0), axis=1))

    assert displaced("Hbb") > 3 * displaced("QCD")
    assert displaced("Hbb") > 1.5 * displaced("Hcc")
    assert displaced("Hcc") > 1.5 * displaced("Wqq") > 0


def test_leptonic_classes_contain_their_lepton_with_both_charges(simulated):
    for name in ("Hqql", "Tbl"):
        jets = simulated[name]
        lepton = (jets.part_isElectron + jets.part_isMuon) == 1
        pt = np.hypot(jets.part_px, jets.part_py)
        assert ak.mean(ak.sum(pt * lepton, axis=1) / jets.jet_pt) > 0.2
        leading = ak.firsts(jets.part_charge[lepton])
        positive = ak.mean(leading > 0)
        assert 0.25 < positive < 0.75
    pt = np.hypot(simulated["QCD"].part_px, simulated["QCD"].part_py)
    assert ak.mean(ak.sum(pt * simulated["QCD"].part_isMuon, axis=1) / simulated["QCD"].jet_pt) < 0.02


@pytest.mark.parametrize("name", CLASSES)
def test_truth_particle_is_that_of_the_class(simulated, name):
    jets = simulated[name]
    assert set(np.abs(ak.to_numpy(jets.aux_genpart_pid))) == {RESONANCE[name]}
    if name == "QCD":
        assert not ak.any(jets.aux_truth_match)
        assert not ak.any(jets.aux_genpart_pt)
        return
    assert ak.all(jets.aux_truth_match)
    dphi = np.angle(np.exp(1j * ak.to_numpy(jets.jet_phi - jets.aux_genpart_phi)))
    distance = np.hypot(ak.to_numpy(jets.jet_eta - jets.aux_genpart_eta), dphi)
    assert np.median(distance) < (0.15 if name in ("Hqql", "Tbl") else 0.05)


def test_both_tops_and_both_bosons_give_jets(simulated):
    assert set(ak.to_numpy(simulated["Tbqq"].aux_genpart_pid)) == {6, -6}
    assert set(ak.to_numpy(simulated["Wqq"].aux_genpart_pid)) == {24, -24}


@pytest.mark.parametrize("name", ["QCD", "Hgg", "Tbqq"])
def test_soft_drop_in_steps_equals_soft_drop_at_once(simulated, name):
    parts = four_momenta(simulated[name])
    tree = fastjet.ClusterSequence(parts, fastjet.JetDefinition(fastjet.cambridge_algorithm, 1000.0))
    at_once = tree.exclusive_jets_softdrop_grooming(njets=1, beta=0.0, symmetry_cut=0.1, R0=0.8)
    at_once = np.maximum(ak.to_numpy(at_once.msoftdrop), 0)
    np.testing.assert_allclose(soft_drop_mass(parts), at_once, rtol=1e-9, atol=1e-2)
    np.testing.assert_allclose(simulated[name].jet_sdmass, at_once, rtol=2e-3, atol=0.3)


def test_multiparton_interactions_add_soft_particles(simulated):
    with_mpi = simulate_shard("Wqq", 60, seed=11, mpi=True)
    assert ak.mean(with_mpi.jet_nparticles) > ak.mean(simulated["Wqq"].jet_nparticles) + 3
    mass = ak.to_numpy(with_mpi.jet_sdmass)
    peak = mass[np.abs(mass / 80.4 - 1) < 0.2]
    assert np.median(peak) == pytest.approx(80.4, abs=4.0)
