"""Energy correlation functions and energy flow polynomials, by matrix products instead of sums over tuples.

With z_i = pT_i / sum pT and theta_ij = dR_ij, an energy flow polynomial of a multigraph is the sum, over all
assignments of particles to its vertices, of the product of z over vertices and of theta over edges (Komiske, Metodiev
and Thaler, arXiv:1712.07124, eq. 1.2; EnergyFlow's measure "hadr" with beta = 1). All connected graphs with up to four
edges consist of leaves, chains and triangles, so that none needs more than one matrix product.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from eval.jets.clustering import kinematics, squared_distance

FloatArray = NDArray[np.float64]

#: The 20 connected multigraphs with one to four edges, as edge lists.
FLOW_GRAPHS: Final[tuple[tuple[tuple[int, int], ...], ...]] = (
    ((0, 1),),
    ((0, 1), (0, 1)),
    ((0, 1), (0, 2)),
    ((0, 1), (0, 1), (0, 1)),
    ((0, 1), (0, 1), (0, 2)),
    ((0, 1), (0, 2), (1, 2)),
    ((0, 1), (0, 2), (0, 3)),
    ((0, 1), (0, 2), (1, 3)),
    ((0, 1), (0, 1), (0, 1), (0, 1)),
    ((0, 1), (0, 1), (0, 1), (0, 2)),
    ((0, 1), (0, 1), (0, 2), (0, 2)),
    ((0, 1), (0, 1), (0, 2), (1, 2)),
    ((0, 1), (0, 1), (0, 2), (0, 3)),
    ((0, 1), (0, 1), (0, 2), (2, 3)),
    ((0, 1), (0, 1), (0, 2), (1, 3)),
    ((0, 1), (0, 2), (1, 2), (0, 3)),
    ((0, 1), (0, 2), (1, 3), (2, 3)),
    ((0, 1), (0, 2), (0, 3), (0, 4)),
    ((0, 1), (0, 2), (0, 3), (1, 4)),
    ((0, 1), (0, 2), (1, 3), (2, 4)),
)


def fractions_and_angles(momenta: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return momentum fractions z (B, C) and pairwise angles theta (B, C, C) of padded jets; padding has z = 0."""
    pt, rapidity, phi = kinematics(momenta)
    theta = np.sqrt(squared_distance(rapidity[:, :, None], phi[:, :, None], rapidity[:, None], phi[:, None]))
    return pt / pt.sum(axis=1, keepdims=True), theta


def energy_correlators(momenta: FloatArray) -> FloatArray:
    """Return the normalised correlators e_2 and e_3 with beta = 1.

    e_2 = sum_{i<j} z_i z_j theta_ij and e_3 = sum_{i<j<k} z_i z_j z_k theta_ij theta_ik theta_jk (Larkoski, Salam and
    Thaler, arXiv:1305.0007, eq. 1). With A_ij = sqrt(z_i z_j) theta_ij, e_3 is Tr(A^3) / 6.

    Parameters
    ----------
    momenta : array of float, shape (B, C, 4)
        px, py, pz, E in GeV, padded with zeros.

    Returns
    -------
    array of float, shape (B, 2)
    """
    z, theta = fractions_and_angles(momenta)
    root = np.sqrt(z)
    a = theta * root[:, :, None] * root[:, None]
    e2 = 0.5 * np.einsum("bi,bij,bj->b", root, a, root, optimize=True)
    return np.stack([e2, np.einsum("bij,bij->b", a @ a, a) / 6], axis=1)


def flow_polynomials(momenta: FloatArray) -> FloatArray:
    """Return all connected energy flow polynomials of degree one to four, in the order of FLOW_GRAPHS.

    Parameters
    ----------
    momenta : array of float, shape (B, C, 4)
        px, py, pz, E in GeV, padded with zeros.

    Returns
    -------
    array of float, shape (B, 20)
    """
    z, theta = fractions_and_angles(momenta)
    theta2 = theta * theta

    def leaf(power: FloatArray) -> FloatArray:
        """Return the sum over a neighbour that is connected to each particle by `power` edges, shape (B, C)."""
        return (power @ z[:, :, None])[:, :, 0]

    leaf1, leaf2, leaf3, leaf4 = leaf(theta), leaf(theta2), leaf(theta2 * theta), leaf(theta2 * theta2)
    arm = (theta @ (z * leaf1)[:, :, None])[:, :, 0]  # chains of two edges that start at each particle
    wide_arm = (theta2 @ (z * leaf1)[:, :, None])[:, :, 0]  # the same with a double first edge
    two_steps = (theta * z[:, None]) @ theta  # chains of two edges between each pair of particles, (B, C, C)
    triangle = ((theta * two_steps) @ z[:, :, None])[:, :, 0]  # triangles through each particle

    def total(values: FloatArray) -> FloatArray:
        return (z * values).sum(axis=1)

    def total_of_pairs(values: FloatArray) -> FloatArray:
        return np.einsum("bi,bij,bj->b", z, values, z, optimize=True)

    polynomials = (
        total(leaf1),
        total(leaf2),
        total(leaf1**2),
        total(leaf3),
        total(leaf1 * leaf2),
        total(triangle),
        total(leaf1**3),
        total(leaf1 * arm),
        total(leaf4),
        total(leaf1 * leaf3),
        total(leaf2**2),
        total_of_pairs(theta2 * two_steps),
        total(leaf1**2 * leaf2),
        total(leaf2 * arm),
        total(leaf1 * wide_arm),
        total(leaf1 * triangle),
        total_of_pairs(two_steps**2),
        total(leaf1**4),
        total(leaf1**2 * arm),
        total(arm**2),
    )
    return np.stack(polynomials, axis=1)


def graph_name(edges: tuple[tuple[int, int], ...]) -> str:
    """Return the name of an energy flow polynomial, made of its edges: efp_01_02_12 is the triangle."""
    return "efp_" + "_".join(f"{i}{j}" for i, j in edges)
