"""Published distances against the libraries that define them, and their behaviour on known samples."""

import json
from pathlib import Path

import awkward as ak
import numpy as np
import pytest

from eval.common.errors import InputError
from eval.fidelity.published import frechet_physics_distance, kernel_physics_distance, physics_features
from eval.jets.observables import compute_observables

REFERENCE = Path(__file__).parent / "reference"
ENERGYFLOW = json.loads((REFERENCE / "energyflow.json").read_text())
JETNET = json.loads((REFERENCE / "jetnet.json").read_text())


def isomorphic_name(edges):
    """Our name of EnergyFlow's graph, whatever the numbers of its vertices."""
    from itertools import permutations

    from eval.jets.correlators import FLOW_GRAPHS, graph_name

    def canonical(graph):
        n = 1 + max(max(edge) for edge in graph)
        return min(
            tuple(sorted(tuple(sorted((order[i], order[j]))) for i, j in graph))
            for order in permutations(range(n))
        )

    return next(graph_name(graph) for graph in FLOW_GRAPHS if canonical(graph) == canonical(edges))


def energyflow_jets():
    return ak.Array(
        [[dict(zip(("pt", "eta_rel", "phi_rel"), p, strict=True)) for p in jet] for jet in ENERGYFLOW["jets"]]
    )


def test_flow_polynomials_equal_energyflow():
    names = [isomorphic_name(graph) for graph in ENERGYFLOW["graphs"]]
    assert len(set(names)) == 20
    ours = compute_observables(energyflow_jets(), names)
    expected = np.array(ENERGYFLOW["polynomials"])
    np.testing.assert_allclose(np.stack([ours[name] for name in names], axis=1), expected, rtol=1e-8)


def test_frechet_and_kernel_distances_equal_jetnet():
    rng = np.random.default_rng(7)
    x = rng.normal(size=(60000, 6)) @ rng.normal(size=(6, 6)) + 1
    y = np.concatenate([x[:30000] * 1.05, rng.gamma(2.0, size=(25000, 6))])
    fpd = frechet_physics_distance(x, y, min_samples=2000, max_samples=10000, n_batches=5, n_points=6)
    kpd = kernel_physics_distance(x, y, n_batches=4, batch_size=1000)
    assert (fpd.value, fpd.error) == pytest.approx(JETNET["fpd"], rel=1e-4)
    assert (kpd.value, kpd.error) == pytest.approx(JETNET["kpd"], rel=1e-6)


def test_36_features(make_jets):
    features = physics_features(make_jets(50, 1))
    assert features.shape == (50, 36)
    np.testing.assert_array_equal(features[:, 0], 1.0)
    assert np.unique(features[0]).size == 36


def test_frechet_distance_of_gaussians_in_closed_form():
    """Squared W_2 of Gaussians: shift^2 + (sigma_x - sigma_y)^2 in each axis, here in units of max |x|."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 1.0, (40_000, 2)), rng.normal([0.5, 0], [1.0, 1.5], (40_000, 2))
    scale = np.abs(x).max(axis=0)
    result = frechet_physics_distance(x, y, replace=False)
    assert result.value == pytest.approx((0.5 / scale[0]) ** 2 + (0.5 / scale[1]) ** 2, rel=0.03)


def test_extrapolation_is_unbiased_only_without_replacement():
    with_replacement, without = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(size=(2000, 8)), rng.normal(size=(2000, 8))
        options = {"n_batches": 20, "seed": seed}
        with_replacement.append(frechet_physics_distance(x, y, **options).value)
        without.append(frechet_physics_distance(x, y, replace=False, **options).value)
    assert np.mean(without) < 0.5 * np.mean(with_replacement)


def test_kernel_distance_of_one_distribution_is_zero_within_its_error():
    rng = np.random.default_rng(3)
    result = kernel_physics_distance(
        rng.normal(size=(20000, 3)), rng.normal(size=(20000, 3)), batch_size=2000
    )
    assert abs(result.value) < 2 * result.error


def test_bad_input_is_named():
    with pytest.raises(
        InputError, match="generated has 10 jets: at least 1000 are needed, 50000 recommended"
    ):
        frechet_physics_distance(np.zeros((2000, 2)), np.zeros((10, 2)))
    with pytest.raises(InputError, match="as many features"):
        kernel_physics_distance(np.zeros((2000, 2)), np.zeros((2000, 3)))
    with pytest.raises(InputError, match="without replacement"):
        frechet_physics_distance(np.ones((2000, 2)), np.ones((2000, 2)), max_samples=3000, replace=False)
