"""The tagger: a set transformer over a jet's particles, as in Vigl et al., arXiv:2602.15781.

Linear embedding, a class token, four pre-norm layers without positions, LayerNorm and a linear head on
the class token.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genscale.models.blocks import Block
from genscale.models.packing import Packing


@dataclass(frozen=True)
class TaggerConfig:
    """Shape of a tagger; heads follow the width as max(1, d_model // 64)."""

    d_model: int
    n_features: int = 21
    n_classes: int = 10
    n_layers: int = 4
    dropout: float = 0.01

    @property
    def n_heads(self) -> int:
        """Attention heads of width 64, one for narrower models."""
        return max(1, self.d_model // 64)


class Tagger(nn.Module):
    """Classifier of jets as sets of particles; see the module's text and :class:`TaggerConfig`."""

    def __init__(self, config: TaggerConfig) -> None:
        super().__init__()
        c = self.config = config
        self.embedding = nn.Linear(c.n_features, c.d_model)
        self.class_token = nn.Parameter(torch.randn(c.d_model) * 0.02)
        self.blocks = nn.ModuleList(
            Block(c.d_model, c.n_heads, causal=False, activation="gelu", dropout=c.dropout)
            for _ in range(c.n_layers)
        )
        self.final_norm = nn.LayerNorm(c.d_model)
        self.head = nn.Linear(c.d_model, c.n_classes)

    def forward(self, features: Tensor, packing: Packing) -> Tensor:
        """Logits ``[jets, n_classes]``.

        Parameters
        ----------
        features : Tensor [n_tokens, n_features]
            Packed particles; the first row of each jet is a placeholder where the class token stands.
        packing : Packing
            Layout with one token more per jet than it has particles.
        """
        rows = self.embedding(features)
        class_tokens = self.class_token.to(rows.dtype).expand(len(packing.starts), -1)
        rows = rows.index_copy(0, packing.starts, class_tokens)
        for block in self.blocks:
            rows = block(rows, packing)
        return self.head(self.final_norm(rows.index_select(0, packing.starts)))
