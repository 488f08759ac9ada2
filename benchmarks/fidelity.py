"""Speed of scoring against the usual implementations, side by side on one core.

Each pair is timed in turn; the table gives the rates, and the median of the ratios with their range.
"""

from __future__ import annotations

from collections.abc import Callable

import awkward as ak
import fastjet
import numpy as np
import ot
import vector

from benchmarks.harness import in_turn, parser, random_jets, summary
from eval.fidelity.distances import random_directions, sliced_wasserstein
from eval.fidelity.published import kernel_physics_distance
from eval.jets.constituents import Constituents


def fastjet_sequence(jets: ak.Array, algorithm: int) -> fastjet.ClusterSequence:
    """Cluster through FastJet's awkward interface."""
    fields = {"pt": jets.pt, "eta": jets.eta_rel, "phi": jets.phi_rel, "mass": ak.zeros_like(jets.pt)}
    particles = ak.zip(fields, with_name="Momentum4D")
    cartesian = ak.zip(
        {key: getattr(particles, key) for key in ("px", "py", "pz", "E")}, with_name="Momentum4D"
    )
    return fastjet.ClusterSequence(cartesian, fastjet.JetDefinition(algorithm, 1000.0))


def pairwise_squared_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased squared MMD with the kernel of KPD, from all pairs of jets, as its definition reads."""

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / a.shape[1] + 1) ** 4

    def mean_of_pairs(values: np.ndarray) -> float:
        n = len(values)
        return float((values.sum() - np.trace(values)) / (n * (n - 1)))

    return mean_of_pairs(kernel(x, x)) + mean_of_pairs(kernel(y, y)) - 2 * float(kernel(x, y).mean())


def main() -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("--jets", type=int, default=4000, help="jets for the substructure")
    options.add_argument(
        "--points", type=int, default=50_000, help="points of each sample for the sliced distance"
    )
    arguments = options.parse_args()
    vector.register_awkward()
    n, rng = arguments.points, np.random.default_rng(0)
    x, y = (rng.normal(shift, 1, (n, 5)) for shift in (0.02, 0.0))
    theta = random_directions(200, 5, seed=0)
    a, b = (np.random.default_rng(seed).uniform(0, 1, (5000, 36)) for seed in (1, 2))
    jets = random_jets(arguments.jets, 1)

    def sliced() -> float:
        return sliced_wasserstein(x, y, directions=theta, standardise=False).value

    def pot() -> float:
        return ot.sliced_wasserstein_distance(x, y, projections=theta.T, p=1)

    print(
        f"sliced Wasserstein: {sliced():.8f}, POT {pot():.8f}, relative difference {sliced() / pot() - 1:.1e}\n"
    )
    print(f"{'':52} {'genscale':>12} {'the other':>12} {'':8}   ratio")
    pairs: dict[str, tuple[str, int, Callable[[], object], Callable[[], object]]] = {
        f"sliced Wasserstein, 2 x {n} x 5, against POT": ("points/s", 2 * n, sliced, pot),
        "one batch of KPD, 2 x 5000 x 36, against all pairs": (
            "jets/s", 10_000, lambda: kernel_physics_distance(b, a, n_batches=1), lambda: pairwise_squared_mmd(a, b),
        ),
        "tau1 to tau4, against FastJet": (
            "jets/s", len(jets), lambda: Constituents(jets).n_subjettiness,
            lambda: fastjet_sequence(jets, fastjet.kt_algorithm).njettiness(axes_definition="WTA_KT_Axes"),
        ),
        "soft-drop mass, against FastJet": (
            "jets/s", len(jets), lambda: Constituents(jets).soft_drop_momenta,
            lambda: fastjet_sequence(
                jets, fastjet.cambridge_algorithm
            ).exclusive_jets_softdrop_grooming().msoftdrop,
        ),
    }  # fmt: skip
    for name, (unit, size, ours, theirs) in pairs.items():
        times = in_turn({"ours": ours, "theirs": theirs}, arguments.repeats)
        rates = [size / np.median(spent) for spent in times.values()]
        ratio = summary(times["theirs"] / times["ours"], 2)
        print(f"{name:52} {rates[0]:12,.0f} {rates[1]:12,.0f} {unit:8} {ratio}", flush=True)


if __name__ == "__main__":
    main()
