"""Selection of particles, and the features that the network sees: an invertible scaling."""

from __future__ import annotations

from dataclasses import dataclass

import awkward as ak
import numpy as np
import torch
from numpy.typing import NDArray

from tokenizer.errors import InputError

#: Fields of a jet's particles: transverse momentum in GeV, angles relative to the jet axis in radians.
FIELDS = ("pt", "eta_rel", "phi_rel")


@dataclass(frozen=True)
class Preprocessing:
    """Selection and scaling of particles; the defaults are those released with OmniJet-alpha (arXiv:2403.05618).

    The features of a particle are ``ln(pT / GeV) - ln_pt_shift``, ``eta_scale * eta_rel`` and
    ``phi_scale * phi_rel``.

    Attributes
    ----------
    ln_pt_shift : float
        Subtracted from ln(pT / GeV).
    eta_scale : float
        Factor of eta_rel.
    phi_scale : float
        Factor of phi_rel, in 1/rad.
    max_abs_angle : float
        Particles with abs(eta_rel) or abs(phi_rel) of at least this value, in rad, are dropped.
    max_constituents : int
        Only this many particles, those of highest pT, are kept.

    Raises
    ------
    InputError
        A scale, cut or length is not positive.
    """

    ln_pt_shift: float = 1.8
    eta_scale: float = 3.0
    phi_scale: float = 3.0
    max_abs_angle: float = 0.8
    max_constituents: int = 128

    def __post_init__(self) -> None:
        for name in ("eta_scale", "phi_scale", "max_abs_angle", "max_constituents"):
            if not getattr(self, name) > 0:
                raise InputError(f"preprocessing.{name}={getattr(self, name)}: must be positive")

    def select(self, jets: ak.Array) -> ak.Array:
        """Keep the leading particles near the jet axis, in order of decreasing pT.

        Parameters
        ----------
        jets : ak.Array
            Records of ragged `pt` (GeV), `eta_rel` and `phi_rel` (rad); other fields are dropped.

        Returns
        -------
        ak.Array
            One jet per row: a list of records with these three fields, which may be empty.

        Raises
        ------
        InputError
            A field is missing, a value is not finite, or a pT is not positive.
        """
        jets = _as_lists_of_records(jets)
        near_axis = (abs(jets.eta_rel) < self.max_abs_angle) & (abs(jets.phi_rel) < self.max_abs_angle)
        if not ak.all(near_axis, axis=None):
            jets = jets[near_axis]
        # Jets usually arrive in this order, and checking it is cheaper than sorting.
        if ak.any(jets.pt[:, 1:] > jets.pt[:, :-1], axis=None):
            jets = jets[ak.argsort(jets.pt, axis=1, ascending=False, stable=True)]
        return jets[:, : self.max_constituents]

    def features(self, jets: ak.Array) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Select particles and return their features, the jets one after the other.

        Parameters
        ----------
        jets : ak.Array
            As for `select`.

        Returns
        -------
        features : array of float32, shape (n_particles, 3)
        lengths : array of int64, shape (n_jets,)
            Number of particles of each jet.
        """
        jets = self.select(jets)
        pt, eta, phi = (ak.to_numpy(ak.flatten(jets[name])) for name in FIELDS)
        features = np.empty((len(pt), 3), dtype=np.float32)
        features[:, 0] = np.log(pt) - self.ln_pt_shift
        features[:, 1] = self.eta_scale * eta
        features[:, 2] = self.phi_scale * phi
        return features, ak.to_numpy(ak.num(jets)).astype(np.int64)

    def padded(self, jets: ak.Array) -> tuple[torch.Tensor, torch.Tensor]:
        """Select particles and return their features with padding, as `VQVAE.loss` takes them.

        Parameters
        ----------
        jets : ak.Array
            As for `select`.

        Returns
        -------
        features : Tensor of float32, shape (n_jets, longest, 3)
            Zero where there is no particle.
        mask : Tensor of bool, shape (n_jets, longest)
            True for real particles.
        """
        features, lengths = self.features(jets)
        mask = np.arange(lengths.max(initial=0)) < lengths[:, None]
        padded = np.zeros((*mask.shape, 3), dtype=np.float32)
        padded[mask] = features
        return torch.from_numpy(padded), torch.from_numpy(mask)

    def jets(self, features: NDArray[np.floating], lengths: NDArray[np.integer]) -> ak.Array:
        """Turn features back into particles; the inverse of `features` for the particles that `select` keeps.

        Parameters
        ----------
        features : array of float, shape (n_particles, 3)
        lengths : array of int, shape (n_jets,)
            Number of particles of each jet.

        Returns
        -------
        ak.Array
            Lists of records `pt` (GeV), `eta_rel`, `phi_rel` (rad), in float32.
        """
        # In float64, so that only the float32 features limit the precision of the round trip.
        wide = features.astype(np.float64)
        columns = {
            "pt": np.exp(wide[:, 0] + self.ln_pt_shift),
            "eta_rel": wide[:, 1] / self.eta_scale,
            "phi_rel": wide[:, 2] / self.phi_scale,
        }
        return ak.zip({name: ak.unflatten(x.astype(np.float32), lengths) for name, x in columns.items()})


def _as_lists_of_records(jets: ak.Array) -> ak.Array:
    """Check the fields and values of jets, which may be lists of records or records of lists."""
    missing = [name for name in FIELDS if name not in ak.fields(jets)]
    if missing:
        found = ", ".join(ak.fields(jets)) or "none"
        raise InputError(
            f"jets: field {missing[0]} is missing (found {found}); required are {', '.join(FIELDS)}"
        )
    for name in FIELDS:
        if jets[name].ndim != 2:
            raise InputError(f"jets: {name} must be a list of numbers per jet, found {jets[name].type}")
    for name in FIELDS[1:]:
        if not ak.all(ak.num(jets[name]) == ak.num(jets.pt)):
            raise InputError(f"jets: {name} and pt have different numbers of particles")
    jets = ak.zip({name: jets[name] for name in FIELDS})
    for name in FIELDS:
        bad = ~np.isfinite(jets[name])
        if name == "pt":
            bad = bad | (jets.pt <= 0)
        if ak.any(bad, axis=None):
            jet = int(ak.argmax(ak.any(bad, axis=1), axis=0))
            value = jets[name][jet][bad[jet]][0]
            wanted = "positive and finite" if name == "pt" else "finite"
            raise InputError(f"jets: {name}={value} in jet {jet}: must be {wanted}")
    return jets
