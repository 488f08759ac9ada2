"""The constituents of jets, given by pT, eta_rel and phi_rel: checked once, padded in batches of similar length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from eval.common.errors import InputError, TooFewJets
from eval.jets.clustering import ClusterTrees, cluster, kinematics, soft_drop, squared_distance
from eval.jets.correlators import FLOW_GRAPHS, energy_correlators, flow_polynomials

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

#: Radius of the jets of JetClass; it sets the scale of the N-subjettinesses and of soft drop.
JET_RADIUS = 0.8

#: Number of pairs in one padded batch: a few megabytes, so that repeated passes over it use the cache.
_PAIRS_PER_BATCH = 500_000


class Constituents:
    """The P constituents of J jets, as flat arrays; all derived quantities are computed only once.

    Parameters
    ----------
    jets : ak.Array
        J lists of records with pt in GeV, and eta_rel and phi_rel in radians, relative to the jet axis. Particles are
        massless unless there is a field ``mass`` (GeV). A field ``charge`` (units of e) is used by observables that
        need it. Particles may have any order, and a jet may be empty.
    name : str
        Name of the sample in error messages.

    Raises
    ------
    InputError
        A field is missing, a number is not finite, or a pT is not positive.

    Notes
    -----
    A boost along the beam shifts the eta of massless particles, so that relative coordinates lose no information. For
    massive particles eta_rel is taken as the pseudorapidity in the frame in which the jet axis is at eta = 0.
    """

    def __init__(self, jets: ak.Array, name: str = "jets") -> None:
        missing = [field for field in ("pt", "eta_rel", "phi_rel") if field not in ak.fields(jets)]
        if missing:
            found = ", ".join(ak.fields(jets)) or "no fields"
            raise InputError(
                f"{name}: field {missing[0]} is missing (found {found}); needed: pt, eta_rel, phi_rel"
            )
        self.name = name
        self.counts: IntArray = np.asarray(ak.num(jets["pt"], axis=1), dtype=np.int64)
        optional = [field for field in ("mass", "charge") if field in ak.fields(jets)]
        flat = {
            field: np.asarray(ak.flatten(jets[field], axis=1), dtype=np.float64)
            for field in ("pt", "eta_rel", "phi_rel", *optional)
        }
        self.jet_index: IntArray = np.repeat(np.arange(self.counts.size), self.counts)
        for field, values in flat.items():
            self._refuse(~np.isfinite(values), f"{field} is not finite")
        self._refuse(flat["pt"] <= 0, "pt is not positive (padding must be dropped)")
        self.pt, self.eta, self.phi = flat["pt"], flat["eta_rel"], flat["phi_rel"]
        self.mass = flat.get("mass", np.zeros(1))
        self.charge = flat.get("charge")

    def _refuse(self, bad: NDArray[np.bool_], complaint: str) -> None:
        if bad.any():
            jets = np.unique(self.jet_index[bad])
            raise InputError(
                f"{self.name}: {complaint} in {jets.size} of {self.counts.size} jets, first in jet {jets[0]}"
            )

    def __len__(self) -> int:
        return self.counts.size

    def require(self, n_jets: int) -> None:
        """Raise TooFewJets unless there are at least this many jets, and particles in some of them."""
        if len(self) < n_jets or self.pt.size == 0:
            raise TooFewJets(
                f"{self.name} has {len(self)} jets with {self.pt.size} particles: at least {n_jets} jets are needed"
            )

    @cached_property
    def momenta(self) -> FloatArray:
        """Px, py, pz, E of the particles in GeV, shape (P, 4)."""
        pz = self.pt * np.sinh(self.eta)
        energy = np.sqrt((self.pt * np.cosh(self.eta)) ** 2 + self.mass**2)
        return np.stack([self.pt * np.cos(self.phi), self.pt * np.sin(self.phi), pz, energy], axis=-1)

    @cached_property
    def jet_momenta(self) -> FloatArray:
        """Px, py, pz, E of the jets in GeV, shape (J, 4)."""
        return np.stack([self.sum(component) for component in self.momenta.T], axis=-1)

    @cached_property
    def scalar_pt(self) -> FloatArray:
        """Scalar sum of the particles' pT in GeV, shape (J,); zero for an empty jet."""
        return self.sum(self.pt)

    def sum(self, values: FloatArray) -> FloatArray:
        """Return the sum of a per-particle quantity over each jet, shape (J,)."""
        return np.bincount(self.jet_index, values, len(self)).astype(np.float64)

    def batches(self) -> Iterator[tuple[IntArray, IntArray, FloatArray]]:
        """Yield the jets that are not empty, in order of decreasing number of particles, in batches of similar length.

        Yields
        ------
        rows : array of int, shape (B,)
            Positions of the jets.
        counts : array of int, shape (B,)
            Their numbers of particles, in decreasing order.
        momenta : array of float, shape (B, C, 4)
            px, py, pz, E in GeV, padded with zeros.
        """
        order = np.argsort(-self.counts, kind="stable")
        order = order[self.counts[order] > 0]
        first = np.cumsum(self.counts) - self.counts
        while order.size:
            capacity = int(self.counts[order[0]])
            rows, order = np.split(order, [max(32, _PAIRS_PER_BATCH // capacity**2)])
            real = np.arange(capacity) < self.counts[rows, None]
            padded = np.zeros((rows.size, capacity, 4))
            padded[real] = self.momenta[(first[rows, None] + np.arange(capacity))[real]]
            yield rows, self.counts[rows], padded

    def per_jet(self, width: int, function: Callable[..., Any]) -> FloatArray:
        """Collect ``function(counts, momenta)``, shape (B, width), over all batches; rows of empty jets are 0."""
        result = np.zeros((len(self), width))
        for rows, counts, momenta in self.batches():
            result[rows] = function(counts, momenta)
        return result

    @cached_property
    def n_subjettiness(self) -> FloatArray:
        """tau_1 ... tau_4 as defined by the function `n_subjettiness`, shape (J, 4)."""
        return self.per_jet(4, lambda counts, p: n_subjettiness(p, cluster(p, counts, "kt", "wta")))

    @cached_property
    def energy_correlators(self) -> FloatArray:
        """e_2 and e_3 with beta = 1, shape (J, 2)."""
        return self.per_jet(2, lambda _, p: energy_correlators(p))

    @cached_property
    def flow_polynomials(self) -> FloatArray:
        """The 20 connected energy flow polynomials of degree one to four, shape (J, 20)."""
        return self.per_jet(len(FLOW_GRAPHS), lambda _, p: flow_polynomials(p))

    @cached_property
    def hardest_pt(self) -> FloatArray:
        """The pT of the three hardest particles of each jet in GeV, shape (J, 3)."""

        def hardest(_: IntArray, momenta: FloatArray) -> FloatArray:
            pt = np.sort(np.hypot(momenta[:, :, 0], momenta[:, :, 1]), axis=1)[:, ::-1][:, :3]
            return np.pad(pt, ((0, 0), (0, 3 - pt.shape[1])))

        return self.per_jet(3, hardest)

    @cached_property
    def soft_drop_momenta(self) -> FloatArray:
        """Px, py, pz, E of the soft-dropped jets (z_cut 0.1, beta 0) in GeV, shape (J, 4)."""
        return self.per_jet(4, lambda counts, p: soft_drop(cluster(p, counts, "cambridge", "e")))


def n_subjettiness(
    momenta: FloatArray, trees: ClusterTrees, n_max: int = 4, radius: float = JET_RADIUS
) -> FloatArray:
    """Return N-subjettiness tau_1 ... tau_n_max with beta = 1, about exclusive subjet axes.

    tau_N = sum_i pT_i min_a dR(i, a) / (radius sum_i pT_i) (Thaler and Van Tilburg, arXiv:1011.2268, eq. 2). A jet
    with at most N particles has tau_N = 0, because each particle is its own axis.

    Parameters
    ----------
    momenta : array of float, shape (B, C, 4)
        px, py, pz, E in GeV of the padded particles that were clustered.
    trees : ClusterTrees
        Their kT trees. With "wta" recombination the result is that of FastJet contrib's ``WTA_KT_Axes`` with
        ``NormalizedMeasure(1, radius)``, with "e" that of its ``KT_Axes``.
    n_max : int
        Largest N.
    radius : float
        Normalisation R0.

    Returns
    -------
    array of float, shape (B, n_max)
    """
    pt, rapidity, phi = kinematics(momenta)
    result = np.zeros((momenta.shape[0], n_max))
    for n in range(1, n_max + 1):
        jets, axes = trees.exclusive(n)
        nearest = np.full((jets.size, momenta.shape[1]), np.inf)
        for axis in axes.T:
            axis_y, axis_phi = trees.rapidity[jets, axis, None], trees.phi[jets, axis, None]
            np.minimum(nearest, squared_distance(rapidity[jets], phi[jets], axis_y, axis_phi), out=nearest)
        result[jets, n - 1] = (pt[jets] * np.sqrt(nearest)).sum(axis=1) / (radius * pt[jets].sum(axis=1))
    return result


def invariant_mass(momenta: FloatArray) -> FloatArray:
    """Return the mass in GeV of px, py, pz, E in the last axis; squares that rounding makes negative count as zero."""
    px, py, pz, energy = np.moveaxis(momenta, -1, 0)
    return np.sqrt(np.maximum((energy - pz) * (energy + pz) - px**2 - py**2, 0.0))
