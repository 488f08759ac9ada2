"""The energy mover's distance against EnergyFlow, and in closed form."""

import json
from pathlib import Path

import numpy as np
import pytest

from eval.jets.energy_movers import energy_movers_distance, energy_movers_distances

ENERGYFLOW = json.loads((Path(__file__).parent / "energy_movers.json").read_text())


def test_equals_energyflow():
    jets = [np.array(jet) for jet in ENERGYFLOW["jets"]]
    ours = [[energy_movers_distance(a, b) for b in jets] for a in jets]
    np.testing.assert_allclose(ours, ENERGYFLOW["energy_movers_distances"], rtol=1e-7, atol=1e-7)


def test_in_closed_form():
    one = np.array([[100.0, 0.0, 0.0]])
    moved = np.array([[80.0, 0.3, 0.4]])
    assert energy_movers_distance(one, moved) == pytest.approx(80 * 0.5 + 20)
    assert energy_movers_distance(moved, one) == pytest.approx(60)
    split = np.array([[60.0, 0.0, 0.0], [40.0, 0.0, 0.1]])
    assert energy_movers_distance(one, split) == pytest.approx(4.0)


def random_jets(n, seed):
    rng = np.random.default_rng(seed)
    return [
        np.stack([rng.exponential(20, k) + 1, *rng.normal(0, 0.3, (2, k))], axis=1)
        for k in rng.integers(1, 30, n)
    ]


@pytest.mark.parametrize("installed", [True, False])
def test_all_pairs(installed, monkeypatch):
    if installed:
        pytest.importorskip("energyflow", reason="energyflow is not installed (extra energyflow)")
    monkeypatch.setattr("eval.jets.energy_movers.is_installed", lambda: installed)
    a, b = random_jets(4, 1), random_jets(5, 2)
    expected = [[energy_movers_distance(one, other, radius=0.8) for other in b] for one in a]
    np.testing.assert_allclose(energy_movers_distances(a, b, radius=0.8), expected, rtol=1e-9)


def test_equals_energyflow_as_installed():
    emd = pytest.importorskip("energyflow", reason="energyflow is not installed (extra energyflow)").emd.emd
    for one, other in zip(random_jets(20, 3), random_jets(20, 4), strict=True):
        for radius in (0.8, 1.0):
            theirs = emd(one, other, R=radius, norm=False)
            assert energy_movers_distance(one, other, radius) == pytest.approx(theirs, rel=1e-9)
