"""Train a family of tokenizers under equal conditions: kinds of quantizers times sizes of codebooks."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from genscale.errors import nearest, require
from genscale.files import write_json
from genscale.training.loop import train
from genscale.training.task import TrainingConfig
from genscale.training.tokenizer import COST_FILE, TokenizerRun, TokenizerTask, fit_binning
from tokenizer import BinningConfig, VQVAEConfig
from tokenizer.config import balanced_levels

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


def _train(
    model: VQVAEConfig, training: TrainingConfig, jets: Path, validation: Path, out: Path, progress: bool
) -> None:
    fresh = not out.exists()
    start = time.process_time()
    run = TokenizerRun(str(jets), str(validation), model, training)
    record = train(TokenizerTask(run), training, out, progress=progress)
    if fresh or not (out / COST_FILE).exists():
        seconds = time.process_time() - start if fresh else None
        write_json(out / COST_FILE, {"jets_seen": record.jets_seen, "cpu_seconds": seconds})
