"""The VQ-VAE: NormFormer encoder, quantizer and NormFormer decoder, which see the whole jet if conditional.

The particles of a batch form one list of rows, without padding: linear layers, norms, the quantizer and the loss see
rows only, so that padding cannot enter them. Only attention needs to know which rows form a jet; it copies the rows
into a padded array, uses a key-padding mask, and copies them back.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from tokenizer.config import VQVAEConfig
from tokenizer.errors import InputError
from tokenizer.quantizers import make_quantizer

N_FEATURES = 3


@dataclass(frozen=True)
class Layout:
    """The positions of rows in a padded batch.

    Attributes
    ----------
    n_jets : int
        Number of jets in the padded batch.
    length : int
        Number of particles per jet in the padded batch.
    rows : Tensor of int64, shape (n_rows,), or None
        Flat positions of the rows; None if there is no padding.
    keys : Tensor of bool, shape (n_jets, 1, 1, length), or None
        Which particles may be attended to; None for all.
    """

    n_jets: int
    length: int
    rows: Tensor | None = None
    keys: Tensor | None = None

    @classmethod
    def of(cls, mask: Tensor) -> Layout:
        """The layout of a mask of real particles, shape (n_jets, length)."""
        n_jets, length = mask.shape
        if bool(mask.all()):
            return cls(n_jets, length)
        # A jet without particles must attend to something, because a softmax over nothing is NaN.
        keys = mask | ~mask.any(dim=1, keepdim=True)
        return cls(n_jets, length, rows=mask.flatten().nonzero()[:, 0], keys=keys[:, None, None, :])

    def pack(self, padded: Tensor) -> Tensor:
        """Return the rows (n_rows, d) of a padded array (n_jets, length, d)."""
        flat = padded.flatten(0, 1)
        return flat if self.rows is None else flat[self.rows]

    def pad(self, rows: Tensor) -> Tensor:
        """Return rows (n_rows, d) as a padded array (n_jets, length, d), which is zero in the padding."""
        if self.rows is not None:
            rows = rows.new_zeros(self.n_jets * self.length, rows.shape[1]).index_copy(0, self.rows, rows)
        return rows.view(self.n_jets, self.length, -1)


class NormFormerBlock(nn.Module):
    """Residual attention and a residual MLP, with norms before and after attention and before the MLP.

    This is the layout of OmniJet-alpha's blocks, after NormFormer (arXiv:2110.09456). The last layer of both branches
    starts at zero, so that a new block is the identity. Without heads there is no attention, and the output of a row
    depends on this row alone.
    """

    def __init__(self, d_model: int, n_heads: int, mlp_ratio: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.dropout = dropout
        if n_heads:
            self.norm_in = nn.LayerNorm(d_model)
            self.qkv = nn.Linear(d_model, 3 * d_model)
            self.out = nn.Linear(d_model, d_model)
            self.norm_out = nn.LayerNorm(d_model)
            nn.init.zeros_(self.norm_out.weight)
        last = nn.Linear(mlp_ratio * d_model, d_model)
        self.mlp = nn.Sequential(
            nn.LayerNorm(d_model),
            nn.Linear(d_model, mlp_ratio * d_model),
            nn.SiLU(),
            nn.Dropout(dropout),
            last,
        )
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        """Map rows to rows, both of shape (n_rows, d_model)."""
        if self.n_heads:
            x = x + self.norm_out(self.out(self._attend(self.qkv(self.norm_in(x)), layout)))
        return x + self.mlp(x)

    def _attend(self, qkv: Tensor, layout: Layout) -> Tensor:
        query, key, value = layout.pad(qkv).unflatten(-1, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=layout.keys, dropout_p=self.dropout if self.training else 0.0
        )
        return layout.pack(mixed.transpose(1, 2).flatten(2))


class NormFormer(nn.Module):
    """A stack of blocks between a linear embedding and a linear projection, without position embeddings.

    It starts as the identity on the components that input and output share: embedding and projection are each
    other's transpose, and new blocks are the identity. A new VQ-VAE therefore is plain k-means on the features, and
    learns from there what the rest of the jet says about a particle. After a random initialisation, by contrast, a
    feature with little weight in the first latents is not resolved by the codes, never reaches the decoder, and is
    never learned.
    """

    def __init__(self, d_in: int, d_out: int, n_blocks: int, config: VQVAEConfig) -> None:
        super().__init__()
        self.embed = nn.Linear(d_in, config.d_model)
        n_heads = config.n_heads if config.conditional else 0
        self.blocks = nn.ModuleList(
            NormFormerBlock(config.d_model, n_heads, config.mlp_ratio, config.dropout)
            for _ in range(n_blocks)
        )
        self.project = nn.Linear(config.d_model, d_out)
        axes = nn.init.orthogonal_(torch.empty(config.d_model, max(d_in, d_out)))
        with torch.no_grad():
            self.embed.weight.copy_(axes[:, :d_in])
            self.project.weight.copy_(axes[:, :d_out].T)
            self.embed.bias.zero_()
            self.project.bias.zero_()

    def forward(self, rows: Tensor, layout: Layout) -> Tensor:
        """Map rows (n_rows, d_in) to rows (n_rows, d_out)."""
        x = self.embed(rows)
        for block in self.blocks:
            x = block(x, layout)
        return self.project(x)


class VQVAE(nn.Module):
    """Encoder, codebook and decoder of jets.

    Parameters
    ----------
    config : VQVAEConfig

    Notes
    -----
    In distributed training the process group must exist before the model is made: the quantizer then shares the
    statistics of its codebook between ranks.
    """

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = NormFormer(N_FEATURES, config.latent_dim, config.n_encoder_blocks, config)
        self.quantizer = make_quantizer(config)
        self.decoder = NormFormer(config.latent_dim, N_FEATURES, config.n_decoder_blocks, config)

    def forward(self, features: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Return `loss`; data-parallel wrappers call this method."""
        return self.loss(features, mask)

    def loss(self, features: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Training loss of a padded batch: means over its real particles, weighted by (pT)^pt_weight_power.

        In training mode this also updates the codebook (by k-means in the first call, then by running means).

        Parameters
        ----------
        features : Tensor of float32, shape (n_jets, length, 3)
        mask : Tensor of bool, shape (n_jets, length)
            True for real particles; the values of `features` elsewhere have no influence.

        Returns
        -------
        dict of scalar Tensors
            - ``loss``: ``reconstruction + commitment_weight * commitment``, the one with a gradient;
            - ``reconstruction``: squared error, mean over particles and features;
            - ``commitment``: squared distance of latents and codes, mean over particles and components; zero
              for a quantizer that has none;
            - ``code_use``: fraction of the codebook used in this batch;
            - ``perplexity``: exp of the entropy of this batch's codes;
            - ``n_particles``: real particles in this batch.

        Raises
        ------
        InputError
            The batch has no particle, or the model was never trained and is not in training mode.
        """
        mask = mask.bool()
        # The host waits for a GPU here and in Layout.of, because sizes of what follows depend on the mask. A tokenizer
        # is trained once, for minutes, while its tokens are used by every generator.
        used = mask.any(dim=0).nonzero()
        if not len(used):
            raise InputError("a batch without particles has no loss")
        length = int(used[-1]) + 1  # nothing is computed beyond the longest jet
        layout = Layout.of(mask[:, :length])
        rows = layout.pack(features[:, :length])

        latents = self.encoder(rows, layout)
        vectors, codes = self.quantizer(latents)
        # The first feature is ln(pT) up to a constant, which cancels in the mean.
        weight = torch.exp(self.config.pt_weight_power * rows[:, :1])
        weight = weight / weight.mean()
        reconstruction = (weight * (self.decoder(vectors, layout) - rows).square()).mean()
        commitment = (
            (weight * (latents - vectors.detach()).square()).mean()
            if self.quantizer.commits
            else reconstruction.new_zeros(())
        )

        counts = torch.bincount(codes, minlength=self.config.codebook_size).to(rows.dtype)
        p = counts / counts.sum()
        return {
            "loss": reconstruction + self.config.commitment_weight * commitment,
            "reconstruction": reconstruction.detach(),
            "commitment": commitment.detach(),
            "code_use": (counts > 0).to(rows.dtype).mean(),
            "perplexity": torch.special.entr(p).sum().exp(),
            "n_particles": counts.sum(),
        }
