"""Parameters by part, and FLOPs per token counted from the architecture.

One multiply-add counts as two FLOPs, and training costs three times the forward pass (Kaplan et al., arXiv:2001.08361,
section 2.1). Norms, activations and softmax are neglected, as is usual in the literature; attention scores and the
head are counted.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from torch import nn

from genscale.models.blocks import mlp_weights
from genscale.models.generator import Generator, GeneratorConfig
from genscale.models.tagger import Tagger, TaggerConfig


@dataclass(frozen=True)
class ParameterCount:
    """Parameters by part; a tied head has none of its own, because its weights count as embedding.

    Attributes
    ----------
    embedding : int
        Token or feature embedding, position embeddings, class token and class embeddings.
    blocks : int
        The transformer blocks and the final norm: the N of Kaplan et al. and of most fits.
    head : int
        Output layer.
    """

    embedding: int
    blocks: int
    head: int

    @property
    def total(self) -> int:
        """Number of all parameters."""
        return self.embedding + self.blocks + self.head

    def as_dict(self) -> dict[str, int]:
        """Return the parts and their total by name, for records."""
        return {**asdict(self), "total": self.total}


def count_parameters(model: Generator | Tagger) -> ParameterCount:
    """Count a model's parameters by part; raises an error if the parts do not sum to the total."""
    parts = {"embedding": 0, "blocks": 0, "head": 0}
    for name, parameter in model.named_parameters():
        root = name.split(".")[0]
        part = "blocks" if root in ("blocks", "final_norm") else "head" if root == "head" else "embedding"
        parts[part] += parameter.numel()
    count = ParameterCount(**parts)
    total = sum(p.numel() for p in nn.Module.parameters(model))
    if count.total != total:
        raise AssertionError(f"parts sum to {count.total}, the model has {total} parameters")
    return count


def _block_flops_per_token(config: GeneratorConfig | TaggerConfig, context: float) -> float:
    """Return the forward FLOPs of the blocks per token, if a token attends to ``context`` tokens on average."""
    d = config.d_model
    projections = 2 * (4 * d**2 + mlp_weights(d, config.mlp_ratio, config.activation))
    scores_and_values = 2 * 2 * context * d
    return config.n_layers * (projections + scores_and_values)


def generator_flops(config: GeneratorConfig, n_jets: int, n_tokens: int) -> float:
    """Return the training FLOPs of one pass over ``n_jets`` jets with ``n_tokens`` target tokens in total.

    The mean context of a causal sequence of t tokens is (t + 1) / 2; all jets are taken to have the mean length.
    """
    context = (n_tokens / max(n_jets, 1) + 1) / 2
    body = _block_flops_per_token(config, context)
    head = 2 * config.d_model * config.vocab_size
    return 3.0 * n_tokens * (body + head)


def tagger_flops(config: TaggerConfig, n_jets: int, n_particles: int) -> float:
    """Return the training FLOPs of one pass over ``n_jets`` jets with ``n_particles`` particles in total."""
    n_tokens = n_particles + n_jets  # including the class token of each jet
    body = _block_flops_per_token(config, n_tokens / max(n_jets, 1))
    embedding = 2 * config.n_features * config.d_model * n_particles
    head = 2 * config.d_model * config.n_classes * n_jets
    return 3.0 * (n_tokens * body + embedding + head)
