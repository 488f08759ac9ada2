"""Coverage and minimum matching distance (MMD) by the energy mover's distance (Kansal et al., arXiv:2106.11535).

Both need a distance for every pair of jets, so they are measured on batches of a hundred jets, as in the JetNet
library. Each batch also measures reference against reference, on the same jets to be covered: what is judged is the
difference, batch by batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import awkward as ak
import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t
from tqdm import tqdm

from eval.errors import TooFewJets
from eval.fidelity.floors import RESOLVED_AT
from eval.fidelity.result import Row
from eval.jets.clustering import squared_distance
from eval.jets.constituents import Constituents

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class MatchingBatch:
    """Jets of one batch, each (particles, 3): pT in GeV, eta_rel, phi_rel."""

    real: list[FloatArray]
    generated: list[FloatArray]
    other_real: list[FloatArray]


@dataclass(frozen=True)
class CoverageMatching:
    """Coverage and minimum matching distance (MMD, GeV) with their standard errors over batches.

    Attributes
    ----------
    coverage, matching_distance_gev : of the generated jets.
    reference_coverage, reference_matching_distance_gev : of as many other reference jets: the best to hope for.
    coverage_p_value, matching_p_value : Student's t of the differences over batches, one-sided.
    n_jets, n_batches : jets of each kind in a batch, and batches; the values depend on n_jets.
    """

    coverage: float
    coverage_error: float
    reference_coverage: float
    reference_coverage_error: float
    coverage_p_value: float
    matching_distance_gev: float
    matching_distance_error_gev: float
    reference_matching_distance_gev: float
    reference_matching_distance_error_gev: float
    matching_p_value: float
    n_jets: int
    n_batches: int

    def rows(self) -> list[Row]:
        """Lines of the table; the significance is that of the p-value in Gaussian spreads."""
        return [
            self._row("coverage", "", self.coverage, self.coverage_error, self.reference_coverage,
                      self.reference_coverage_error, self.coverage_p_value),
            self._row("mmd_emd", "GeV", self.matching_distance_gev, self.matching_distance_error_gev,
                      self.reference_matching_distance_gev, self.reference_matching_distance_error_gev,
                      self.matching_p_value),
        ]  # fmt: skip

    def _row(
        self, name: str, unit: str, value: float, error: float, floor: float, spread: float, p_value: float
    ) -> Row:
        significance = float(norm.isf(p_value))
        resolved = significance >= RESOLVED_AT
        excess = abs(value - floor)
        jets = self.n_jets * self.n_batches
        needed = np.ceil(jets * (RESOLVED_AT / significance) ** 2) if significance > 0 else None
        return Row(
            "matching", name, unit, value, error, floor, spread, significance, p_value, excess,
            None if needed is None else int(needed), resolved, None, None, None,
            f"{'resolved' if resolved else 'not resolved'} at n = {jets} ({self.n_batches} batches of "
            f"{self.n_jets} jets): reference jets among themselves have {floor:.3g}",
        )  # fmt: skip


def energy_movers_distance(a: FloatArray, b: FloatArray, radius: float = 1.0) -> float:
    """Energy mover's distance of two jets in GeV (Komiske, Metodiev and Thaler, arXiv:1902.02346, eq. 1).

    Parameters
    ----------
    a, b : (particles, 3) pT in GeV, eta_rel, phi_rel.
    radius : cost of creating pT, R in the paper; 1 as in EnergyFlow and JetNet.
    """
    import ot

    cost = np.sqrt(squared_distance(a[:, None, 1], a[:, None, 2], b[None, :, 1], b[None, :, 2])) / radius
    supply, demand = a[:, 0], b[:, 0]
    missing = float(supply.sum() - demand.sum())
    # The difference in pT goes to a particle that is one unit of cost away from all others.
    if missing > 0:
        cost, demand = np.pad(cost, ((0, 0), (0, 1)), constant_values=1.0), np.append(demand, missing)
    elif missing < 0:
        cost, supply = np.pad(cost, ((0, 1), (0, 0)), constant_values=1.0), np.append(supply, -missing)
    # The margins agree by construction; checking them takes a third of the time.
    return float(
        ot.emd2(
            np.ascontiguousarray(supply),
            np.ascontiguousarray(demand),
            cost,
            center_dual=False,
            check_marginals=False,
        )
    )


def coverage_and_matching(
    reference: ak.Array | Constituents,
    generated: ak.Array | Constituents,
    n_jets: int = 100,
    n_batches: int = 5,
    seed: int = 42,
    progress: bool = True,
) -> CoverageMatching:
    """Coverage and MMD by the energy mover's distance, averaged over batches.

    Coverage: share of reference jets that are the nearest to some generated jet. MMD: mean distance of each reference
    jet to the nearest generated one. Both depend on n_jets: compare only numbers with the same.

    Parameters
    ----------
    reference, generated : jets as in :class:`eval.jets.constituents.Constituents`; masses are not used.
    n_jets : jets of each kind in a batch; JetNet's 100.
    n_batches : JetNet's default is 10; the time is that of 2 n_batches n_jets^2 optimal transports, 0.4 ms each.
    seed : of the batches.
    progress : show a progress bar.

    Raises
    ------
    TooFewJets
        When there are fewer than n_jets generated or 2 n_jets reference jets with particles.
    InputError
        For bad constituents.
    """
    batches = draw_batches(reference, generated, n_jets, n_batches, seed)
    bar = tqdm(batches, desc="energy mover's distances", disable=not progress)
    return combine_batches([measure_batch(batch) for batch in bar], n_jets)


def draw_batches(
    reference: ak.Array | Constituents,
    generated: ak.Array | Constituents,
    n_jets: int = 100,
    n_batches: int = 5,
    seed: int = 42,
) -> list[MatchingBatch]:
    """Draw the jets of every batch, so that several processes can share the work; see coverage_and_matching."""
    lists = []
    for name, jets, needed in (("reference", reference, 2 * n_jets), ("generated", generated, n_jets)):
        checked = jets if isinstance(jets, Constituents) else Constituents(jets, name)
        particles = np.stack([checked.pt, checked.eta, checked.phi], axis=1)
        split = [jet for jet in np.split(particles, np.cumsum(checked.counts)[:-1]) if len(jet)]
        if len(split) < needed:
            raise TooFewJets(
                f"{name} has {len(split)} jets with particles: at least {needed} are needed for n_jets = {n_jets}"
            )
        lists.append(split)
    rng = np.random.default_rng(seed)
    batches = []
    for _ in range(n_batches):
        real = rng.choice(len(lists[0]), size=2 * n_jets, replace=False)
        made = rng.choice(len(lists[1]), size=n_jets, replace=False)
        batches.append(
            MatchingBatch(
                [lists[0][k] for k in real[:n_jets]],
                [lists[1][k] for k in made],
                [lists[0][k] for k in real[n_jets:]],
            )
        )
    return batches


def measure_batch(batch: MatchingBatch) -> tuple[float, float, float, float]:
    """Coverage and MMD of the generated jets of a batch, then of its other reference jets."""

    def measure(candidates: list[FloatArray]) -> tuple[float, float]:
        distance = np.array([[energy_movers_distance(c, r) for r in batch.real] for c in candidates])
        return np.unique(distance.argmin(axis=1)).size / len(batch.real), float(distance.min(axis=0).mean())

    return (*measure(batch.generated), *measure(batch.other_real))


def combine_batches(values: Sequence[tuple[float, float, float, float]], n_jets: int) -> CoverageMatching:
    """Means, errors and p-values over the measured batches."""
    table = np.array(values)
    n = len(table)

    def error(column: int) -> float:
        return float(table[:, column].std(ddof=1) / np.sqrt(n)) if n > 1 else float("inf")

    def p_value(worse: FloatArray) -> float:
        spread = worse.std(ddof=1) if n > 1 else 0.0
        if spread == 0:
            return 0.5 if worse.mean() == 0 or n < 2 else float(worse.mean() < 0)
        return float(t.sf(worse.mean() / spread * np.sqrt(n), n - 1))

    mean = table.mean(axis=0)
    return CoverageMatching(
        float(mean[0]), error(0), float(mean[2]), error(2), p_value(table[:, 2] - table[:, 0]),
        float(mean[1]), error(1), float(mean[3]), error(3), p_value(table[:, 1] - table[:, 3]),
        n_jets, n,
    )  # fmt: skip
