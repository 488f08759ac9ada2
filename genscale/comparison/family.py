"""Train a family of tokenizers under equal conditions: kinds of quantizers times sizes of codebooks."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from tqdm import tqdm

from genscale.config import nearest, require
from genscale.data.constituents import COLUMNS, constituents
from genscale.data.order import JetOrder
from genscale.data.store import JetStore
from genscale.errors import InputError
from genscale.files import write_json
from genscale.training.task import TrainingConfig, refuse_test_split
from tokenizer import BinningConfig, Tokenizer, VQVAEConfig
from tokenizer.binning import Binning
from tokenizer.config import balanced_levels

#: File with the cost of a training, beside the tokenizer.
COST_FILE: Final = "cost.json"

#: Changes of the family's common network for each kind; bins have no network.
NETWORKS: Final[dict[str, dict[str, Any]]] = {
    "vq": {},
    "vq-unweighted": {"pt_weight_power": 0.0},
    "vq-unconditional": {"conditional": False},
    "residual": {"quantizer": "residual"},
    "fsq": {"quantizer": "fsq", "latent_dim": 3},
}
BINS: Final = {"bins-quantile": "quantile", "bins-uniform": "uniform"}
KINDS: Final = (*NETWORKS, *BINS)


@dataclass(frozen=True)
class FamilyConfig:
    """The tokenizers of a family, which share network and training.

    Attributes
    ----------
    kinds : list of str
        ``vq`` (conditional on the jet), ``vq-unweighted`` (equal weights of all particles in its loss),
        ``vq-unconditional``, ``residual``, ``fsq``, ``bins-quantile``, ``bins-uniform``.
    codebook_sizes : list of int
        K of each kind, powers of two; bins and levels are the balanced ones.
    seeds : list of int
        Seeds of weights and order of jets. The first is used for all, the others for ``repeated_sizes``.
    repeated_sizes : list of int
        Codebook sizes that are trained with every seed, to measure the spread.
    bins_jets : int
        Jets on which bins are placed.
    pt_range_gev : list of two floats
        Outer edges of the bins in pT.
    model : VQVAEConfig
        Common network; ``codebook_size``, ``quantizer``, ``conditional`` and ``latent_dim`` are set by the kinds.
    training : TrainingConfig
    """

    kinds: list[str] = field(default_factory=lambda: [kind for kind in KINDS if kind != "vq-unweighted"])
    codebook_sizes: list[int] = field(default_factory=lambda: [256, 512, 1024, 2048, 4096, 8192])
    seeds: list[int] = field(default_factory=lambda: [1, 2])
    repeated_sizes: list[int] = field(default_factory=lambda: [512])
    bins_jets: int = 20_000
    pt_range_gev: list[float] = field(default_factory=lambda: [0.05, 1000.0])
    model: VQVAEConfig = field(default_factory=VQVAEConfig)
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(jets=64_000, batch_jets=64, evaluations=2)
    )

    def __post_init__(self) -> None:
        for kind in self.kinds:
            require(kind in KINDS, f"kinds: {kind!r} is not one of {', '.join(KINDS)}{nearest(kind, KINDS)}")
        require(
            bool(self.kinds and self.codebook_sizes and self.seeds), "kinds, codebook_sizes, seeds: one each"
        )
        require(self.bins_jets >= 1, f"bins_jets: {self.bins_jets} is not at least 1")

    def members(self) -> Iterator[tuple[str, VQVAEConfig | BinningConfig, int]]:
        """Yield name, configuration and seed of each tokenizer, in order of increasing codebooks."""
        for size in self.codebook_sizes:
            for kind in self.kinds:
                for seed in self.seeds if size in self.repeated_sizes else self.seeds[:1]:
                    if kind in BINS:
                        if seed == self.seeds[0]:  # bins depend on the seed only through the choice of jets
                            yield f"{kind}-{size}", self._bins(kind, size), seed
                        continue
                    model = dataclasses.replace(self.model, codebook_size=size, **NETWORKS[kind])
                    yield (
                        (f"{kind}-{size}" if seed == self.seeds[0] else f"{kind}-{size}-seed{seed}"),
                        model,
                        seed,
                    )

    def _bins(self, kind: str, size: int) -> BinningConfig:
        return BinningConfig(
            bins=balanced_levels(size, 3),
            spacing=BINS[kind],
            pt_range_gev=self.pt_range_gev,
            preprocessing=self.model.preprocessing,
        )


def train_family(
    config: FamilyConfig, jets: Path, validation: Path, out: Path, *, progress: bool = True
) -> list[Path]:
    """Train all tokenizers of a family into folders of ``out``; finished ones are left as they are.

    Parameters
    ----------
    config : FamilyConfig
        The family.
    jets : Path
        Jet store to train on.
    validation : Path
        Jet store of held-out jets.
    out : Path
        Folder of the tokenizers.
    progress : bool
        Show progress bars.

    Returns
    -------
    list of Path
        Folders of the tokenizers. Each holds ``cost.json``, with the jets seen and, if the training was not
        interrupted, the CPU seconds of this process.

    Raises
    ------
    InputError
        A store cannot be used, or a folder holds a tokenizer of another configuration.
    """
    folders = []
    members = list(config.members())
    for name, model, seed in tqdm(members, desc="tokenizers", unit="tokenizer", disable=not progress):
        folder = out / name
        if isinstance(model, BinningConfig):
            fit_binning(model, jets, folder, n_jets=config.bins_jets, seed=seed)
        else:
            _train(model, dataclasses.replace(config.training, seed=seed), jets, validation, folder, progress)
        folders.append(folder)
    return folders


def fit_binning(config: BinningConfig, jets: Path, out: Path, *, n_jets: int = 0, seed: int = 1) -> Tokenizer:
    """Place bins on jets of a store and write the tokenizer; an existing one is checked and kept.

    Parameters
    ----------
    config : BinningConfig
        The bins.
    jets : Path
        Jet store.
    out : Path
        Folder of the tokenizer.
    n_jets : int
        Number of jets on which the bins are placed, chosen by ``seed``; 0 means all.
    seed : int
        Seed of this choice.

    Returns
    -------
    Tokenizer

    Raises
    ------
    InputError
        The folder holds something else, or the bins cannot be placed on these jets.
    """
    if (out / "tokenizer.json").exists():
        found = Tokenizer.load(out)
        if found.config != config:
            raise InputError(f"{out}: holds a tokenizer of another configuration; choose another folder")
        return found
    store = JetStore.open(jets)
    refuse_test_split(store)
    wanted = min(n_jets or len(store), len(store))
    start = time.process_time()
    rows = np.sort(JetOrder(len(store), wanted, seed)[0:wanted])
    model = Binning(config)
    model.fit(config.preprocessing.features(constituents(store.read(rows, columns=COLUMNS)))[0])
    write_json(out / COST_FILE, {"jets_seen": wanted, "cpu_seconds": time.process_time() - start})
    tokenizer = Tokenizer(model)
    tokenizer.save(out)
    return tokenizer


def _train(
    model: VQVAEConfig, training: TrainingConfig, jets: Path, validation: Path, out: Path, progress: bool
) -> None:
    from genscale.training.loop import train
    from genscale.training.tokenizer import TokenizerRun, TokenizerTask

    fresh = not out.exists()
    start = time.process_time()
    run = TokenizerRun(str(jets), str(validation), model, training)
    record = train(TokenizerTask(run), training, out, progress=progress)
    if fresh or not (out / COST_FILE).exists():
        seconds = time.process_time() - start if fresh else None
        write_json(out / COST_FILE, {"jets_seen": record.jets_seen, "cpu_seconds": seconds})
