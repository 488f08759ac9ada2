"""Conversion between rows of a jet store and the particles that the tokenizer and the scores use.

Both treat a jet as a list of massless particles with ``pt`` (GeV), ``eta_rel`` and ``phi_rel`` (radians, relative to
the jet axis), because this is what a generator makes; generated and original jets are compared in these variables.
"""

from __future__ import annotations

from collections.abc import Sequence

import awkward as ak
import numpy as np

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
    # Written out, because a machine that samples jets need not have the package vector.
    pt, eta, phi = (ak.values_astype(particles[name], np.float64) for name in ("pt", "eta_rel", "phi_rel"))
    momenta = {
        "px": pt * np.cos(phi),
        "py": pt * np.sin(phi),
        "pz": pt * np.sinh(eta),
        "energy": pt * np.cosh(eta),
    }
    px, py, pz, energy = (ak.to_numpy(ak.sum(values, axis=1)) for values in momenta.values())
    jet_pt = np.hypot(px, py)
    empty = jet_pt == 0
    columns = {
        **{f"part_{name}": values for name, values in momenta.items()},
        "part_deta": particles.eta_rel,
        "part_dphi": particles.phi_rel,
        "jet_pt": jet_pt,
        # A jet without momentum has no direction; zero keeps the columns finite.
        "jet_eta": np.where(empty, 0.0, np.arcsinh(pz / np.where(empty, 1.0, jet_pt))),
        "jet_phi": np.where(empty, 0.0, np.arctan2(py, px)),
        "jet_energy": energy,
        "jet_nparticles": ak.num(particles.pt),
    }
    if labels is not None:
        columns |= {f"label_{name}": labels == index for index, name in enumerate(classes)}
    return ak.zip(columns, depth_limit=1)
