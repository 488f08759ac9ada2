"""Conversion between rows of a jet store and the particles that the tokenizer and the scores use.

Both treat a jet as a list of massless particles with ``pt`` (GeV), ``eta_rel`` and ``phi_rel`` (radians, relative to
the jet axis), because this is what a generator makes; generated and original jets are compared in these variables.
"""

from __future__ import annotations

from collections.abc import Sequence

import awkward as ak
import numpy as np
import vector

from genscale.data.schema import CLASSES

#: Columns that `constituents` needs.
COLUMNS = ("part_px", "part_py", "part_deta", "part_dphi")


def constituents(jets: ak.Array) -> ak.Array:
    """Return the particles of stored jets as ragged records ``pt``, ``eta_rel``, ``phi_rel``.

    ``eta_rel`` is JetClass's ``part_deta``, which is mirrored for jets at negative eta.
    """
    pt = np.hypot(jets["part_px"], jets["part_py"])
    return ak.zip({"pt": pt, "eta_rel": jets["part_deta"], "phi_rel": jets["part_dphi"]})


def to_store_rows(
    particles: ak.Array, labels: np.ndarray | None, classes: Sequence[str] = CLASSES
) -> ak.Array:
    """Make rows of a jet store from massless particles, with the jet axis at eta = phi = 0.

    Parameters
    ----------
    particles : ak.Array
        Ragged records ``pt`` (GeV), ``eta_rel``, ``phi_rel``, in order of decreasing pT.
    labels : array of int, shape (n_jets,), or None
        Class indices; None for jets of unknown class.
    classes : sequence of str
        Names of the classes.

    Returns
    -------
    ak.Array
        The columns of ``genscale.data.schema.REQUIRED_COLUMNS``, and the labels if given. The jet columns are
        computed from the sum of the particles.
    """
    momenta = vector.zip(
        {
            "pt": ak.values_astype(particles.pt, np.float64),
            "phi": ak.values_astype(particles.phi_rel, np.float64),
            "eta": ak.values_astype(particles.eta_rel, np.float64),
            "mass": ak.zeros_like(ak.values_astype(particles.pt, np.float64)),
        }
    )
    jet = ak.sum(momenta, axis=1)
    empty = ak.num(particles.pt) == 0
    columns = {
        "part_px": momenta.px,
        "part_py": momenta.py,
        "part_pz": momenta.pz,
        "part_energy": momenta.energy,
        "part_deta": particles.eta_rel,
        "part_dphi": particles.phi_rel,
        "jet_pt": jet.pt,
        # An empty jet has no direction; zero keeps the columns finite.
        "jet_eta": ak.where(empty, 0.0, jet.eta),
        "jet_phi": ak.where(empty, 0.0, jet.phi),
        "jet_energy": jet.energy,
        "jet_nparticles": ak.num(particles.pt),
    }
    if labels is not None:
        columns |= {f"label_{name}": labels == index for index, name in enumerate(classes)}
    return ak.zip(columns, depth_limit=1)
