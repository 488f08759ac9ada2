"""Jets to token sequences and back.

Token 0 starts a jet, tokens 1..K are codes, and token K + 1 ends the jet, as in OmniJet-alpha (arXiv:2403.05618).
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import awkward as ak
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from tqdm.auto import tqdm

from tokenizer import storage
from tokenizer.binning import Binning
from tokenizer.config import BinningConfig, VQVAEConfig
from tokenizer.errors import InputError
from tokenizer.preprocessing import Preprocessing
from tokenizer.quantizers import VectorQuantizer
from tokenizer.vqvae import VQVAE, Layout

#: A jet with a latent closer than this to the border between two codes, in units of the codebook's spread, is encoded
#: again in double precision. The float32 noise of the encoder was at most 1.2e-6 at the released size; with 8,192
#: codes, one jet in thirty is encoded again.
NEAR_TIE = 2e-5


class Tokenizer:
    """A VQ-VAE, or plain bins, with its preprocessing and special tokens.

    `create` makes an untrained tokenizer and `load` reads a trained one. The `model` of a VQ-VAE is trained on batches
    from `preprocessing.padded`; plain bins are fitted to `preprocessing.features`. The configuration is `config`.
    """

    start_token = 0

    def __init__(self, model: VQVAE | Binning) -> None:
        self.model = model
        self.config = model.config

    @classmethod
    def create(cls, config: VQVAEConfig | BinningConfig, *, seed: int = 0) -> Tokenizer:
        """Make an untrained tokenizer, with initial weights drawn from `seed`."""
        if isinstance(config, BinningConfig):
            return cls(Binning(config))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(VQVAE(config))

    @classmethod
    def load(cls, folder: str | Path) -> Tokenizer:
        """Read a tokenizer written by `save`.

        Parameters
        ----------
        folder : str or Path
            Folder of the tokenizer.

        Returns
        -------
        Tokenizer

        Raises
        ------
        InputError
            The folder holds no tokenizer, is damaged, or was written by a newer version.
        """
        config, weights = storage.read(Path(folder))
        tokenizer = cls.create(config)
        try:
            tokenizer.model.load_state_dict(weights)
        except RuntimeError as error:
            raise InputError(f"{folder}: the weights do not fit the configuration: {error}") from error
        tokenizer.model.eval()
        return tokenizer

    def save(self, folder: str | Path) -> None:
        """Write weights (safetensors) and description (JSON) into `folder`, which is created if needed.

        A tokenizer that is already there stays complete until the new one replaces it in one step.
        """
        storage.write(Path(folder), self.config, self.model.state_dict())

    def coarsened(self, codebook_size: int, *, seed: int = 0) -> Tokenizer:
        """Return this tokenizer with fewer codes, from k-means of its codebook vectors; nothing else changes.

        This shows the effect of the size of the codebook without training another tokenizer.

        Parameters
        ----------
        codebook_size : int
            Number of codes, fewer than at present.
        seed : int
            Seed of the first centres (k-means++).

        Returns
        -------
        Tokenizer

        Raises
        ------
        InputError
            The codes are not vectors that can be merged (bins, ``fsq``), the tokenizer is untrained, or the size
            is not smaller.
        """
        if not isinstance(self.model, VQVAE) or self.model.config.quantizer == "fsq":
            kind = "fsq" if isinstance(self.model, VQVAE) else "bins"
            raise InputError(f"codes of {kind} are a grid: configure a coarser one instead of merging them")
        if not 2 <= codebook_size < self.config.codebook_size:
            raise InputError(
                f"codebook_size={codebook_size}: must be from 2 to {self.config.codebook_size - 1}, "
                "fewer than at present"
            )
        self.model.quantizer.search()  # refuses an untrained codebook
        vectors = self.model.quantizer.codebook.detach().cpu().double().numpy()
        centres, _ = kmeans2(vectors, codebook_size, iter=100, minit="++", seed=seed)
        config = dataclasses.replace(
            self.model.config, codebook_size=codebook_size, quantizer="vq", levels=[]
        )
        coarse = Tokenizer.create(config)
        kept = {k: v for k, v in self.model.state_dict().items() if not k.startswith("quantizer.")}
        coarse.model.load_state_dict(kept, strict=False)
        assert isinstance(coarse.model.quantizer, VectorQuantizer)
        coarse.model.quantizer.place(torch.from_numpy(centres))
        coarse.model.eval()
        return coarse

    @property
    def preprocessing(self) -> Preprocessing:
        """Selection of particles and their features."""
        return self.config.preprocessing

    @property
    def stop_token(self) -> int:
        """The token that follows a jet's last code: K + 1."""
        return self.config.codebook_size + 1

    @property
    def vocab_size(self) -> int:
        """Number of tokens: K + 2."""
        return self.config.codebook_size + 2

    @property
    def max_constituents(self) -> int:
        """The largest number of codes in an encoded jet; the sequence also has a start and a stop token."""
        return self.preprocessing.max_constituents

    @property
    def fingerprint(self) -> str:
        """SHA-256 of configuration and weights, by which token stores name the tokenizer that made them."""
        return storage.fingerprint(self.config, self.model.state_dict())

    def log_cell_volumes(self) -> NDArray[np.float64]:
        """Logarithm of the volume of each code's cell, which turns probabilities of tokens into densities of jets.

        Returns
        -------
        array of float64, shape (K,)
            ln of volumes in (pT, eta_rel, phi_rel), in GeV rad^2; code k is token k + 1. Densities computed with
            them are uniform in pT and the angles within each cell.

        Raises
        ------
        InputError
            The tokenizer is a VQ-VAE, or untrained.
        """
        if not isinstance(self.model, Binning):
            raise InputError(
                "a VQ-VAE's codes have no cells of known volume in (pT, eta_rel, phi_rel); "
                "densities need a tokenizer of plain bins"
            )
        self.model.quantizer.search()  # raises if the bins are not placed
        return self.model.log_cell_volumes()

    def encode(
        self, jets: ak.Array, *, batch_jets: int = 32, progress: bool = False, device: str = "cpu"
    ) -> ak.Array:
        """Turn jets into token sequences.

        Jets of equal length are encoded together, so that nothing is computed on padding. A jet's tokens depend on
        the jet alone, not on the batch size or on the other jets: where float32 noise could change a code, the jet
        is encoded again, alone and in double precision.

        Parameters
        ----------
        jets : ak.Array
            Lists of records `pt` (GeV), `eta_rel`, `phi_rel` (rad); `Preprocessing.select` says which particles
            are kept.
        batch_jets : int
            Number of jets encoded together; it changes the speed only.
        progress : bool
            Show a progress bar.
        device : str
            Device on which the network runs.

        Returns
        -------
        ak.Array
            One jet per row: int32 tokens ``[start, codes in order of decreasing pT ..., stop]``; an empty jet is
            ``[start, stop]``.

        Raises
        ------
        InputError
            The jets are malformed or the tokenizer is untrained.
        """
        search = self.model.quantizer.search()
        features, lengths = self.preprocessing.features(jets)
        rows = torch.from_numpy(features)
        codes = np.empty(len(rows), dtype=np.int64)
        margin = np.empty(len(rows))
        with self._inference(device) as model, _bar(len(lengths), "encode", progress) as bar:
            for where, layout in _batches(lengths, batch_jets):
                latents = model.encoder(rows[where].to(device), layout)
                codes[where], margin[where] = search(latents)
                bar.update(layout.n_jets)

        first = np.cumsum(lengths) - lengths
        jet_of_row = np.repeat(np.arange(len(lengths)), lengths)
        unsettled = np.unique(jet_of_row[margin < NEAR_TIE * search.scale])
        if len(unsettled):
            encoder = copy.deepcopy(self.model.encoder).cpu().double().eval()
            for jet in unsettled:
                whole = slice(first[jet], first[jet] + lengths[jet])
                with torch.inference_mode():
                    latents = encoder(rows[whole].double(), Layout(1, int(lengths[jet])))
                codes[whole], _ = search(latents)

        tokens = np.full(len(codes) + 2 * len(lengths), self.start_token, dtype=np.int32)
        tokens[np.arange(len(codes)) + 2 * jet_of_row + 1] = codes + 1
        tokens[np.cumsum(lengths + 2) - 1] = self.stop_token
        return ak.unflatten(tokens, lengths + 2)

    def decode(
        self,
        tokens: ak.Array,
        *,
        batch_jets: int = 32,
        progress: bool = False,
        device: str = "cpu",
        sort: bool = True,
    ) -> ak.Array:
        """Turn token sequences into jets.

        A leading start token is optional. A sequence ends at its first stop token, and what follows is ignored; a
        sequence without a stop token (from a generator that reached its maximal length) is used whole. A jet
        without codes is empty.

        Parameters
        ----------
        tokens : ak.Array
            Ragged integers, one jet per row.
        batch_jets : int
            As for `encode`.
        progress : bool
            As for `encode`.
        device : str
            As for `encode`.
        sort : bool
            Order the particles by decreasing pT, as in all jets of the project. Otherwise they keep the order of
            their tokens.

        Returns
        -------
        ak.Array
            Lists of records `pt` (GeV), `eta_rel`, `phi_rel` (rad), float32.

        Raises
        ------
        InputError
            A token before the stop token is out of range, a start token lies within the jet, or the tokenizer is
            untrained.
        """
        codes, lengths = self._codes(tokens)
        self.model.quantizer.search()  # raises if the codebook is untrained
        features = np.empty((len(codes), 3), dtype=np.float32)
        with self._inference(device) as model, _bar(len(lengths), "decode", progress) as bar:
            for where, layout in _batches(lengths, batch_jets):
                vectors = model.quantizer.lookup(torch.from_numpy(codes[where]).to(device))
                features[where] = model.decoder(vectors, layout).cpu().numpy()
                bar.update(layout.n_jets)
        jets = self.preprocessing.jets(features, lengths)
        return jets[ak.argsort(jets.pt, axis=1, ascending=False, stable=True)] if sort else jets

    def reconstruct(self, jets: ak.Array, **options: int | bool | str) -> ak.Array:
        """Encode and decode jets, with the options of `decode`."""
        shared = {key: value for key, value in options.items() if key != "sort"}
        return self.decode(self.encode(jets, **shared), **options)  # type: ignore[arg-type]

    def _codes(self, tokens: ak.Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Codes 0..K-1 of all sequences in one array, and the number of codes in each sequence."""
        tokens = ak.Array(tokens)
        if len(tokens) == 0:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        if tokens.ndim != 2:
            raise InputError(f"tokens: expected a list of integers per jet, found {tokens.type}")
        counts = ak.to_numpy(ak.num(tokens)).astype(np.int64)
        flat = ak.to_numpy(ak.flatten(tokens))
        if flat.size and not np.issubdtype(flat.dtype, np.integer):
            raise InputError(f"tokens: expected integers, found {flat.dtype}")
        flat = flat.astype(np.int64)

        jet = np.repeat(np.arange(len(counts)), counts)
        position = np.arange(len(flat)) - np.repeat(np.cumsum(counts) - counts, counts)
        stops = np.cumsum(flat == self.stop_token)
        stops_before_jet = np.concatenate([[0], stops])[np.cumsum(counts) - counts]
        keep = stops == stops_before_jet[jet]
        keep &= (position > 0) | (flat != self.start_token)

        wrong = np.flatnonzero(keep & ((flat <= self.start_token) | (flat > self.stop_token)))
        if len(wrong):
            at = wrong[0]
            what = "a start token within the jet" if flat[at] == self.start_token else "out of range"
            raise InputError(
                f"tokens: {flat[at]} at position {position[at]} of jet {jet[at]} is {what}; "
                f"codes are 1..{self.config.codebook_size}, the stop token is {self.stop_token}"
            )
        return flat[keep] - 1, np.bincount(jet[keep], minlength=len(counts)).astype(np.int64)

    @contextmanager
    def _inference(self, device: str) -> Iterator[VQVAE | Binning]:
        """Yield the model on `device`, without dropout and gradients; afterwards, restore its device and mode."""
        model = self.model
        was_training, was_on = model.training, model.quantizer.codebook.device
        model.to(device).eval()
        try:
            with torch.inference_mode():
                yield model
        finally:
            model.to(was_on).train(was_training)


def _batches(lengths: NDArray[np.int64], batch_jets: int) -> Iterator[tuple[NDArray[np.int64], Layout]]:
    """Yield batches of jets of equal length: their rows in the list of all particles, and their layout.

    Empty jets have no rows and are in no batch.
    """
    if batch_jets < 1:
        raise InputError(f"batch_jets={batch_jets}: must be at least 1")
    first = np.cumsum(lengths) - lengths
    order = np.argsort(lengths, kind="stable")
    for same in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        length = int(lengths[same[0]]) if len(same) else 0
        if length == 0:
            continue
        for begin in range(0, len(same), batch_jets):
            batch = same[begin : begin + batch_jets]
            where = (first[batch][:, None] + np.arange(length)).ravel()
            yield where, Layout(len(batch), length)


def _bar(total: int, description: str, shown: bool) -> tqdm:
    return tqdm(total=total, desc=description, unit="jet", disable=not shown)
