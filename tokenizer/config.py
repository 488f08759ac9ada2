"""What defines a tokenizer: its features, its network and its codebook."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final, TypeVar

from tokenizer.errors import InputError
from tokenizer.preprocessing import Preprocessing


@dataclass(frozen=True)
class VQVAEConfig:
    """The VQ-VAE of OmniJet-alpha (Birk, Hallin and Kasieczka, arXiv:2403.05618), shape by shape.

    Attributes
    ----------
    codebook_size : int
        Number of codes K; the vocabulary has K + 2 tokens.
    latent_dim : int
        Dimensions of the latent space in which particles are quantized.
    d_model, n_heads, n_encoder_blocks, n_decoder_blocks, mlp_ratio : int
        Width, attention heads, depth of both halves, and MLP width in units of `d_model`.
    dropout : float
        Probability of dropping attention weights and MLP activations in training.
    commitment_weight : float
        Weight of the commitment loss, which draws latents to their codes, relative to the reconstruction
        loss. OmniJet-alpha's "10 times the VQ loss" splits into 1 for this and 9 for drawing codes to
        latents (vqtorch's beta is 0.9); here the codes follow by running means.
    ema_decay : float
        Memory of the codebook: a code is the running mean of the latents that chose it, with this decay
        per training step.
    dead_code_threshold : float
        A code chosen by fewer particles per training step than this (running mean) is moved onto a random
        particle of the batch. It must lie well below the mean use, particles per step / K: a fresh code
        starts at the threshold, so one that is too high moves living codes at every step.
    kmeans_iterations : int
        Iterations of the k-means that places the codes on the first training batch.
    preprocessing : Preprocessing
        Features of a particle and the selection of particles.

    Raises
    ------
    InputError
        A value is out of range.
    """

    codebook_size: int = 512
    latent_dim: int = 4
    d_model: int = 128
    n_heads: int = 8
    n_encoder_blocks: int = 4
    n_decoder_blocks: int = 4
    mlp_ratio: int = 1
    dropout: float = 0.0
    commitment_weight: float = 1.0
    ema_decay: float = 0.9
    dead_code_threshold: float = 0.1
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

    def as_dict(self) -> dict[str, Any]:
        """The configuration as plain values, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> VQVAEConfig:
        """Build a configuration from plain values, the inverse of `as_dict`.

        Raises
        ------
        InputError
            A key is not a field (the message names the nearest) or a value is out of range.
        """
        values = dict(values)
        if "preprocessing" in values:
            values["preprocessing"] = _strict(Preprocessing, values["preprocessing"])
        return _strict(cls, values)


T = TypeVar("T")


def _strict(cls: type[T], values: Mapping[str, Any]) -> T:
    known = [entry.name for entry in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            near = get_close_matches(key, known, n=1, cutoff=0.0)[0]
            raise InputError(f"tokenizer configuration: unknown key {key!r}, the nearest is {near!r}")
    return cls(**values)


#: `omnijet`: the size released with OmniJet-alpha. `quickstart`: trains in about a minute on one core; of the
#: shapes tried, more steps of one block each way beat fewer steps of more blocks at equal time.
PRESETS: Final[Mapping[str, VQVAEConfig]] = {
    "omnijet": VQVAEConfig(codebook_size=8192, dropout=0.1, dead_code_threshold=0.05),
    "quickstart": VQVAEConfig(
        d_model=64, n_heads=4, n_encoder_blocks=1, n_decoder_blocks=1, commitment_weight=2.0
    ),
}
