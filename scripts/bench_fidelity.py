"""Speed of scoring against the usual routes, as ratios measured side by side in one run.

    python scripts/bench_fidelity.py [--jets N] [--points N] [--repeats R]

Each pair is timed in turn, R times, on one core; the table gives the median of the ratios and their range.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core for either side

import awkward as ak
import fastjet
import numpy as np
import ot
import vector

from eval.fidelity.distances import random_directions, sliced_wasserstein
from eval.fidelity.published import kernel_physics_distance
from eval.jets.constituents import Constituents


def random_jets(n_jets: int, seed: int) -> ak.Array:
    """Three subjets and about 45 particles a jet: the size of JetClass jets."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(45, n_jets) + 1
    jet = np.repeat(np.arange(n_jets), counts)
    axes = rng.normal(0, 0.2, (n_jets, 3, 2))
    angles = axes[jet, rng.integers(0, 3, jet.size)] + 0.05 * rng.standard_normal((jet.size, 2))
    fields = {"pt": 0.5 + rng.exponential(3, jet.size) ** 2, "eta_rel": angles[:, 0], "phi_rel": angles[:, 1]}
    return ak.zip({name: ak.unflatten(values, counts) for name, values in fields.items()})


def fastjet_sequence(jets: ak.Array, algorithm: int) -> fastjet.ClusterSequence:
    """Cluster through FastJet's awkward interface."""
    particles = ak.zip(
        {"pt": jets.pt, "eta": jets.eta_rel, "phi": jets.phi_rel, "mass": ak.zeros_like(jets.pt)},
        with_name="Momentum4D",
    )
    cartesian = ak.zip(
        {key: getattr(particles, key) for key in ("px", "py", "pz", "E")}, with_name="Momentum4D"
    )
    return fastjet.ClusterSequence(cartesian, fastjet.JetDefinition(algorithm, 1000.0))


def seconds(work: Callable[[], object]) -> float:
    """Processor time of one call, which other programs on the machine disturb least."""
    start = time.process_time()
    work()
    return time.process_time() - start


def compare(
    name: str, unit: str, size: int, ours: Callable[[], object], theirs: Callable[[], object], n: int
) -> None:
    """Time both in turn and print rates and ratio."""
    ours()  # first calls load libraries
    pairs = np.array([(seconds(ours), seconds(theirs)) for _ in range(n)])
    ratios = pairs[:, 1] / pairs[:, 0]
    rates = size / np.median(pairs, axis=0)
    spread = f"{ratios.min():.2g} to {ratios.max():.2g}"
    print(
        f"{name:52} {rates[0]:12,.0f} {rates[1]:12,.0f} {unit:8} {np.median(ratios):7.2g}  ({spread})",
        flush=True,
    )


def pairwise_squared_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased squared MMD with the kernel of KPD, from all pairs of jets, as its definition reads."""

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / a.shape[1] + 1) ** 4

    def mean_of_pairs(values: np.ndarray) -> float:
        n = len(values)
        return float((values.sum() - np.trace(values)) / (n * (n - 1)))

    return mean_of_pairs(kernel(x, x)) + mean_of_pairs(kernel(y, y)) - 2 * float(kernel(x, y).mean())


def main() -> None:
    """Run the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jets", type=int, default=4000, help="jets for the substructure")
    parser.add_argument(
        "--points", type=int, default=50_000, help="points of each sample for the sliced distance"
    )
    parser.add_argument("--repeats", type=int, default=3, help="times that each pair is timed")
    options = parser.parse_args()
    vector.register_awkward()

    rng = np.random.default_rng(0)
    x, y = (rng.normal(shift, 1, (options.points, 5)) for shift in (0.02, 0.0))
    theta = random_directions(200, 5, seed=0)
    value = sliced_wasserstein(x, y, directions=theta, standardise=False).value
    expected = ot.sliced_wasserstein_distance(x, y, projections=theta.T, p=1)
    print(
        f"sliced Wasserstein: {value:.8f}, POT {expected:.8f}, relative difference {value / expected - 1:.1e}\n"
    )

    print(f"{'':52} {'genscale':>12} {'the other':>12} {'':8} {'ratio':>7}")
    compare(
        f"sliced Wasserstein, 2 x {options.points} x 5, against POT",
        "points/s",
        2 * options.points,
        lambda: sliced_wasserstein(x, y, directions=theta, standardise=False),
        lambda: ot.sliced_wasserstein_distance(x, y, projections=theta.T, p=1),
        options.repeats,
    )
    features = [np.random.default_rng(seed).uniform(0, 1, (5000, 36)) for seed in (1, 2)]
    compare(
        "one batch of KPD, 2 x 5000 x 36, against all pairs",
        "jets/s",
        10_000,
        lambda: kernel_physics_distance(features[1], features[0], n_batches=1),
        lambda: pairwise_squared_mmd(features[0], features[1]),
        options.repeats,
    )
    jets = random_jets(options.jets, 1)
    compare(
        "tau1 to tau4, against FastJet",
        "jets/s",
        options.jets,
        lambda: Constituents(jets).n_subjettiness,
        lambda: fastjet_sequence(jets, fastjet.kt_algorithm).njettiness(axes_definition="WTA_KT_Axes"),
        options.repeats,
    )
    compare(
        "soft-drop mass, against FastJet",
        "jets/s",
        options.jets,
        lambda: Constituents(jets).soft_drop_momenta,
        lambda: (
            fastjet_sequence(jets, fastjet.cambridge_algorithm).exclusive_jets_softdrop_grooming().msoftdrop
        ),
        options.repeats,
    )


if __name__ == "__main__":
    main()
