"""The energy mover's distance against EnergyFlow, and in closed form."""

import json
from pathlib import Path

import numpy as np
import pytest

from eval.jets.energy_movers import energy_movers_distance

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
