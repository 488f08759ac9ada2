"""Sequential recombination of many jets at once: kT and Cambridge/Aachen trees in numpy.

N-subjettiness needs kT axes and soft drop needs a Cambridge/Aachen tree. FastJet (GPL) is the reference with which
the tests compare every number; here the same pairwise algorithm runs over a batch of jets of nearly equal length, one
merge per jet and pass, so that hundreds of jets share the overhead of Python.

Both algorithms use a radius larger than any jet, so that all particles of a jet end in one tree and the distance to
the beam never matters (Catani et al., Nucl. Phys. B406 (1993) 187; Dokshitzer et al., JHEP 08 (1997) 001; Wobisch and
Wengler, hep-ph/9907280).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class ClusterTrees:
    """The binary trees of a batch of B jets with room for C particles each.

    Nodes 0 ... C - 1 are particles, and node C + s is made by merge s. A jet with n particles makes its first merge at
    s = C - n, so that at each s all jets that take part have the same number of nodes left, and the root of every jet
    with at least two particles is node 2C - 2.

    Attributes
    ----------
    counts : array of int, shape (B,)
        Number of particles of each jet.
    pt : array of float, shape (B, 2C - 1)
        Transverse momenta of the nodes in GeV.
    rapidity : array of float, shape (B, 2C - 1)
        Rapidities of the nodes.
    phi : array of float, shape (B, 2C - 1)
        Azimuths of the nodes in radians.
    momenta : array of float, shape (B, 2C - 1, 4)
        px, py, pz, E of the nodes in GeV: the sum of their particles, in either recombination scheme.
    children : array of int, shape (B, 2C - 1, 2)
        The two nodes that were merged into each node; -1 for particles and unused nodes.
    parents : array of int, shape (B, 2C - 1)
        The node into which each node was merged; 2C - 1 for the root, -1 for unused nodes.
    """

    counts: IntArray
    pt: FloatArray
    rapidity: FloatArray
    phi: FloatArray
    momenta: FloatArray
    children: IntArray
    parents: IntArray

    def root(self) -> IntArray:
        """Return the node that holds the whole jet, shape (B,); node 0 for jets of at most one particle."""
        return np.where(self.counts > 1, self.pt.shape[1] - 1, 0)

    def exclusive(self, n: int) -> tuple[IntArray, IntArray]:
        """Return the nodes that are left when the clustering is stopped at n of them.

        Parameters
        ----------
        n : int
            Number of nodes.

        Returns
        -------
        jets : array of int, shape (K,)
            Rows of the jets with at least n particles.
        nodes : array of int, shape (K, n)
            The n nodes of each of them.
        """
        total = self.parents.shape[1]
        first_later = total - (n - 1)  # the last n - 1 merges make the nodes from here on
        alive = self.parents[:, :first_later] >= first_later
        jets = np.flatnonzero(self.counts >= n)
        return jets, np.nonzero(alive[jets])[1].reshape(-1, n)


def cluster(
    momenta: FloatArray,
    counts: IntArray,
    algorithm: Literal["kt", "cambridge"],
    recombination: Literal["e", "wta"],
) -> ClusterTrees:
    """Cluster each jet of a batch into one tree.

    Parameters
    ----------
    momenta : array of float, shape (B, C, 4)
        px, py, pz, E in GeV, zero after the particles of each jet.
    counts : array of int, shape (B,)
        Number of particles of each jet, in decreasing order.
    algorithm : str
        "kt", d_ij = min(pT_i, pT_j)^2 dR_ij^2, or "cambridge", d_ij = dR_ij^2.
    recombination : str
        "e" adds four-momenta; "wta" (winner takes all, Bertolini, Chan and Thaler, arXiv:1310.7584) adds pT and keeps
        the direction of the harder node.

    Returns
    -------
    ClusterTrees

    Raises
    ------
    ValueError
        `counts` are not in decreasing order.
    """
    n_jets, capacity = momenta.shape[:2]
    if np.any(np.diff(counts) > 0):
        raise ValueError("counts must fall: the jets of a batch are merged as a growing prefix")
    total = 2 * capacity - 1
    node = np.zeros((n_jets, total, 4))
    node[:, :capacity] = momenta
    node_pt, node_rapidity, node_phi = (np.zeros((n_jets, total)) for _ in range(3))
    real = np.arange(capacity) < counts[:, None]
    node_pt[:, :capacity], node_rapidity[:, :capacity], node_phi[:, :capacity] = kinematics(momenta)
    children = np.full((n_jets, total, 2), -1)
    parents = np.full((n_jets, total), -1)

    # Working copies hold the surviving nodes of every jet packed in slots 0 ... left - 1.
    identity = np.tile(np.arange(capacity), (n_jets, 1))
    rapidity, phi = node_rapidity[:, :capacity].copy(), node_phi[:, :capacity].copy()
    weight = node_pt[:, :capacity] ** 2 if algorithm == "kt" else np.ones((n_jets, capacity))
    distance = squared_distance(rapidity[:, :, None], phi[:, :, None], rapidity[:, None], phi[:, None])
    if algorithm == "kt":
        distance *= np.minimum(weight[:, :, None], weight[:, None])
    distance[~real] = np.inf
    distance.transpose(0, 2, 1)[~real] = np.inf
    distance[:, np.arange(capacity), np.arange(capacity)] = np.inf

    for left in range(capacity, 1, -1):
        made = total - left + 1
        k = int(np.searchsorted(-counts, -left, side="right"))  # jets that still have `left` nodes
        if k == 0:
            continue
        width = distance.shape[1]
        if left < 0.8 * width:  # remove empty slots from time to time: the search below is over all slots
            width = left
            distance = np.ascontiguousarray(distance[:, :width, :width])
        rows = np.arange(k)
        # The matrix is symmetric and argmin takes the first hit, hence slot_i < slot_j.
        slot_i, slot_j = np.divmod(distance[:k].reshape(k, -1).argmin(axis=1), width)
        i, j = identity[rows, slot_i], identity[rows, slot_j]
        node[:k, made] = node[rows, i] + node[rows, j]
        if recombination == "e":
            new_pt, new_rapidity, new_phi = kinematics(node[:k, made])
        else:
            harder = np.where(node_pt[rows, i] >= node_pt[rows, j], i, j)
            new_pt = node_pt[rows, i] + node_pt[rows, j]
            new_rapidity, new_phi = node_rapidity[rows, harder], node_phi[rows, harder]
        node_pt[:k, made], node_rapidity[:k, made], node_phi[:k, made] = new_pt, new_rapidity, new_phi
        children[:k, made, 0], children[:k, made, 1] = i, j
        parents[rows, i] = parents[rows, j] = made

        # The merged node takes slot i, the last node moves into slot j, and the last slot becomes empty.
        last = left - 1
        new_weight = new_pt**2 if algorithm == "kt" else np.ones(k)
        for slots, new in (
            (rapidity, new_rapidity), (phi, new_phi), (weight, new_weight), (identity, made),
        ):  # fmt: skip
            slots[rows, slot_i] = new
            slots[:k][rows, slot_j] = slots[:k, last]
        merged = squared_distance(
            rapidity[:k, :left], phi[:k, :left], new_rapidity[:, None], new_phi[:, None]
        )
        if algorithm == "kt":
            merged *= np.minimum(weight[:k, :left], new_weight[:, None])
        merged[rows, slot_i] = np.inf
        moved = distance[:k, last, :left].copy()
        moved[rows, slot_j] = np.inf
        distance[rows, slot_j, :left] = moved
        distance[rows, :left, slot_j] = moved
        distance[rows, slot_i, :left] = merged
        distance[rows, :left, slot_i] = merged
        distance[:k, last, :left] = np.inf
        distance[:k, :left, last] = np.inf

    root = np.where(counts > 1, total - 1, 0)
    filled = np.flatnonzero(counts > 0)
    parents[filled, root[filled]] = total
    return ClusterTrees(counts, node_pt, node_rapidity, node_phi, node, children, parents)


def soft_drop(trees: ClusterTrees, z_cut: float = 0.1, beta: float = 0.0, radius: float = 0.8) -> FloatArray:
    """Return the four-momenta of the soft-dropped jets, in GeV, shape (B, 4), from Cambridge/Aachen trees.

    The tree is declustered from its root along the harder branch until
    min(pT1, pT2) / (pT1 + pT2) > z_cut (dR12 / radius)^beta (Larkoski et al., arXiv:1402.2657, eq. 1.1).
    A jet without such a splitting is groomed to a single particle, as in FastJet contrib.
    """
    node = trees.root()
    open_rows = np.flatnonzero(trees.counts > 1)
    while open_rows.size:
        pair = trees.children[open_rows, node[open_rows]]
        pt = np.take_along_axis(trees.pt[open_rows], pair, axis=1)
        z = pt.min(axis=1) / pt.sum(axis=1)
        angle = np.ones_like(z)
        if beta != 0:
            y = np.take_along_axis(trees.rapidity[open_rows], pair, axis=1)
            phi = np.take_along_axis(trees.phi[open_rows], pair, axis=1)
            angle = np.sqrt(squared_distance(y[:, 0], phi[:, 0], y[:, 1], phi[:, 1])) / radius
        fails = z <= z_cut * angle**beta
        open_rows = open_rows[fails]
        node[open_rows] = np.take_along_axis(pair[fails], pt[fails].argmax(axis=1)[:, None], axis=1)[:, 0]
        open_rows = open_rows[trees.children[open_rows, node[open_rows], 0] >= 0]
    return trees.momenta[np.arange(node.size), node]


def kinematics(momenta: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return pT (GeV), rapidity and phi (radians) of px, py, pz, E in the last axis; 0 for a zero vector."""
    px, py, pz, energy = np.moveaxis(momenta, -1, 0)
    pt2 = px**2 + py**2
    # log((E + |pz|) / mT) is precise at large |y|; rounding may make the mass squared negative.
    mt2 = pt2 + np.maximum((energy - pz) * (energy + pz) - pt2, 0.0)
    safe = mt2 > 0
    ratio = np.where(safe, energy + np.abs(pz), 1.0) / np.sqrt(np.where(safe, mt2, 1.0))
    return np.sqrt(pt2), np.copysign(np.log(ratio), pz), np.arctan2(py, px)


def squared_distance(y1: FloatArray, phi1: FloatArray, y2: FloatArray, phi2: FloatArray) -> FloatArray:
    """Return the squared distance in rapidity and azimuth (the smaller angle); the arguments are broadcast."""
    square = y1 - y2
    square *= square
    dphi = phi1 - phi2
    np.abs(dphi, out=dphi)
    np.minimum(dphi, 2 * np.pi - dphi, out=dphi)
    dphi *= dphi
    square += dphi
    return square
