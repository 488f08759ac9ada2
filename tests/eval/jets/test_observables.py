"""Jet observables against FastJet, closed forms and symmetries."""

import itertools

import awkward as ak
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.common.errors import InputError
from eval.jets.clustering import cluster
from eval.jets.constituents import Constituents, invariant_mass, n_subjettiness
from eval.jets.correlators import FLOW_GRAPHS, graph_name
from eval.jets.observables import DEFAULT_FIVE, REGISTRY, compute_observables

#: What needs no more than the kinematics of the particles.
KINEMATIC = [name for name in REGISTRY if name != "jet_charge"]


def fastjet_sequence(jets, algorithm):
    import fastjet

    particles = ak.zip(
        {
            "px": jets.pt * np.cos(jets.phi_rel),
            "py": jets.pt * np.sin(jets.phi_rel),
            "pz": jets.pt * np.sinh(jets.eta_rel),
            "E": jets.pt * np.cosh(jets.eta_rel),
        },
        with_name="Momentum4D",
    )
    # A radius beyond any jet: nothing is left to the beam.
    definition = fastjet.JetDefinition(getattr(fastjet, f"{algorithm}_algorithm"), 1000.0)
    return fastjet.ClusterSequence(particles, definition)


@pytest.fixture(scope="module")
def jets(make_jets):
    """Jets from a handful of particles to more than a hundred."""
    return ak.concatenate([make_jets(150, seed, mean) for seed, mean in enumerate((6, 40, 90))])


@pytest.mark.parametrize(("scheme", "axes"), [("wta", "WTA_KT_Axes"), ("e", "KT_Axes")])
def test_n_subjettiness_equals_fastjet(jets, scheme, axes):
    pytest.importorskip("fastjet")
    jets = jets[ak.num(jets) >= 5]  # FastJet contrib is not defined for fewer particles than axes
    expected = ak.to_numpy(fastjet_sequence(jets, "kt").njettiness(axes_definition=axes, beta=1.0, R0=0.8))
    ours = Constituents(jets).per_jet(4, lambda n, p: n_subjettiness(p, cluster(p, n, "kt", scheme)))
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-12)


def test_soft_drop_equals_fastjet(jets):
    pytest.importorskip("fastjet")
    groomed = fastjet_sequence(jets, "cambridge").exclusive_jets_softdrop_grooming(
        njets=1, beta=0.0, symmetry_cut=0.1, R0=0.8
    )
    ours = Constituents(jets).soft_drop_momenta
    np.testing.assert_allclose(np.hypot(*ours[:, :2].T), ak.to_numpy(groomed.ptsoftdrop), rtol=1e-9)
    # FastJet's single particles have masses of rounding size.
    np.testing.assert_allclose(invariant_mass(ours), ak.to_numpy(groomed.msoftdrop), rtol=1e-7, atol=1e-3)


def test_two_particles_in_closed_form():
    # For two massless particles m^2 = 2 pT1 pT2 (cosh deta - cos dphi).
    jet = ak.Array(
        [[{"pt": 60.0, "eta_rel": 0.1, "phi_rel": 0.0}, {"pt": 40.0, "eta_rel": -0.2, "phi_rel": 0.4}]]
    )
    values = compute_observables(jet, KINEMATIC)
    mass = np.sqrt(2 * 60 * 40 * (np.cosh(0.3) - np.cos(0.4)))
    assert values["jet_mass"][0] == pytest.approx(mass, rel=1e-12)
    assert values["softdrop_mass"][0] == pytest.approx(mass, rel=1e-12)  # z = 0.4 passes
    # The winner-take-all axis is the harder particle: tau1 = 40 * dR / (0.8 * 100).
    assert values["tau1"][0] == pytest.approx(0.4 * 0.5 / 0.8, rel=1e-12)
    assert values["tau2"][0] == values["tau21"][0] == values["tau32"][0] == 0
    assert values["multiplicity"][0] == 2


def test_soft_particle_is_groomed_away():
    hard = [{"pt": 60.0, "eta_rel": 0.1, "phi_rel": 0.0}, {"pt": 40.0, "eta_rel": 0.0, "phi_rel": 0.1}]
    soft = {"pt": 1.0, "eta_rel": -0.5, "phi_rel": -0.5}
    with_soft, without = (compute_observables(ak.Array([j]), KINEMATIC) for j in ([*hard, soft], hard))
    assert with_soft["softdrop_mass"][0] == pytest.approx(without["jet_mass"][0], rel=1e-12)
    assert with_soft["jet_mass"][0] > 1.2 * without["jet_mass"][0]


def test_jets_with_few_particles_have_defined_values():
    particle = {"pt": 600.0, "eta_rel": 0.1, "phi_rel": 0.2}
    jets = ak.Array([[particle], [], [particle, particle | {"pt": 10.0, "eta_rel": 0.3}]])[[0, 1, 2]]
    values = compute_observables(jets, KINEMATIC)
    assert all(np.isfinite(v).all() for v in values.values())
    assert values["jet_pt"][0] == pytest.approx(600)
    assert [v[1] for v in values.values()] == [0.0] * len(values)  # the empty jet
    assert values["tau1"][0] == 0
    assert values["tau1"][2] > 0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(-3, 3), st.floats(-2, 2), st.floats(0.1, 50))
def test_symmetries(make_jets, seed, rotation, boost, scale):
    """Order, azimuth and boosts along the beam change nothing; a scale of pT scales masses, not shapes."""
    jets = make_jets(3, seed, 12)
    rng = np.random.default_rng(seed)
    counts = ak.to_list(ak.num(jets))
    shuffled = jets[ak.Array([rng.permutation(n).tolist() for n in counts])]
    moved = ak.with_field(shuffled, shuffled.phi_rel + rotation, "phi_rel")
    moved = ak.with_field(moved, moved.eta_rel + boost, "eta_rel")
    moved = ak.with_field(moved, moved.pt * scale, "pt")
    before, after = compute_observables(jets, KINEMATIC), compute_observables(moved, KINEMATIC)
    for name in set(KINEMATIC) - {"girth"}:  # girth is about the nominal axis, which stays where it was
        factor = scale if REGISTRY[name].unit == "GeV" else 1.0
        np.testing.assert_allclose(
            after[name], factor * before[name], rtol=1e-6, atol=1e-4 * factor, err_msg=name
        )


def test_values_are_in_the_registered_range_and_do_not_depend_on_the_batch(jets):
    together = compute_observables(jets, KINEMATIC)
    alone = compute_observables(jets[7:8], KINEMATIC)
    for name in KINEMATIC:
        low, high = REGISTRY[name].range
        assert (together[name] >= low).all(), name
        assert (together[name] <= high).all(), name
        np.testing.assert_allclose(alone[name][0], together[name][7], rtol=1e-12, err_msg=name)


def test_massive_particles_use_their_rapidity():
    jet = ak.Array([[{"pt": 30.0, "eta_rel": 0.0, "phi_rel": 0.0, "mass": 40.0}]])
    assert compute_observables(jet, ["jet_mass"])["jet_mass"][0] == pytest.approx(40.0)


def test_bad_input_is_named(make_jets):
    jets = make_jets(3, 0)
    with pytest.raises(InputError, match=r"generated: field phi_rel is missing.*found pt, eta_rel"):
        compute_observables(jets[["pt", "eta_rel"]], sample="generated")
    with pytest.raises(InputError, match="observable tau9 is unknown; known: jet_pt"):
        compute_observables(jets, ["tau9"])
    broken = ak.Array(
        [[{"pt": 1.0, "eta_rel": 0.0, "phi_rel": 0.0}], [{"pt": np.nan, "eta_rel": 0, "phi_rel": 0}]]
    )
    with pytest.raises(InputError, match="pt is not finite in 1 of 2 jets, first in jet 1"):
        compute_observables(broken)
    padded = ak.Array([[{"pt": 0.0, "eta_rel": 0.0, "phi_rel": 0.0}]])
    with pytest.raises(InputError, match="padding must be dropped"):
        compute_observables(padded)


def test_default_five():
    assert DEFAULT_FIVE == ("jet_pt", "jet_mass", "tau21", "tau32", "multiplicity")
    assert set(DEFAULT_FIVE) <= set(REGISTRY)


@pytest.mark.parametrize("name", ["c2", "d2"])
def test_correlator_ratios_equal_fastjet(jets, name):
    pytest.importorskip("fastjet")
    jets = jets[ak.num(jets) >= 3]
    expected = fastjet_sequence(jets, "kt").exclusive_jets_energy_correlator(func=name, beta=1)
    np.testing.assert_allclose(compute_observables(jets, [name])[name], ak.to_numpy(expected), rtol=1e-9)


@pytest.mark.parametrize("edges", FLOW_GRAPHS, ids=graph_name)
def test_flow_polynomials_equal_the_sum_over_all_tuples(make_jets, edges):
    """The definition itself, by einsum over all assignments of particles to vertices."""
    jets = make_jets(4, 3, mean_particles=7)
    values = compute_observables(jets, [graph_name(edges)])[graph_name(edges)]
    for jet, value in zip(jets, values, strict=True):
        pt, eta, phi = (ak.to_numpy(jet[field]) for field in ("pt", "eta_rel", "phi_rel"))
        theta = np.hypot(eta[:, None] - eta, phi[:, None] - phi)
        n_vertices = 1 + max(max(edge) for edge in edges)
        letters = "abcde"
        terms = [letters[i] + letters[j] for i, j in edges] + list(letters[:n_vertices])
        factors = [theta] * len(edges) + [pt / pt.sum()] * n_vertices
        assert value == pytest.approx(np.einsum(",".join(terms) + "->", *factors), rel=1e-9)


def test_flow_graphs_are_all_connected_multigraphs():
    """1, 2, 5, 12 connected multigraphs of one to four edges (arXiv:1712.07124), no two isomorphic."""
    seen = set()
    for edges in FLOW_GRAPHS:
        n = 1 + max(max(edge) for edge in edges)
        relabelled = [
            tuple(sorted(tuple(sorted((order[i], order[j]))) for i, j in edges))
            for order in itertools.permutations(range(n))
        ]
        seen.add(min(relabelled))
    assert len(seen) == len(FLOW_GRAPHS)
    assert [sum(len(edges) == d for edges in FLOW_GRAPHS) for d in (1, 2, 3, 4)] == [1, 2, 5, 12]


def test_fractions_dispersion_and_charge_by_hand():
    particles = [
        {"pt": pt, "eta_rel": 0.3, "phi_rel": 0.4, "charge": q}
        for pt, q in ((16.0, -1), (64.0, 1), (20.0, 0))
    ]
    values = compute_observables(
        ak.Array([particles]), ["leading_fraction", "third_fraction", "ptd", "girth", "jet_charge"]
    )
    expected = {
        "leading_fraction": 0.64,
        "third_fraction": 0.16,
        "ptd": np.sqrt(16**2 + 64**2 + 20**2) / 100,
        "girth": 0.5,
        "jet_charge": (8 - 4) / 10,
    }
    assert {name: v[0] for name, v in values.items()} == pytest.approx(expected)


def test_charge_is_asked_for_by_name(make_jets):
    with pytest.raises(InputError, match="generated: jet_charge needs the field charge"):
        compute_observables(make_jets(2, 0), ["jet_charge"], "generated")
