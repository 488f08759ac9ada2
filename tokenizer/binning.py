"""Plain bins in (ln pT, eta_rel, phi_rel): a tokenizer without a network, and the baseline for the others.

It is also the only tokenizer whose cells have known volumes, so that token probabilities give densities of jets.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tokenizer.config import BinningConfig
from tokenizer.errors import InputError
from tokenizer.quantizers import Quantized, Quantizer
from tokenizer.vqvae import N_FEATURES, Layout

NAMES = ("ln(pT)", "eta_rel", "phi_rel")


class Binning(nn.Module):
    """Bins with the interface of a VQ-VAE: features serve as latents, and each code decodes to a fixed point."""

    def __init__(self, config: BinningConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = self.decoder = Unchanged()
        self.quantizer = Bins(config.bins)

    def fit(self, features: NDArray[np.floating]) -> None:
        """Place the edges of the bins, and in each cell the point that its code decodes to.

        That point is the mean of the cell's particles in (pT, eta_rel, phi_rel), so that sums of pT are conserved on
        average; for a cell without particles it is the centre.

        Parameters
        ----------
        features : array of float, shape (n_particles, 3)
            Features of the training particles, from `Preprocessing.features`.

        Raises
        ------
        InputError
            There are too few different values for this number of quantile bins, or no particles at all.
        """
        if not len(features):
            raise InputError("no particles to place bins on")
        for axis in range(N_FEATURES):
            self.quantizer.edges(axis).copy_(torch.from_numpy(self._edges(features[:, axis], axis)))
        self.quantizer.is_placed.fill_(True)
        codes = self.quantizer.search()(torch.from_numpy(np.asarray(features)))[0]
        counts = np.bincount(codes, minlength=self.config.codebook_size)
        values = features.astype(np.float64)
        values[:, 0] = np.exp(values[:, 0])  # proportional to pT
        sums = np.stack([np.bincount(codes, column, len(counts)) for column in values.T], axis=1)
        points, filled = self._centres(), counts > 0
        points[filled] = sums[filled] / counts[filled, None]
        points[filled, 0] = np.log(points[filled, 0])
        self.quantizer.points.copy_(torch.from_numpy(points))

    def log_cell_volumes(self) -> NDArray[np.float64]:
        """Logarithm of the volume of each code's cell in (pT, eta_rel, phi_rel), in GeV rad^2; shape (K,)."""
        pre = self.config.preprocessing
        pt, eta, phi = (self.quantizer.edges(axis).double().numpy() for axis in range(N_FEATURES))
        widths = (
            np.diff(np.exp(pt + pre.ln_pt_shift)),
            np.diff(eta) / pre.eta_scale,
            np.diff(phi) / pre.phi_scale,
        )
        first, second, third = (np.log(width) for width in widths)
        return (first[:, None, None] + second[:, None] + third).ravel()

    def _limits(self, axis: int) -> tuple[float, float]:
        pre = self.config.preprocessing
        if axis == 0:
            low, high = np.log(self.config.pt_range_gev) - pre.ln_pt_shift
            return float(low), float(high)
        reach = pre.max_abs_angle * (pre.eta_scale if axis == 1 else pre.phi_scale)
        return -reach, reach

    def _edges(self, values: NDArray[np.floating], axis: int) -> NDArray[np.float64]:
        n, (low, high) = self.config.bins[axis], self._limits(axis)
        if self.config.spacing == "uniform":
            return np.linspace(low, high, n + 1)
        inside = values[(values > low) & (values < high)]
        inner = np.quantile(inside, np.linspace(0, 1, n + 1)[1:-1]) if len(inside) else np.empty(0)
        edges = np.array([low, *inner, high])
        if len(edges) != n + 1 or not (np.diff(edges.astype(np.float32)) > 0).all():
            raise InputError(
                f"bins={self.config.bins}: {len(values)} particles have too few different values of "
                f"{NAMES[axis]} for {n} quantile bins; use more jets or fewer bins"
            )
        return edges

    def _centres(self) -> NDArray[np.float64]:
        edges = [self.quantizer.edges(axis).numpy() for axis in range(N_FEATURES)]
        middles = np.meshgrid(*[(edge[1:] + edge[:-1]) / 2 for edge in edges], indexing="ij")
        return np.stack(middles, axis=-1).reshape(-1, N_FEATURES)


class Unchanged(nn.Module):
    """The identity, in place of a network."""

    def forward(self, rows: Tensor, layout: Layout) -> Tensor:
        """Return the rows."""
        return rows


class Bins(Quantizer):
    """A product of bins as a quantizer; codes are numbered with the bin of the last feature varying fastest."""

    commits = False
    points: Tensor
    is_placed: Tensor

    def __init__(self, bins: list[int]) -> None:
        super().__init__()
        self.bins = bins
        for axis, n in enumerate(bins):
            self.register_buffer(f"edges_{axis}", torch.zeros(n + 1, dtype=torch.float64))
        self.register_buffer("points", torch.zeros(int(np.prod(bins)), N_FEATURES))
        self.register_buffer("is_placed", torch.tensor(False))

    def edges(self, axis: int) -> Tensor:
        """Edges of the bins of one feature, including the outer ones."""
        return getattr(self, f"edges_{axis}")

    @property
    def codebook(self) -> Tensor:
        """The features to which each code decodes, shape (K, 3)."""
        return self.points

    def forward(self, latents: Tensor) -> Quantized:
        """Replace features by the points of their cells."""
        codes = torch.from_numpy(self.search()(latents)[0]).to(latents.device)
        return Quantized(self.lookup(codes), codes)

    def search(self) -> BinSearch:
        """Make a search for the cells of features; raises InputError if the bins are not placed."""
        if not self.is_placed:
            raise InputError("the tokenizer is untrained: its bins are not placed")
        return BinSearch([self.edges(axis).cpu().numpy() for axis in range(N_FEATURES)])


class BinSearch:
    """Find the bin of each particle. The features have no noise of a network, so all margins are infinite."""

    scale = 1.0

    def __init__(self, edges: list[NDArray[np.float64]]) -> None:
        self._inner = [edge[1:-1] for edge in edges]

    def __call__(self, latents: Tensor) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the codes of features of shape (n, 3), and infinite margins."""
        features = latents.detach().cpu().double().numpy()
        codes = np.zeros(len(features), dtype=np.int64)
        for axis, inner in enumerate(self._inner):
            codes = codes * (len(inner) + 1) + np.searchsorted(inner, features[:, axis], side="right")
        return codes, np.full(len(features), np.inf)
