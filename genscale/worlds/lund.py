"""Quark and gluon jets as Poisson processes on the primary Lund plane.

Emissions off the hard parton are independent at leading logarithmic accuracy, with density

    rho_i(ln kt, eta) = 2 alpha_s(kt) S_i(z) / pi,    0 < eta < ln(Q / kt),    z = kt e^eta / Q,

(Andersson et al., Z. Phys. C 43 (1989) 625; Dreyer, Salam and Soyez, arXiv:1807.04758). S_i is the colour factor C_i
of the parton, or z P_i(z) / 2 with the splitting functions of Altarelli and Parisi (Ellis, Stirling and Webber, QCD and
Collider Physics, section 5.1). The plane is divided into cells, one token each, and a jet lists its emissions in the
order of falling kt, those of one bin of kt by rising eta. Counts in different cells are independent, and the order
follows from them, so that entropies are sums over cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp

from genscale.errors import require
from genscale.worlds.world import (
    MOST_CODES,
    Exact,
    Floats,
    Jets,
    World,
    log,
    require_between,
)

CF: Final = 4 / 3
CA: Final = 3.0
TR: Final = 1 / 2
N_FLAVOURS: Final = 5
MZ_GEV: Final = 91.19

#: A jet with more emissions than fit must be less probable than this.
TOO_LONG: Final = 1e-9


@dataclass(frozen=True)
class Lund(World):
    """Jets of quarks (class 0) and gluons (class 1), equally many.

    Attributes
    ----------
    name : str
        Name of the world.
    about : str
        What it is, in one line.
    shown : str
        What a tagger is shown.
    scale_gev : float
        Q, the transverse momentum of the jet times its radius.
    kt_cut_gev : float
        Least transverse momentum of an emission.
    alpha_s : float
        Strong coupling at the mass of the Z boson.
    running : bool
        Let the coupling run with kt (one loop, five flavours); otherwise it is constant.
    splitting : str
        "full": splitting functions that differ between quarks and gluons at large z; "soft": colour factors only, so
        that the class depends on the number of emissions alone (Casimir scaling).
    kt_bins : int
        Bins of ln kt.
    eta_bins : int
        Bins of eta / ln(Q / kt).
    """

    name: ClassVar[str] = "lund"
    about: ClassVar[str] = (
        "quark and gluon showers on the primary Lund plane: jet-like, of variable length, exact"
    )
    shown: ClassVar[str] = (
        "the set of emissions; the angles of a particle give the cell, and the order tells nothing more"
    )

    scale_gev: float = 400.0
    kt_cut_gev: float = 1.0
    alpha_s: float = 0.118
    running: bool = True
    splitting: str = "full"
    kt_bins: int = 8
    eta_bins: int = 8

    def __post_init__(self) -> None:
        require_between("scale_gev", self.scale_gev, 1, 1e5)
        require(
            1 <= self.kt_cut_gev < self.scale_gev,
            f"kt_cut_gev: {self.kt_cut_gev:g} is not at least 1 and below scale_gev={self.scale_gev:g}",
        )
        require_between("alpha_s", self.alpha_s, 0.01, 0.13 if self.running else 1.0)
        require(self.splitting in ("full", "soft"), f"splitting: {self.splitting!r} is not full or soft")
        require_between("kt_bins", self.kt_bins, 1, 64)
        require_between("eta_bins", self.eta_bins, 1, 64)
        require(self.kt_bins * self.eta_bins >= 2, "kt_bins, eta_bins: at least two cells")
        mean = float(self.means.sum(1).max())
        overflow = 1 - float(np.exp(_log_poisson(np.arange(MOST_CODES + 1), mean)).sum())
        require(
            overflow < TOO_LONG,
            f"alpha_s, scale_gev, kt_cut_gev: {mean:.0f} emissions of a gluon on average; jets would not fit into "
            f"{MOST_CODES} tokens",
        )

    @property
    def n_codes(self) -> int:
        """Number of cells."""
        return self.kt_bins * self.eta_bins

    @property
    def max_codes(self) -> int:
        """Length of the longest jet; longer ones have a probability below `TOO_LONG`."""
        return MOST_CODES

    @property
    def prior(self) -> Floats:
        """Equal probabilities."""
        return np.full(2, 0.5)

    def density(self, ln_kt: Floats, eta: Floats) -> Floats:
        """Density of emissions off a quark and off a gluon in (ln kt / GeV, eta), shape (2, *shape of arguments)."""
        coupling = np.full_like(ln_kt, self.alpha_s)
        if self.running:
            b0 = (11 * CA - 4 * N_FLAVOURS * TR) / (12 * np.pi)
            coupling = self.alpha_s / (1 + 2 * self.alpha_s * b0 * (ln_kt - np.log(MZ_GEV)))
        colour = np.stack([np.full_like(ln_kt, CF), np.full_like(ln_kt, CA)])
        if self.splitting == "full":
            z = np.minimum(np.exp(ln_kt + eta) / self.scale_gev, 1.0)
            quark = CF * (1 + (1 - z) ** 2) / 2
            gluon = CA * (1 - z) * (1 + z**2 / 2) + N_FLAVOURS * TR * z * (z**2 + (1 - z) ** 2) / 2
            colour = np.stack([quark, gluon])
        return 2 * coupling * colour / np.pi

    @cached_property
    def means(self) -> Floats:
        """Mean number of emissions in each cell, in the order of their codes, for both classes, shape (2, n_codes).

        Integrals by Gauss-Legendre quadrature with eight points in each direction.
        """
        nodes, weights = np.polynomial.legendre.leggauss(8)
        edges = np.linspace(np.log(self.scale_gev), np.log(self.kt_cut_gev), self.kt_bins + 1)
        width = (edges[0] - edges[-1]) / self.kt_bins
        ln_kt = (edges[:-1] + edges[1:])[:, None] / 2 + width / 2 * nodes  # [kt_bins, 8]
        share = (np.arange(self.eta_bins)[:, None] + (nodes + 1) / 2) / self.eta_bins  # [eta_bins, 8]
        reach = np.log(self.scale_gev) - ln_kt
        eta = reach[:, None, :, None] * share[None, :, None, :]  # [kt_bins, eta_bins, 8, 8]
        rho = self.density(np.broadcast_to(ln_kt[:, None, :, None], eta.shape), eta)
        per_eta = (rho * weights).sum(-1) / (2 * self.eta_bins) * reach[:, None, :]
        return ((per_eta * weights).sum(-1) * width / 2).reshape(2, -1)

    def sample(self, n_jets: int, rng: np.random.Generator) -> Jets:
        """Draw labelled jets."""
        labels = rng.integers(2, size=n_jets)
        codes, lengths = [], np.empty(n_jets, dtype=np.int64)
        for low in range(0, n_jets, 50_000):
            part = slice(low, low + 50_000)
            counts = rng.poisson(self.means[labels[part]])
            lengths[part] = counts.sum(1)
            while (
                too_long := np.flatnonzero(lengths[part] > MOST_CODES)
            ).size:  # less than once in TOO_LONG jets
                counts[too_long] = rng.poisson(self.means[labels[part][too_long]])
                lengths[part] = counts.sum(1)
            codes.append(np.repeat(np.tile(np.arange(self.n_codes), len(counts)), counts.ravel()))
        return Jets(np.concatenate(codes or [np.empty(0, dtype=np.int64)]), lengths, labels)

    def log_likelihood(self, jets: Jets) -> Floats:
        """Return ln p(x|y) of each jet for both classes, shape (n_jets, 2)."""
        jet = np.repeat(np.arange(len(jets)), jets.lengths)
        cells, counts = np.unique(jet * self.n_codes + jets.codes, return_counts=True)
        orders = np.bincount(cells // self.n_codes, gammaln(counts + 1), len(jets))
        return jets.sums(log(self.means)[:, jets.codes].T) - self.means.sum(1) - orders[:, None]

    def exact(self) -> Exact:
        """H(X|Y), a sum over cells, and the mean length; with splitting "soft" also H(Y|X), a sum over lengths."""
        given_class = float(np.mean([sum(map(_poisson_entropy, row)) for row in self.means]))
        totals = self.means.sum(1)
        tokens = float(totals.mean()) + 1
        if self.splitting != "soft":
            return Exact(given_class=given_class, tokens=tokens)
        n = np.arange(_most(totals.max()))
        joint = np.stack([_log_poisson(n, mean) for mean in totals]) + np.log(0.5)
        marginal = logsumexp(joint, axis=0)
        tagging = float((np.exp(joint) * (marginal - joint)).sum())
        return Exact(given_class + float(np.log(2)) - tagging, given_class, tagging, tokens)


def _log_poisson(n: NDArray[Any], mean: float) -> Floats:
    return n * np.log(mean) - mean - gammaln(n + 1)


def _most(mean: float) -> int:
    """A number that a Poisson variable exceeds with a probability far below rounding."""
    return int(mean + 12 * np.sqrt(mean) + 40)


def _poisson_entropy(mean: float) -> float:
    log_p = _log_poisson(np.arange(_most(mean)), mean)
    return float(-(np.exp(log_p) * log_p).sum())
