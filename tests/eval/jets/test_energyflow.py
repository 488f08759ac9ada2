"""Energy flow polynomials against EnergyFlow itself, and in closed form."""

import sys

import awkward as ak
import numpy as np
import pytest

from eval.common.errors import InputError
from eval.jets import energyflow
from eval.jets.constituents import Constituents
from eval.jets.correlators import FLOW_GRAPHS, graph_name
from eval.jets.observables import compute_observables


@pytest.fixture
def ef():
    return pytest.importorskip("energyflow", reason="energyflow is not installed (extra energyflow)")


@pytest.fixture
def jets():
    rng = np.random.default_rng(5)
    counts = [12, 0, 1, 2, 7]
    flat = {
        "pt": rng.exponential(20, 22) + 1,
        "eta_rel": rng.normal(0, 0.2, 22),
        "phi_rel": rng.normal(0, 0.2, 22),
    }
    return ak.zip({name: ak.unflatten(values, counts) for name, values in flat.items()})


def test_ours_of_up_to_four_edges_are_energyflow_s(ef, jets):
    names = [graph_name(graph) for graph in FLOW_GRAPHS]
    ours = compute_observables(jets, names)
    some = [
        np.stack([np.asarray(x) for x in (jet.pt, jet.eta_rel, jet.phi_rel)], axis=1)
        for jet in jets
        if len(jet.pt)
    ]
    for graph, name in zip(FLOW_GRAPHS, names, strict=True):
        theirs = ef.EFP(list(graph), measure="hadr", beta=1, normed=True, coords="ptyphim").batch_compute(
            some, n_jobs=1
        )
        np.testing.assert_allclose(ours[name][[0, 2, 3, 4]], theirs, rtol=1e-8, atol=1e-15)


def test_of_higher_degree(ef, jets):
    found = energyflow.flow_polynomials(Constituents(jets), "d<=5")
    assert tuple(found) == energyflow.flow_names("d<=5")
    # The connected multigraphs with five edges (OEIS A076864: 1, 2, 5, 12, 33)
    assert len(found) == 33
    assert all(values[1] == 0 for values in found.values())
    # Two particles: the first graph has two vertices and five edges, so that it is 2 z1 z2 theta^5.
    pt, eta, phi = (ak.to_numpy(jets[3][field]) for field in ("pt", "eta_rel", "phi_rel"))
    expected = 2 * pt.prod() / pt.sum() ** 2 * np.hypot(np.diff(eta), np.diff(phi))[0] ** 5
    assert found["efp_2_5_0"][3] == pytest.approx(expected)


def test_selections_that_are_none(ef):
    with pytest.raises(InputError, match="'d<=4': selects none of more than 4 edges"):
        energyflow.flow_names("d<=4")
    with pytest.raises(InputError, match="'degree six': not a selection of EnergyFlow"):
        energyflow.flow_names("degree six")


def test_without_energyflow_the_message_says_what_is_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "energyflow", None)
    energyflow._polynomials.cache_clear()
    assert not energyflow.is_installed()
    with pytest.raises(InputError, match=r"flow polynomials d<=6: needs EnergyFlow.*docs/fidelity\.md"):
        energyflow.flow_names("d<=6")
