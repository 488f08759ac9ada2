"""Configurations of tokenizers: features, network and codebook of a VQ-VAE, or bins."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final, TypeVar

from tokenizer.errors import InputError
from tokenizer.preprocessing import Preprocessing

QUANTIZERS: Final = ("vq", "residual", "fsq")


@dataclass(frozen=True)
class VQVAEConfig:
    """A learned tokenizer; the default shapes are those of OmniJet-alpha's VQ-VAE (arXiv:2403.05618).

    Attributes
    ----------
    codebook_size : int
        Number of codes K; the vocabulary has K + 2 tokens.
    quantizer : str
        How latents become codes: ``vq``, the nearest of K learned vectors; ``residual``, the nearest vector of a
        small codebook and the nearest vector of a second one to the remainder (arXiv:2107.03312), the pair being
        the code; ``fsq``, each latent dimension rounded to a few levels (arXiv:2309.15505).
    levels : list of int
        For ``residual`` the number of codes of each stage, for ``fsq`` the number of levels of each latent
        dimension; their product is `codebook_size`. If empty, they are as equal as powers of two allow (see
        `balanced_levels`), in two stages for ``residual``. Unused by ``vq``.
    conditional : bool
        Whether encoder and decoder see the whole jet. Otherwise they have no attention: the code of a particle
        depends on this particle alone, and a code always decodes to the same particle.
    latent_dim : int
        Dimension of the latent space in which particles are quantized.
    d_model : int
        Width of the network.
    n_heads : int
        Attention heads per block.
    n_encoder_blocks : int
        Depth of the encoder.
    n_decoder_blocks : int
        Depth of the decoder.
    mlp_ratio : int
        Width of the MLPs in units of `d_model`.
    dropout : float
        Probability of dropping attention weights and MLP activations in training.
    pt_weight_power : float
        Weight of a particle in the loss: (pT)^power, normalised to mean one over a batch. With 0 all particles
        weigh the same; a positive power favours the few hard particles that determine jet observables.
    commitment_weight : float
        Weight of the commitment loss, which draws latents to their codes, relative to the reconstruction loss.
        OmniJet-alpha's "10 times the VQ loss" is 1 for this and 9 for drawing codes to latents (vqtorch's beta is
        0.9); here the codes follow by running means instead. Unused by ``fsq``.
    ema_decay : float
        Decay per training step of the running means: a code is the running mean of the latents that chose it.
    dead_code_threshold : float
        A code whose running use falls below this fraction of the mean use (particles per step / K) is moved onto
        a random particle of the batch. It must lie well below 1: a moved code starts with a use equal to the
        threshold, so that too high a threshold moves codes that are in use at every step.
    kmeans_iterations : int
        Iterations of the k-means that places the codes on the first training batch.
    preprocessing : Preprocessing
        Selection of particles and their features.

    Raises
    ------
    InputError
        A value is out of range.
    """

    codebook_size: int = 512
    quantizer: str = "vq"
    levels: list[int] = field(default_factory=list)
    conditional: bool = True
    latent_dim: int = 4
    d_model: int = 128
    n_heads: int = 8
    n_encoder_blocks: int = 4
    n_decoder_blocks: int = 4
    mlp_ratio: int = 1
    dropout: float = 0.0
    pt_weight_power: float = 0.0
    commitment_weight: float = 1.0
    ema_decay: float = 0.9
    dead_code_threshold: float = 0.02
    kmeans_iterations: int = 10
    preprocessing: Preprocessing = field(default_factory=Preprocessing)

    def __post_init__(self) -> None:
        least = {
            "codebook_size": 2,
            "latent_dim": 1,
            "d_model": 1,
            "n_heads": 1,
            "n_encoder_blocks": 1,
            "n_decoder_blocks": 1,
            "mlp_ratio": 1,
            "kmeans_iterations": 1,
            "pt_weight_power": 0,
            "commitment_weight": 0,
            "dead_code_threshold": 0,
        }
        for name, minimum in least.items():
            if not getattr(self, name) >= minimum:
                raise InputError(f"{name}={getattr(self, name)}: must be at least {minimum}")
        if self.d_model % self.n_heads:
            raise InputError(f"d_model={self.d_model}: must be a multiple of n_heads={self.n_heads}")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout={self.dropout}: must lie in [0, 1)")
        if not 0 < self.ema_decay < 1:
            raise InputError(f"ema_decay={self.ema_decay}: must lie between 0 and 1")
        if not self.dead_code_threshold < 1:
            raise InputError(
                f"dead_code_threshold={self.dead_code_threshold}: must be below 1, the mean use of a code"
            )
        if self.quantizer not in QUANTIZERS:
            raise InputError(f"quantizer={self.quantizer!r}: must be one of {', '.join(QUANTIZERS)}")
        self._check_levels()

    def _check_levels(self) -> None:
        if self.quantizer == "vq":
            if self.levels:
                raise InputError(f"levels={self.levels}: only for quantizer residual or fsq; vq has none")
            return
        levels = self.resolved_levels
        if math.prod(levels) != self.codebook_size:
            raise InputError(
                f"levels={levels}: their product is {math.prod(levels)}, codebook_size is {self.codebook_size}"
            )
        if self.quantizer == "fsq" and len(levels) != self.latent_dim:
            raise InputError(f"levels={levels}: fsq needs one for each of latent_dim={self.latent_dim}")
        least = 3 if self.quantizer == "fsq" else 2
        if min(levels) < least:
            raise InputError(f"levels={levels}: each must be at least {least} for {self.quantizer}")

    @property
    def resolved_levels(self) -> list[int]:
        """`levels` if given, otherwise balanced ones; empty for ``vq``."""
        if self.levels or self.quantizer == "vq":
            return list(self.levels)
        return balanced_levels(self.codebook_size, self.latent_dim if self.quantizer == "fsq" else 2)

    def as_dict(self) -> dict[str, Any]:
        """The configuration as plain values, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> VQVAEConfig:
        """Build a configuration from plain values, the inverse of `as_dict`.

        Parameters
        ----------
        values : mapping of str to plain values
            Fields that differ from the defaults.

        Returns
        -------
        VQVAEConfig

        Raises
        ------
        InputError
            A key is not a field (the message names the nearest field) or a value is out of range.
        """
        return _nested(cls, values)


@dataclass(frozen=True)
class BinningConfig:
    """Plain bins: the product of bins in ln(pT), eta_rel and phi_rel; there is no network.

    Attributes
    ----------
    bins : list of int
        Number of bins in ln(pT), eta_rel and phi_rel; K is their product.
    spacing : str
        ``quantile``: each bin of a feature holds equally many particles of the training jets; ``uniform``: bins
        of equal width in ln(pT) and in the angles.
    pt_range_gev : list of two floats
        Outer edges of the pT bins, in GeV. Particles outside count in the outermost bins. The bins of the angles
        end at the preprocessing's `max_abs_angle`.
    preprocessing : Preprocessing
        Selection of particles.

    Raises
    ------
    InputError
        A value is out of range.
    """

    bins: list[int] = field(default_factory=lambda: [8, 8, 8])
    spacing: str = "quantile"
    pt_range_gev: list[float] = field(default_factory=lambda: [0.05, 1000.0])
    preprocessing: Preprocessing = field(default_factory=Preprocessing)

    def __post_init__(self) -> None:
        if len(self.bins) != 3 or min(self.bins) < 1 or math.prod(self.bins) < 2:
            raise InputError(f"bins={self.bins}: must be three numbers of bins, for ln(pT), eta_rel, phi_rel")
        if self.spacing not in ("quantile", "uniform"):
            raise InputError(f"spacing={self.spacing!r}: must be quantile or uniform")
        if len(self.pt_range_gev) != 2 or not 0 < self.pt_range_gev[0] < self.pt_range_gev[1]:
            raise InputError(
                f"pt_range_gev={self.pt_range_gev}: must be two positive numbers in increasing order"
            )

    @property
    def codebook_size(self) -> int:
        """Number of codes K; the vocabulary has K + 2 tokens."""
        return math.prod(self.bins)

    def as_dict(self) -> dict[str, Any]:
        """The configuration as plain values, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BinningConfig:
        """Build a configuration from plain values as `VQVAEConfig.from_dict` does, with the same errors."""
        return _nested(cls, values)


def balanced_levels(codebook_size: int, parts: int) -> list[int]:
    """Divide a codebook into powers of two: all parts are equal except the first, which absorbs the remainder.

    With three parts the first is ln(pT) and the others are the two angles, which must be treated alike.

    Parameters
    ----------
    codebook_size : int
        Product of the levels; a power of two.
    parts : int
        Number of levels.

    Returns
    -------
    list of int

    Raises
    ------
    InputError
        The size is not a power of two, or too small for so many parts.

    Examples
    --------
    >>> balanced_levels(1024, 3), balanced_levels(2048, 3), balanced_levels(512, 2)
    ([16, 8, 8], [8, 16, 16], [32, 16])
    """
    exponent = codebook_size.bit_length() - 1
    if codebook_size != 1 << exponent:
        raise InputError(
            f"codebook_size={codebook_size}: not a power of two, so levels cannot be chosen automatically; give levels"
        )
    other = math.ceil(exponent / parts - 0.5)
    first = exponent - (parts - 1) * other
    if min(first, other) < 1:
        raise InputError(f"codebook_size={codebook_size}: too small for {parts} parts; give levels")
    return [1 << first, *[1 << other] * (parts - 1)]


T = TypeVar("T")


def _nested(cls: type[T], values: Mapping[str, Any]) -> T:
    values = dict(values)
    if "preprocessing" in values:
        values["preprocessing"] = _strict(Preprocessing, values["preprocessing"])
    return _strict(cls, values)


def _strict(cls: type[T], values: Mapping[str, Any]) -> T:
    known = [entry.name for entry in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            near = get_close_matches(key, known, n=1, cutoff=0.0)[0]
            raise InputError(f"tokenizer configuration: unknown key {key!r}, the nearest is {near!r}")
    return cls(**values)


#: `omnijet` is the size released with OmniJet-alpha. `quickstart` trains in about a minute on one core; at equal
#: training time, more steps of one block each for encoder and decoder gave a lower loss than fewer steps of more.
PRESETS: Final[Mapping[str, VQVAEConfig]] = {
    "omnijet": VQVAEConfig(codebook_size=8192, dropout=0.1),
    "quickstart": VQVAEConfig(
        d_model=64,
        n_heads=4,
        n_encoder_blocks=1,
        n_decoder_blocks=1,
        pt_weight_power=0.5,
        commitment_weight=2.0,
    ),
}
