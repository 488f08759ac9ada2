"""The tagger: a set transformer over a jet's particles.

Standardised features, linear embedding, a class token, four pre-norm layers without positions, LayerNorm and a
linear head on the class token. Two presets follow papers that differ in heads and MLP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from genscale.data.packing import Packing
from genscale.models.blocks import Activation, Block, Blocks

#: Changes to `TaggerConfig` that make the taggers of a paper. ``vigl``: Vigl et al. (arXiv:2602.15781), the
#: defaults, 1.1k parameters at width 4 to 12.6M at width 512. ``uslu``: Uslu et al. (arXiv:2606.19781), heads of width
#: 8 and SwiGLU; its hidden width is not printed, and twice the model's is what gives their 3K (width 8) to 10.5M (512).
PRESETS: Final[dict[str, dict[str, Any]]] = {
    "vigl": {},
    "uslu": {"head_width": 8, "activation": "swiglu", "mlp_ratio": 2},
}


@dataclass(frozen=True)
class TaggerConfig:
    """Shape of a tagger.

    Attributes
    ----------
    d_model : int
        Width of the network.
    n_features : int
        Features per particle.
    n_classes : int
        Classes of jets.
    n_layers : int
        Number of blocks.
    dropout : float
        Probability of dropout.
    head_width : int
        Width of an attention head; a narrower model has one head, so that there are max(1, d_model // head_width).
    activation : Activation
        Activation of the MLPs.
    mlp_ratio : int
        Hidden width of the MLPs in units of d_model.
    """

    d_model: int
    n_features: int = 21
    n_classes: int = 10
    n_layers: int = 4
    dropout: float = 0.01
    head_width: int = 64
    activation: Activation = "gelu"
    mlp_ratio: int = 4

    @property
    def n_heads(self) -> int:
        """Attention heads."""
        return max(1, self.d_model // self.head_width)


class Tagger(nn.Module):
    """Classifier of jets as sets of particles; see the module's text and `TaggerConfig`."""

    feature_mean: Tensor
    feature_deviation: Tensor

    def __init__(self, config: TaggerConfig) -> None:
        super().__init__()
        c = self.config = config
        # Buffers, not parameters: they are saved with the weights, never trained, and no part of N.
        self.register_buffer("feature_mean", torch.zeros(c.n_features))
        self.register_buffer("feature_deviation", torch.ones(c.n_features))
        self.embedding = nn.Linear(c.n_features, c.d_model)
        self.class_token = nn.Parameter(torch.randn(c.d_model) * 0.02)
        self.blocks = Blocks(
            Block(
                c.d_model,
                c.n_heads,
                causal=False,
                activation=c.activation,
                mlp_ratio=c.mlp_ratio,
                dropout=c.dropout,
            )
            for _ in range(c.n_layers)
        )
        self.final_norm = nn.LayerNorm(c.d_model)
        self.head = nn.Linear(c.d_model, c.n_classes)

    def standardise_by(self, mean: np.ndarray, deviation: np.ndarray) -> None:
        """Set the statistics of the features ``[n_features]``; without this call features enter as they are."""
        self.feature_mean.copy_(torch.from_numpy(mean))
        self.feature_deviation.copy_(torch.from_numpy(deviation))

    def forward(self, features: Tensor, packing: Packing) -> Tensor:
        """Return the logits of the classes.

        Parameters
        ----------
        features : Tensor, shape (n_tokens, n_features)
            Packed particles; the first row of each jet is a placeholder for the class token.
        packing : Packing
            Layout with one token more per jet than it has particles.

        Returns
        -------
        Tensor, shape (n_jets, n_classes)
        """
        rows = self.embedding((features - self.feature_mean) / self.feature_deviation)
        class_tokens = self.class_token.to(rows.dtype).expand(len(packing.starts), -1)
        rows = rows.index_copy(0, packing.starts, class_tokens)
        rows = self.blocks(rows, packing)
        return self.head(self.final_norm(rows.index_select(0, packing.starts)))
