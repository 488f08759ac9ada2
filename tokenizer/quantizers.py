"""Quantizers, which turn latents into codes: nearest vectors of one or of several codebooks, or rounding.

The vector quantizer is `vector_quantize_pytorch.VectorQuantize`. These of its features are used:

- Codes are running means of the latents that choose them (EMA), not parameters: there is no second learning rate to
  tune, and only the network needs optimizer state.
- The codebook is initialised by k-means on the first training batch, so that all codes lie where latents are.
- A code whose use falls below a threshold is moved onto a random latent of the batch.
- Gradients pass straight through. The library's default, the rotation trick (arXiv:2410.06424), makes the encoder
  shrink its latents here: after 150 steps with 64 codes the reconstruction loss is 0.115 with it and 0.080 without,
  from 0.097 at the start.

The first three are given real particles only, as one list without padding, so that padding cannot be mistaken for a
particle. Their random numbers come from torch's global generator; all their state is in buffers.

Outside training, codes are not searched by the library: its forward pass would initialise an empty codebook from any
data that it is given, validation data included, and its table of all distances costs several times as much as the
encoder at 8,192 codes.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import NamedTuple, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor, nn
from vector_quantize_pytorch import VectorQuantize

from tokenizer.config import VQVAEConfig
from tokenizer.errors import InputError


class Quantized(NamedTuple):
    """Quantized latents: `vectors` (n, latent_dim), with gradient, and their `codes` (n,) in 0..K-1."""

    vectors: Tensor
    codes: Tensor


class Search(Protocol):
    """A search for the codes of latents outside training.

    The margin of a latent is the difference between its distances to the second-nearest and to the nearest code.
    `scale` is the spread of the codebook in the same units, to which float32 noise is compared.
    """

    scale: float

    def __call__(self, latents: Tensor) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the codes 0..K-1 of latents (n, dim), and their margins."""
        ...


class Quantizer(nn.Module, ABC):
    """The interface of a quantizer.

    Attributes
    ----------
    commits : bool
        Whether a commitment loss draws latents to their codes.
    """

    commits = True

    @property
    @abstractmethod
    def codebook(self) -> Tensor:
        """The vectors of all codes, shape (K, dim)."""

    @abstractmethod
    def forward(self, latents: Tensor) -> Quantized:
        """Replace latents (n_particles, dim), without padding, by their codes; in training also learn the codes."""

    @abstractmethod
    def search(self) -> Search:
        """Make a search for codes in the present codebook.

        Returns
        -------
        Search

        Raises
        ------
        InputError
            The codebook was never trained.
        """

    def lookup(self, codes: Tensor) -> Tensor:
        """The vectors of `codes` (any shape, values in 0..K-1)."""
        return self.codebook[codes]


def make_quantizer(config: VQVAEConfig) -> Quantizer:
    """Make the quantizer that a configuration names."""
    if config.quantizer == "fsq":
        return FiniteScalarQuantizer(config.resolved_levels)

    def codebook(size: int) -> VectorQuantizer:
        return VectorQuantizer(
            config.latent_dim,
            size,
            ema_decay=config.ema_decay,
            dead_code_threshold=config.dead_code_threshold,
            kmeans_iterations=config.kmeans_iterations,
        )

    if config.quantizer == "residual":
        return ResidualQuantizer([codebook(size) for size in config.resolved_levels])
    return codebook(config.codebook_size)


class VectorQuantizer(Quantizer):
    """A codebook of `codebook_size` vectors of `dim` components.

    Parameters are those of `tokenizer.config.VQVAEConfig`.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        *,
        ema_decay: float,
        dead_code_threshold: float,
        kmeans_iterations: int,
    ) -> None:
        super().__init__()
        self.codebook_size = codebook_size
        self.dead_code_threshold = dead_code_threshold
        self.vq = VectorQuantize(
            dim=dim,
            codebook_size=codebook_size,
            decay=ema_decay,
            kmeans_init=True,
            kmeans_iters=kmeans_iterations,
            threshold_ema_dead_code=dead_code_threshold,
            rotation_trick=False,
            commitment_weight=0.0,  # the loss is the model's, in training and validation alike
            # Given explicitly, because the library keeps its own first guess for the rest of the process.
            sync_codebook=_is_distributed(),
        )

    @property
    def is_initialised(self) -> bool:
        """Whether k-means has placed the codes, which the first training step does."""
        return bool(self.vq._codebook.initted)

    @property
    def codebook(self) -> Tensor:
        """The learned vectors, shape (K, dim)."""
        return self.vq.codebook

    def forward(self, latents: Tensor) -> Quantized:
        """Replace latents by codes; see `Quantizer.forward`."""
        if self.training:
            self._set_dead_code_limit(len(latents), latents.device)
            # In float32 even where the network runs in lower precision: distances and running means need it.
            with torch.autocast(latents.device.type, enabled=False):
                vectors, codes, _ = self.vq(latents.float()[None])
            return Quantized(vectors[0], codes[0])
        codes = torch.from_numpy(self.search()(latents)[0]).to(latents.device)
        return Quantized(self.lookup(codes), codes)

    @torch.no_grad()
    def place(self, vectors: Tensor) -> None:
        """Use ``vectors``, shape (K, dim), as the codebook, as if they were the result of a training."""
        codebook = self.vq._codebook
        codebook.embed.copy_(vectors[None])
        codebook.embed_avg.copy_(vectors[None])
        codebook.cluster_size.fill_(1.0)
        codebook.initted.fill_(True)

    def search(self) -> NearestCodes:
        """Make a search in the present codebook; raises InputError before the first training step."""
        if not self.is_initialised:
            raise InputError("the tokenizer is untrained: its codebook is empty before the first step")
        return NearestCodes(self.codebook)

    def _set_dead_code_limit(self, n_particles: int, device: torch.device) -> None:
        """Set the library's threshold, which counts particles per step, for this batch of all processes."""
        if _is_distributed():  # otherwise processes would disagree on which codes are dead
            everywhere = torch.tensor(n_particles, device=device)
            torch.distributed.all_reduce(everywhere)
            n_particles = int(everywhere)
        limit = self.dead_code_threshold * n_particles / self.codebook_size
        self.vq._codebook.threshold_ema_dead_code = limit
        self.vq._codebook.reset_cluster_size = limit


class ResidualQuantizer(Quantizer):
    """Several codebooks in sequence, each for the remainder of the previous ones; the tuple of codes is one code.

    A particle still has one token. The quantizer is equivalent to one codebook whose vectors are all sums of one
    vector per stage, but only the far fewer vectors of the stages are learned.
    """

    def __init__(self, stages: list[VectorQuantizer]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)

    @property
    def codebook(self) -> Tensor:
        """All sums of one vector per stage, shape (K, dim)."""
        first, *others = self._stages()
        total = first.codebook
        for stage in others:
            total = (total[:, None] + stage.codebook[None]).flatten(0, 1)
        return total

    def forward(self, latents: Tensor) -> Quantized:
        """Replace latents by codes; see `Quantizer.forward`."""
        # The stages learn by running means and need no gradient; it passes straight through all of them at once.
        rest = latents.detach().float()
        codes = torch.zeros(len(latents), dtype=torch.int64, device=latents.device)
        for stage in self._stages():
            found = stage(rest)
            rest = rest - found.vectors
            codes = codes * stage.codebook_size + found.codes
        return Quantized(latents - rest.to(latents.dtype), codes)

    def search(self) -> ResidualSearch:
        """Make a search in the present codebooks; raises InputError before the first training step."""
        return ResidualSearch([stage.search() for stage in self._stages()])

    def _stages(self) -> list[VectorQuantizer]:
        return cast(list[VectorQuantizer], list(self.stages))


class ResidualSearch:
    """Nearest codes stage by stage, in double precision; the margin is the smallest margin of the stages."""

    def __init__(self, stages: list[NearestCodes]) -> None:
        self._stages = stages
        self.scale = stages[0].scale

    def __call__(self, latents: Tensor) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the codes of latents (n, dim), and their margins."""
        rest = latents.detach().cpu().double()
        codes = np.zeros(len(rest), dtype=np.int64)
        margin = np.full(len(rest), np.inf)
        for stage in self._stages:
            found, margins = stage(rest)
            rest = rest - torch.from_numpy(stage.vectors[found])
            codes = codes * len(stage.vectors) + found
            margin = np.minimum(margin, margins)
        return codes, margin


class FiniteScalarQuantizer(Quantizer):
    """Finite scalar quantization (Mentzer et al., arXiv:2309.15505, appendix A.1): bound and round each dimension.

    There is no codebook to learn; the encoder learns to use the grid. Codes are numbered with the first dimension
    varying fastest. The formulas are those of `vector_quantize_pytorch.FSQ`, which is not used because encoding needs
    double precision and the distance to the border between codes.
    """

    commits = False  # the grid is fixed, and latents are bounded already
    levels: Tensor
    basis: Tensor

    def __init__(self, levels: list[int]) -> None:
        super().__init__()
        # Not saved, because they follow from the configuration.
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("basis", torch.tensor([1, *levels[:-1]]).cumprod(0), persistent=False)

    @property
    def codebook(self) -> Tensor:
        """The points of the grid, shape (K, dim), with components from -1 to 1."""
        codes = torch.arange(int(self.levels.prod()), device=self.levels.device)
        half = self.levels // 2
        return ((codes[:, None] // self.basis) % self.levels - half) / half

    def bounded(self, latents: Tensor) -> Tensor:
        """Return latents on the scale on which codes are whole numbers, from -(L // 2) to (L - 1) // 2."""
        reach = (
            (self.levels - 1).to(latents.dtype) * (1 + 1e-3) / 2
        )  # slightly more, so that the outermost codes are reached
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0).to(latents.dtype)
        return torch.tanh(latents + torch.atanh(offset / reach)) * reach - offset

    def forward(self, latents: Tensor) -> Quantized:
        """Replace latents by codes; see `Quantizer.forward`."""
        with torch.autocast(latents.device.type, enabled=False):
            position = self.bounded(latents.float())
        whole = position.detach().round()
        half = self.levels // 2
        codes = ((whole.long() + half) * self.basis).sum(-1)
        return Quantized((position + (whole - position).detach()) / half, codes)

    def search(self) -> RoundingSearch:
        """Make a search that rounds as in training, in double precision."""
        return RoundingSearch(self)


class RoundingSearch:
    """Codes of a finite scalar quantizer, in double precision; margins are distances from the nearest border."""

    def __init__(self, quantizer: FiniteScalarQuantizer) -> None:
        self._quantizer = copy.deepcopy(quantizer).cpu()
        self.scale = float(((quantizer.levels.double() ** 2 - 1) / 12).sum().sqrt())

    def __call__(self, latents: Tensor) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the codes of latents (n, dim), and their margins."""
        doubles = latents.detach().cpu().double()
        position = self._quantizer.bounded(doubles)
        whole = position.round()
        half = self._quantizer.levels // 2
        codes = ((whole.long() + half) * self._quantizer.basis).sum(-1)
        return codes.numpy(), (0.5 - (position - whole).abs()).amin(-1).numpy()


class NearestCodes:
    """Exact nearest neighbours in a fixed codebook, in double precision.

    A k-d tree makes the cost almost independent of the codebook's size: at 8,192 codes it takes a seventh of the time
    of a table of all distances on one core, and it also gives the distance to the second-nearest code.
    """

    def __init__(self, codebook: Tensor) -> None:
        self.vectors = codebook.detach().cpu().double().numpy()
        self._tree = cKDTree(self.vectors)
        #: Root-mean-square distance of a code from the codebook's centre.
        self.scale = float(np.sqrt(self.vectors.var(axis=0).sum()))

    def __call__(self, latents: Tensor) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the nearest codes of latents (n, dim), and how much farther away the second-nearest codes are."""
        points = latents.detach().cpu().double().numpy()
        found = self._tree.query(points, k=2, workers=torch.get_num_threads())
        distances, codes = np.asarray(found[0]), np.asarray(found[1])
        return codes[:, 0].astype(np.int64), distances[:, 1] - distances[:, 0]


def _is_distributed() -> bool:
    distributed = torch.distributed
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
