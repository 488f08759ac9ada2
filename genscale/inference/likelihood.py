"""How likely a generator finds jets: log-likelihoods of token sequences, and densities of jets.

The likelihood of a token sequence depends on the codebook: finer codes are harder to guess. What tokenizers can
be compared by is the density of the jet itself, in (pT, eta_rel, phi_rel) of its N particles. If particles lie
uniformly within the cells of their codes, then

    ln p(jet) = sum ln p(token) - sum ln V(cell) + sum_b ln n_b! - ln N!,

with n_b particles in the bin b of pT. Tokens stand in the order of falling pT: of all orders of n_b particles
in one bin of pT one is realised, so that a sequence has only 1 / prod n_b! of the volume of its cells.
The last term makes the density symmetric, normalised over all orders of the particles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import awkward as ak
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from scipy.special import gammaln
from tqdm import tqdm

from eval.scaling import ReferenceModels
from genscale.data.conform import UNKNOWN_CLASS
from genscale.data.constituents import COLUMNS, constituents
from genscale.data.packing import Packing
from genscale.data.schema import CLASSES
from genscale.data.store import JetStore, Store, TokenStore, require_classes
from genscale.errors import InputError
from genscale.files import write_json
from genscale.inference.encoding import require_fit
from genscale.inference.stores import REFERENCE_JETS, require_same_tokenizer, sequences_of, token_sequences
from genscale.models.generator import Generator
from genscale.records import git_commit, package_versions
from genscale.training.generator import TOKENIZER_FOLDER, load_generator
from tokenizer import BinningConfig, Tokenizer

#: Jets read, scored and written at a time: what bounds the memory.
CHUNK_JETS: Final = 8192

#: Jets in one pass through the network.
BATCH_JETS: Final = 256

VERSION: Final = 1


def likelihood_store(
    run: Path,
    store: Path,
    out: Path,
    *,
    references: Path | None = None,
    accept_loss: bool = False,
    device: str = "cpu",
    progress: bool = True,
) -> dict[str, Any]:
    """Score every jet of a store with a trained generator.

    Parameters
    ----------
    run : Path
        Folder of a finished generator run.
    store : Path
        Token store made by the run's tokenizer, or a jet store, which is encoded with it.
    out : Path
        Arrow file, a row per jet in the store's order: ``label``, ``constituents``, ``tokens`` (stop token
        included, start token not), ``log_likelihood`` (nats), ``nats_per_token`` and ``log_density`` (of GeV^-N
        rad^-2N; null if the tokenizer has no cells). A summary with provenance goes beside it as JSON.
    references : Path, optional
        Token store, of the same tokenizer, on which reference models are counted (`eval.scaling.entropy`). The
        summary then says by how many nats per jet the generator is better than each, the mean log ratio of densities.
    accept_loss : bool
        Score jets of which the tokenizer drops many particles.
    device : str
        Where the network runs.
    progress : bool
        Show a progress bar.

    Returns
    -------
    dict
        The summary.

    Raises
    ------
    InputError
        There is no finished run, there are no jets, tokens are of another tokenizer, a class-conditional generator gets
        no labels or those of other classes, jets are longer than the generator can take, or the tokenizer loses much
        of them.
    """
    if out.suffix == ".json":
        raise InputError(
            f"{out}: the summary goes there; name the file of all jets otherwise, say {out.stem}.arrow"
        )
    model, description = load_generator(run)
    coder = Tokenizer.load(run / TOKENIZER_FOLDER)
    require_same_tokenizer(description["tokenizer_fingerprint"], coder, run, run / TOKENIZER_FOLDER)
    jets = _open(store, coder, run / TOKENIZER_FOLDER)
    if not len(jets):
        raise InputError(f"{store}: holds no jets; at least one is needed")
    if model.class_embedding is not None:
        require_classes(
            jets, tuple(description.get("classes", CLASSES)), f"the class-conditional generator {run}"
        )
    density = Density.of(coder)
    below = None if references is None else _References(references, coder, run / TOKENIZER_FOLDER)
    model.to(device)
    if isinstance(jets, JetStore) and not accept_loss:
        require_fit(coder, jets)
    sums = _Sums(jets.class_names)
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(f".{out.name}.tmp")
    try:
        with pa.OSFile(str(aside), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
            for labels, tokens in _chunks(jets, coder, device, progress):
                columns = _score(model, density, labels, tokens, device, store)
                sums.add(columns)
                if below is not None:
                    below.add(tokens, columns["log_likelihood"])
                arrays = [pa.array(columns[f.name], f.type, from_pandas=True) for f in _SCHEMA]  # NaN is null
                writer.write_batch(pa.record_batch(arrays, schema=_SCHEMA))
        aside.replace(out)
    finally:
        aside.unlink(missing_ok=True)
    summary = {
        "version": VERSION,
        "run": str(run),
        "model": description["sha256"],
        "tokenizer_fingerprint": coder.fingerprint,
        "store": str(store),
        "store_fingerprint": jets.fingerprint,
        **sums.as_dict(),
        "packages": package_versions(),
        "git_commit": git_commit(),
    }
    if below is not None:
        summary["references"] = below.as_dict(summary["log_density"])
    write_json(out.with_suffix(".json"), summary)
    return summary


@torch.inference_mode()
def log_likelihood(
    model: Generator, tokens: ak.Array, labels: NDArray[np.int64] | None = None, *, device: str = "cpu"
) -> NDArray[np.float64]:
    """Log-likelihood of token sequences in nats.

    Parameters
    ----------
    model : Generator
        In evaluation mode, on ``device``.
    tokens : ak.Array
        Ragged integers, a jet per row: start, codes, stop. The start token is given, the stop token predicted.
    labels : ndarray of int [jets], optional
        Class of each jet, for a class-conditional generator.
    device : str
        Where the network is.

    Returns
    -------
    ndarray of float [jets]
    """
    lengths = ak.to_numpy(ak.num(tokens)).astype(np.int64) - 1
    result = np.empty(len(lengths))
    # Of equal length as far as possible: nothing is lost to padding, and likelihoods do not depend on it.
    order = np.argsort(-lengths, kind="stable")
    for low in range(0, len(order), BATCH_JETS):
        batch = order[low : low + BATCH_JETS]
        sequences = tokens[batch]
        inputs, targets = (
            torch.from_numpy(ak.to_numpy(ak.flatten(part)).astype(np.int64)).to(device)
            for part in (sequences[:, :-1], sequences[:, 1:])
        )
        classes = None if labels is None else torch.from_numpy(labels[batch]).to(device)
        nats = model(inputs, targets, Packing.build(lengths[batch], device), classes).per_token
        starts = np.cumsum(lengths[batch]) - lengths[batch]
        result[batch] = -np.add.reduceat(nats.double().cpu().numpy(), starts)
    return result


@dataclass(frozen=True)
class Density:
    """What turns likelihoods of token sequences into densities of jets; see the module's text.

    Attributes
    ----------
    log_volumes : ndarray [codes]
        ln of the cells' volumes in (pT, eta_rel, phi_rel), GeV rad^2.
    pt_bins : ndarray of int [codes]
        The bin of pT that the cell belongs to.
    """

    log_volumes: NDArray[np.float64]
    pt_bins: NDArray[np.int64]

    @classmethod
    def of(cls, coder: Tokenizer) -> Density | None:
        """The cells of a tokenizer; None if its codes have none (a VQ-VAE's have not)."""
        if not isinstance(coder.config, BinningConfig):
            return None
        codes = np.arange(coder.config.codebook_size)
        return cls(coder.log_cell_volumes(), codes // (coder.config.bins[1] * coder.config.bins[2]))

    def log_density(
        self, log_likelihood: NDArray[np.float64], codes: NDArray[np.int64], counts: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Logarithm of the density of jets, symmetric in their particles.

        Parameters
        ----------
        log_likelihood : ndarray [jets]
            Log-likelihood of the token sequences, in nats.
        codes : ndarray of int [particles]
            Codes 0..K-1 of all jets, one jet after the other.
        counts : ndarray of int [jets]
            Particles of each jet.

        Returns
        -------
        ndarray of float [jets]
            Of GeV^-N rad^-2N, N particles.
        """
        jet = np.repeat(np.arange(len(counts)), counts)
        n_bins = int(self.pt_bins.max()) + 1
        occupied, in_bin = np.unique(jet * n_bins + self.pt_bins[codes], return_counts=True)
        volumes = np.bincount(jet, self.log_volumes[codes], len(counts))
        orders = np.bincount(occupied // n_bins, gammaln(in_bin + 1), len(counts))
        return log_likelihood - volumes + orders - gammaln(counts + 1)


_SCHEMA: Final = pa.schema(
    {
        "label": pa.int16(),
        "constituents": pa.int32(),
        "tokens": pa.int32(),
        "log_likelihood": pa.float64(),
        "nats_per_token": pa.float64(),
        "log_density": pa.float64(),
    }
)


def _open(path: Path, coder: Tokenizer, tokenizer: Path) -> Store:
    """The store, if its jets can be told in this tokenizer's tokens."""
    if Store.open(path, verify=False).manifest.kind == JetStore.KIND:
        return JetStore.open(path)
    store = TokenStore.open(path)
    require_same_tokenizer(store.manifest.meta["tokenizer_fingerprint"], coder, path, tokenizer)
    return store


def _chunks(
    store: Store, coder: Tokenizer, device: str, progress: bool
) -> Iterator[tuple[NDArray[np.int64], ak.Array]]:
    """Labels and token sequences of consecutive jets, a bounded number at a time."""
    bar = tqdm(total=len(store), unit="jet", unit_scale=True, desc="likelihood", disable=not progress)
    labels = store.labels() if store.class_names else np.full(len(store), UNKNOWN_CLASS)
    with bar:
        for low in range(0, len(store), CHUNK_JETS):
            rows = slice(low, min(low + CHUNK_JETS, len(store)))
            if isinstance(store, JetStore):
                tokens = coder.encode(constituents(store.read(rows, columns=COLUMNS)), device=device)
            else:
                tokens = store.read(rows, columns=["tokens"])["tokens"]
            yield labels[rows], tokens
            bar.update(len(tokens))


def _score(
    model: Generator, density: Density | None, labels: NDArray[np.int64], tokens: ak.Array, device: str, store: Path
) -> dict[str, NDArray[Any]]:  # fmt: skip
    """The columns of some jets."""
    n_tokens = ak.to_numpy(ak.num(tokens)).astype(np.int64) - 1
    longest = int(n_tokens.max(initial=0))
    if longest > model.config.max_tokens:
        raise InputError(
            f"{store}: a jet of {longest - 1} constituents; the generator takes {model.config.max_tokens - 1}"
        )
    nats = -log_likelihood(
        model, tokens, labels if model.class_embedding is not None else None, device=device
    )
    log_density = np.full(len(nats), np.nan)
    if density is not None:
        codes = ak.to_numpy(ak.flatten(tokens[:, 1:-1])).astype(np.int64) - 1
        log_density = density.log_density(-nats, codes, n_tokens - 1)
    return {
        "label": labels,
        "constituents": n_tokens - 1,
        "tokens": n_tokens,
        "log_likelihood": -nats,
        "nats_per_token": nats / n_tokens,
        "log_density": log_density,
    }


class _Sums:
    """Sums over jets, by class, for the means of the summary and their errors."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.names = [*classes, "unknown"]
        # Jets, tokens, nats and their products; the last row is for jets of no known class.
        self.by_class = np.zeros((len(self.names), 6))
        self.density = np.zeros(4)  # jets, sum and sum of squares of ln p, constituents

    def add(self, columns: dict[str, NDArray[Any]]) -> None:
        nats, tokens = -columns["log_likelihood"], columns["tokens"].astype(np.float64)
        terms = [np.ones_like(nats), tokens, nats, tokens * tokens, tokens * nats, nats * nats]
        place = columns["label"] % len(self.by_class)  # UNKNOWN_CLASS is the last
        self.by_class += np.stack([np.bincount(place, term, len(self.by_class)) for term in terms], axis=1)
        log_p = columns["log_density"]
        if not np.isnan(log_p).any():
            self.density += [len(log_p), log_p.sum(), (log_p * log_p).sum(), columns["constituents"].sum()]

    def as_dict(self) -> dict[str, Any]:
        return {
            **_means(self.by_class.sum(0)),
            "classes": {
                name: _means(row) for name, row in zip(self.names, self.by_class, strict=True) if row[0]
            },
            "log_density": _density_means(self.density) if self.density[0] else None,
        }


class _References:
    """Reference models counted on a token store, and how far a generator is above each of them."""

    def __init__(self, path: Path, coder: Tokenizer, tokenizer: Path) -> None:
        store = TokenStore.open(path)
        require_same_tokenizer(store.manifest.meta["tokenizer_fingerprint"], coder, path, tokenizer)
        self.models = ReferenceModels(
            token_sequences(store, REFERENCE_JETS), coder.vocab_size, start_token=coder.start_token
        )
        self.gains: dict[str, list[NDArray[np.float64]]] = {}  # nats per jet by which the generator is better

    def add(self, tokens: ak.Array, log_likelihood: NDArray[np.float64]) -> None:
        for name, nats in self.models.nats(sequences_of(tokens)).items():
            self.gains.setdefault(name, []).append(nats + log_likelihood)

    def as_dict(self, log_density: dict[str, float] | None) -> dict[str, Any]:
        found = {}
        for name, parts in self.gains.items():
            gain = np.concatenate(parts)
            found[name] = {
                "nats_per_jet_below": float(gain.mean()),
                "nats_per_jet_below_error": float(gain.std() / np.sqrt(len(gain))),
                "log_density_per_jet": None
                if log_density is None
                else log_density["per_jet"] - float(gain.mean()),
            }
        return found


def _means(sums: NDArray[np.float64]) -> dict[str, float]:
    """Means with standard errors over independent jets; per token, that of a ratio of sums (delta method)."""
    n, tokens, nats, tt, tn, nn = sums.tolist()
    mean = nats / tokens
    spread = max(nn - 2 * mean * tn + mean * mean * tt, 0.0)
    return {
        "jets": int(n),
        "tokens": int(tokens),
        "nats_per_token": mean,
        "nats_per_token_error": spread**0.5 / tokens,
        "nats_per_jet": nats / n,
        "nats_per_jet_error": max(nn / n - (nats / n) ** 2, 0.0) ** 0.5 / n**0.5,
    }


def _density_means(sums: NDArray[np.float64]) -> dict[str, float]:
    n, total, squares, constituents_ = sums.tolist()
    error = max(squares / n - (total / n) ** 2, 0.0) ** 0.5 / n**0.5
    return {"per_jet": total / n, "per_jet_error": error, "per_constituent": total / max(constituents_, 1)}
