"""Quality of a tokenizer: its rate, its resolution, and the distances that set a floor for any generator."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np
import vector
from numpy.typing import NDArray
from scipy.stats import entropy, wasserstein_distance

from tokenizer.codec import Tokenizer
from tokenizer.errors import InputError
from tokenizer.preprocessing import FIELDS


@dataclass(frozen=True)
class Residuals:
    """How far decoded values lie from the original ones.

    Attributes
    ----------
    bias : float
        Mean.
    rms : float
        Root mean square.
    median_abs : float
        Median of the absolute value.
    half_width_68 : float
        Half of the distance between the 16 % and the 84 % quantile: sigma for a Gaussian, insensitive to tails.
    """

    bias: float
    rms: float
    median_abs: float
    half_width_68: float

    @classmethod
    def of(cls, residuals: NDArray[np.floating]) -> Residuals:
        """Summarise residuals of any shape."""
        low, high = np.quantile(residuals, [0.16, 0.84])
        return cls(
            bias=float(np.mean(residuals)),
            rms=float(np.sqrt(np.mean(np.square(residuals)))),
            median_abs=float(np.median(np.abs(residuals))),
            half_width_68=float(high - low) / 2,
        )


@dataclass(frozen=True)
class Quality:
    """Quality of a tokenizer on one sample of jets.

    Attributes
    ----------
    n_jets : int
        Number of jets in the sample.
    n_particles : int
        Number of particles that have a token.
    dropped_particles : float
        Fraction of particles that preprocessing drops (far from the axis, or beyond the maximal number).
    codebook_size : int
        Number of codes K.
    codes_used : int
        Number of codes that occur in the sample.
    perplexity : float
        Exponential of the entropy of the codes: the number of equally frequent codes of the same entropy.
    nominal_bits_per_particle : float
        log2 K: the rate if codes are sent without any knowledge of their frequencies.
    nominal_bits_per_jet : float
        `nominal_bits_per_particle` times the mean number of particles.
    bits_per_particle : float
        Entropy of the codes in bits: the rate if their frequencies are known, but no correlations. This plug-in
        estimate is low by about ``codes_used / (2 n_particles ln 2)``.
    bits_per_jet : float
        `bits_per_particle` times the mean number of particles.
    particle : dict of str to Residuals
        Decoded minus original value of each particle that has a token: `pt_relative` (pT ratio minus one),
        `eta_rel` and `phi_rel` (rad).
    jet : dict of str to Residuals
        Decoded jet against the whole original jet, including dropped particles: `pt_relative` and
        `mass_relative` (ratios minus one; the latter for jets with a mass), `multiplicity` (difference).
    wasserstein : dict of str to float
        Wasserstein-1 distance between the distributions of original and decoded jets:
        `particle_pt_gev`, `particle_eta_rel`, `particle_phi_rel`, `jet_pt_gev`, `jet_mass_gev`,
        `jet_multiplicity`.
    """

    n_jets: int
    n_particles: int
    dropped_particles: float
    codebook_size: int
    codes_used: int
    perplexity: float
    nominal_bits_per_particle: float
    nominal_bits_per_jet: float
    bits_per_particle: float
    bits_per_jet: float
    particle: dict[str, Residuals]
    jet: dict[str, Residuals]
    wasserstein: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """The quality as plain nested values, ready for JSON."""
        return dataclasses.asdict(self)


def quality(tokenizer: Tokenizer, jets: ak.Array, *, progress: bool = False, device: str = "cpu") -> Quality:
    """Encode and decode jets, and compare the result with the original.

    Parameters
    ----------
    tokenizer : Tokenizer
    jets : ak.Array
        Jets that the tokenizer was not trained on: lists of records `pt` (GeV), `eta_rel`, `phi_rel` (rad).
    progress : bool
        Show progress bars.
    device : str
        Device on which the network runs.

    Returns
    -------
    Quality

    Raises
    ------
    InputError
        No jet has a particle that preprocessing keeps, or none has a mass; also the errors of `Tokenizer.encode`.
    """
    tokens = tokenizer.encode(jets, progress=progress, device=device)
    # In the order of the tokens, so that each decoded particle is paired with its original.
    return judge(
        tokenizer, jets, tokens, tokenizer.decode(tokens, progress=progress, device=device, sort=False)
    )


def judge(tokenizer: Tokenizer, jets: ak.Array, tokens: ak.Array, paired: ak.Array) -> Quality:
    """Compare jets with their encoded and decoded versions, if these exist already.

    Parameters
    ----------
    tokenizer : Tokenizer
    jets : ak.Array
        As for `quality`.
    tokens : ak.Array
        The encoded jets.
    paired : ak.Array
        The decoded jets, particles in the order of the tokens (``sort=False``).

    Returns
    -------
    Quality

    Raises
    ------
    InputError
        No jet has a particle that preprocessing keeps, or none has a mass.
    """
    kept = tokenizer.preprocessing.select(jets)
    n_particles = int(ak.sum(ak.num(kept)))
    if n_particles == 0:
        raise InputError("quality: no jet has a particle within the preprocessing's cuts")

    codes = ak.to_numpy(ak.flatten(tokens[:, 1:-1]))
    counts = np.bincount(codes - 1, minlength=tokenizer.config.codebook_size)
    nats = float(entropy(counts))
    before = {name: ak.to_numpy(ak.flatten(kept[name])).astype(float) for name in FIELDS}
    after = {name: ak.to_numpy(ak.flatten(paired[name])).astype(float) for name in FIELDS}
    original, decoded = jet_observables(jets), jet_observables(paired)
    # A jet without particles has no pT to divide by, and a jet of one massless particle no mass.
    filled = (original["pt_gev"] > 0) & (decoded["pt_gev"] > 0)
    massive = filled & (ak.to_numpy(ak.num(kept)) > 1) & (original["mass_gev"] > 0)
    if not massive.any():
        raise InputError("quality: no jet has a mass; at least one must have two separated particles")
    return Quality(
        n_jets=len(jets),
        n_particles=n_particles,
        dropped_particles=1 - n_particles / float(original["multiplicity"].sum()),
        codebook_size=tokenizer.config.codebook_size,
        codes_used=int(np.count_nonzero(counts)),
        perplexity=float(np.exp(nats)),
        nominal_bits_per_particle=float(np.log2(tokenizer.config.codebook_size)),
        nominal_bits_per_jet=float(np.log2(tokenizer.config.codebook_size)) * n_particles / len(jets),
        bits_per_particle=nats / np.log(2),
        bits_per_jet=nats / np.log(2) * n_particles / len(jets),
        particle={
            "pt_relative": Residuals.of(after["pt"] / before["pt"] - 1),
            "eta_rel": Residuals.of(after["eta_rel"] - before["eta_rel"]),
            "phi_rel": Residuals.of(after["phi_rel"] - before["phi_rel"]),
        },
        jet={
            "pt_relative": Residuals.of((decoded["pt_gev"][filled] / original["pt_gev"][filled]) - 1),
            "mass_relative": Residuals.of((decoded["mass_gev"][massive] / original["mass_gev"][massive]) - 1),
            "multiplicity": Residuals.of(decoded["multiplicity"] - original["multiplicity"]),
        },
        wasserstein={
            "particle_pt_gev": float(wasserstein_distance(before["pt"], after["pt"])),
            "particle_eta_rel": float(wasserstein_distance(before["eta_rel"], after["eta_rel"])),
            "particle_phi_rel": float(wasserstein_distance(before["phi_rel"], after["phi_rel"])),
        }
        | {f"jet_{name}": float(wasserstein_distance(original[name], decoded[name])) for name in original},
    )


def jet_observables(jets: ak.Array) -> dict[str, NDArray[np.float64]]:
    """Transverse momentum, mass and multiplicity of jets: sums of massless four-vectors.

    Parameters
    ----------
    jets : ak.Array
        Lists of records `pt` (GeV), `eta_rel`, `phi_rel` (rad).

    Returns
    -------
    dict of arrays, shape (n_jets,)
        `pt_gev`, `mass_gev`, `multiplicity`. Angles relative to the jet axis suffice, because pT and mass are
        invariant under the rotation and the boost to the axis.
    """
    lengths = ak.to_numpy(ak.num(jets.pt)).astype(np.int64)
    pt, eta, phi = (ak.to_numpy(ak.flatten(jets[name])).astype(float) for name in FIELDS)
    particles = vector.MomentumNumpy4D({"pt": pt, "eta": eta, "phi": phi, "mass": np.zeros_like(pt)})
    jet = np.repeat(np.arange(len(lengths)), lengths)
    sums = {
        name: np.bincount(jet, weights=getattr(particles, name), minlength=len(lengths))
        for name in ("px", "py", "pz", "E")
    }
    total = vector.MomentumNumpy4D(sums)
    # Rounding can leave the squared mass of one massless particle slightly negative.
    mass = np.sqrt(np.maximum(total.tau2, 0.0))
    return {"pt_gev": total.pt, "mass_gev": mass, "multiplicity": lengths.astype(float)}
