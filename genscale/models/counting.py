"""What a model costs: parameters by part, and FLOPs per token counted from the architecture.

Two multiply-accumulate conventions are fixed here: one multiply-add is two FLOPs, and training costs three
times the forward pass (Kaplan et al., arXiv:2001.08361, section 2.1). Norms, activations and softmax are
left out, as everywhere in the literature; attention scores and the head are counted.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from torch import nn

from genscale.models.blocks import mlp_weights
from genscale.models.generator import Generator, GeneratorConfig
from genscale.models.tagger import Tagger, TaggerConfig


@dataclass(frozen=True)
class ParameterCount:
    """Parameters by part. A tied head has none of its own: it counts as embedding.

    Attributes
    ----------
    embedding : int
        Token or feature embedding, positions, class token and class embeddings.
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
        """Every parameter once."""
        return self.embedding + self.blocks + self.head

    def as_dict(self) -> dict[str, int]:
        """Named parts and their total, for records."""
        return {**asdict(self), "total": self.total}


def count_parameters(model: Generator | Tagger) -> ParameterCount:
    """Count a model's parameters by part; the parts sum to the total, or an error tells."""
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
    """Forward FLOPs of the blocks for one token that attends to ``context`` tokens on average."""
    d = config.d_model
    projections = 2 * (4 * d**2 + mlp_weights(d, config.mlp_ratio, config.activation))
    scores_and_values = 2 * 2 * context * d
    return config.n_layers * (projections + scores_and_values)


def generator_flops(config: GeneratorConfig, n_jets: int, n_tokens: int) -> float:
    """Training FLOPs of one pass over ``n_jets`` jets with ``n_tokens`` target tokens in all.

    The mean context of a causal sequence of t tokens is (t + 1) / 2; jets are taken at their mean length.
    """
    context = (n_tokens / max(n_jets, 1) + 1) / 2
    body = _block_flops_per_token(config, context)
    head = 2 * config.d_model * config.vocab_size
    return 3.0 * n_tokens * (body + head)


def tagger_flops(config: TaggerConfig, n_jets: int, n_particles: int) -> float:
    """Training FLOPs of one pass over ``n_jets`` jets with ``n_particles`` particles in all."""
    n_tokens = n_particles + n_jets  # the class token is computed too
    body = _block_flops_per_token(config, n_tokens / max(n_jets, 1))
    embedding = 2 * config.n_features * config.d_model * n_particles
    head = 2 * config.d_model * config.n_classes * n_jets
    return 3.0 * (n_tokens * body + embedding + head)
