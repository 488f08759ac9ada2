"""What a tokenizer keeps of jets and what it costs: rate, resolution, and the floor under any generator."""

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
        Half of the distance between the 16 % and the 84 % quantile: a Gaussian's sigma, unmoved by tails.
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
    n_jets, n_particles : int
        Sample size: jets, and particles in their tokens.
    dropped_particles : float
        Fraction of particles that preprocessing drops (far from the axis, or beyond the maximal number).
    codebook_size, codes_used : int
        Codes that exist, and those that occur in the sample.
    perplexity : float
        Exponential of the entropy of the codes: the number of equally frequent codes of the same entropy.
    nominal_bits_per_particle, nominal_bits_per_jet : float
        log2 K, and that times the mean number of particles: the rate of a code that knows nothing.
    bits_per_particle, bits_per_jet : float
        Entropy of the codes in bits, and that times the mean number of particles: the rate of a code that
        knows the frequencies but no correlations. The plug-in estimate: low by about
        ``codes_used / (2 n_particles ln 2)`` bits per particle.
    particle : dict of str to Residuals
        Decoded minus original of each particle that has a token: `pt_relative` (pT ratio minus one),
        `eta_rel` and `phi_rel` (rad).
    jet : dict of str to Residuals
        Decoded jet against the whole original jet, dropped particles included: `pt_relative` and
        `mass_relative` (ratio minus one, mass for jets with one), `multiplicity` (difference).
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
        """Plain nested values, ready for JSON."""
        return dataclasses.asdict(self)


def quality(tokenizer: Tokenizer, jets: ak.Array, *, progress: bool = False, device: str = "cpu") -> Quality:
    """Encode and decode jets and compare.

    Parameters
    ----------
    tokenizer : Tokenizer
    jets : ak.Array
        Lists of records `pt` (GeV), `eta_rel`, `phi_rel` (rad). Jets that the tokenizer was not trained on.
    progress : bool
        Show progress bars.
    device : str
        Where the network runs.

    Returns
    -------
    Quality

    Raises
    ------
    InputError
        No jet has a particle that preprocessing keeps, none has a mass, or as for `Tokenizer.encode`.
    """
    tokens = tokenizer.encode(jets, progress=progress, device=device)
    # In the order of the tokens, so that decoded and original particles are pairs.
    return judge(
        tokenizer, jets, tokens, tokenizer.decode(tokens, progress=progress, device=device, sort=False)
    )


def judge(tokenizer: Tokenizer, jets: ak.Array, tokens: ak.Array, paired: ak.Array) -> Quality:
    """Compare jets with what the tokenizer made of them.

    Parameters
    ----------
    tokenizer, jets
        As for `quality`.
    tokens : ak.Array
        The encoded jets.
    paired : ak.Array
        The decoded jets in the order of their tokens (``sort=False``).

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
    # Without any particle or with a single one there is no ratio to form.
    filled = (original["pt_gev"] > 0) & (decoded["pt_gev"] > 0)
    massive = filled & (ak.to_numpy(ak.num(kept)) > 1) & (original["mass_gev"] > 0)
    if not massive.any():
        raise InputError("quality: no jet has a mass; at least one must have two particles apart")
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
    """Transverse momentum, mass and number of particles of jets: sums of massless four-vectors.

    Parameters
    ----------
    jets : ak.Array
        Lists of records `pt` (GeV), `eta_rel`, `phi_rel` (rad).

    Returns
    -------
    dict of arrays, shape (n_jets,)
        `pt_gev`, `mass_gev`, `multiplicity`. The angles are relative to the jet axis: pT is invariant under
        that rotation and boost, and so is the mass.
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
