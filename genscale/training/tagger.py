"""Training a tagger on a jet store."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from genscale.data.batching import Batch, FeatureRows, held_out
from genscale.data.features import resolve_features
from genscale.data.schema import CLASSES
from genscale.data.standardisation import feature_statistics
from genscale.data.store import JetStore, require_same_classes
from genscale.errors import InputError, nearest, require
from genscale.models.counting import count_parameters, tagger_flops
from genscale.models.files import check_weights, load_network, save_network
from genscale.models.ladder import tagger_learning_rate
from genscale.models.tagger import PRESETS, Tagger, TaggerConfig
from genscale.training.task import Task, TrainingConfig, mean_loss, require_splits


@dataclass(frozen=True)
class TaggerRun:
    """One tagger training.

    Attributes
    ----------
    jets : str
        Jet store of the training jets.
    validation : str
        Jet store of the held-out jets.
    d_model : int
        Width of the set transformer.
    preset : str
        Set transformer of "vigl" (heads of width 64 and GELU) or of "uslu" (heads of width 8 and SwiGLU).
    features : str
        Name of a set of particle features (docs/data.md).
    max_particles : int
        Number of leading particles by pT that the model sees.
    dropout : float
        Probability of dropout. With 0 a small tagger trains several times as fast on a CPU, because only blocks
        without dropout are fused (`genscale.models.fused`).
    training : TrainingConfig
        A learning rate of 0, the default, becomes that of the width
        (`genscale.models.ladder.tagger_learning_rate`).
    """

    jets: str = ""
    validation: str = ""
    d_model: int = 32
    preset: str = "vigl"
    features: str = "full21"
    max_particles: int = 128
    dropout: float = 0.01
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(batch_jets=128, learning_rate=0.0)
    )

    def __post_init__(self) -> None:
        require(self.d_model >= 1, f"d_model: {self.d_model} is not positive")
        if self.training.learning_rate == 0:
            rate = tagger_learning_rate(self.d_model)
            object.__setattr__(self, "training", replace(self.training, learning_rate=rate))
        require(self.max_particles >= 1, f"max_particles: {self.max_particles} is not positive")
        require(0 <= self.dropout < 1, f"dropout: {self.dropout} is not in [0, 1)")
        require(
            self.preset in PRESETS,
            f"preset: {self.preset!r} is not one of {', '.join(PRESETS)}{nearest(self.preset, list(PRESETS))}",
        )
        heads = self.shape(1).n_heads
        require(
            self.d_model % heads == 0,
            f"d_model: {self.d_model} is not a multiple of its {heads} attention heads",
        )

    def shape(self, n_features: int, n_classes: int = len(CLASSES)) -> TaggerConfig:
        """Shape of the network."""
        return TaggerConfig(self.d_model, n_features, n_classes, dropout=self.dropout, **PRESETS[self.preset])


class TaggerTask(Task):
    """A tagger, its features and its cross-entropy, for `genscale.training.loop.train`."""

    name: Literal["tagger"] = "tagger"
    terms: Literal["jets"] = "jets"
    data_keys = ("jets", "validation")

    def __init__(self, run: TaggerRun) -> None:
        self.config, self.size = run, f"d{run.d_model}"
        for key in self.data_keys:
            if not getattr(run, key):
                raise InputError(f"{key}: missing; give a jet store (genscale simulate or convert makes one)")
        features = resolve_features(run.features)
        train, validation = JetStore.open(run.jets), JetStore.open(run.validation)
        require_splits(train, validation)
        self.data = {"train": train.fingerprint, "validation": validation.fingerprint}
        self.train_rows = FeatureRows(train, features, run.max_particles)
        self.validation_rows = FeatureRows(validation, features, run.max_particles)
        torch.manual_seed(run.training.seed)
        self.classes = require_same_classes(train, validation)
        tagger = Tagger(run.shape(len(features), len(self.classes)))
        tagger.standardise_by(*feature_statistics(self.train_rows))
        self.model: nn.Module = tagger
        self._count = count_parameters(self.model)

    def parameters(self) -> dict[str, int]:
        """Parameters by part, and their total."""
        return self._count.as_dict()

    def flops(self, jets: int, tokens: int) -> float:
        """Counted training FLOPs of seeing this many jets and particles."""
        return tagger_flops(self.model.config, jets, tokens)  # type: ignore[arg-type]

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy in nats, summed over jets."""
        return F.cross_entropy(model(batch.inputs, batch.packing).float(), batch.targets, reduction="sum")

    def evaluate(
        self, model: nn.Module, accelerator: Accelerator, config: TrainingConfig
    ) -> dict[str, float]:
        """Nats per jet with its error, and the share of jets whose likeliest class is right."""

        def batches() -> Any:
            return held_out(
                self.validation_rows, config.validation_jets, 4 * config.batch_jets,
                accelerator.process_index, accelerator.num_processes,
            )  # fmt: skip

        right = torch.zeros((), device=accelerator.device)

        def score(batch: Batch) -> tuple[Tensor, Tensor]:
            logits = model(batch.inputs, batch.packing).float()
            right.add_((logits.argmax(1) == batch.targets).sum())
            losses = F.cross_entropy(logits, batch.targets, reduction="none")
            return losses, torch.ones_like(losses)

        mean, error, _ = mean_loss(accelerator, batches(), score)
        n = min(config.validation_jets or len(self.validation_rows), len(self.validation_rows))
        return {"loss": mean, "loss_error": error, "accuracy": float(accelerator.reduce(right, "sum")) / n}

    def save(self, model: nn.Module, run: Path) -> None:
        """Write weights and shape, and the features that they and the statistics among them are of."""
        inputs = {
            "classes": list(self.classes),
            "features": self.config.features,
            "feature_names": self.train_rows.features,
            "max_particles": self.config.max_particles,
        }
        save_network(run, self.name, model, inputs)

    def check_saved(self, run: Path) -> None:
        """Raise InputError unless the weights are there and whole."""
        check_weights(run)


def load_tagger(run: Path) -> tuple[Tagger, dict[str, Any]]:
    """Read the tagger of a finished run, and its description.

    Parameters
    ----------
    run : Path
        Folder of the run.

    Returns
    -------
    model : Tagger
    description : dict
        Contents of ``model.json``.

    Raises
    ------
    InputError
        As for `load_network`; or the weights and the statistics of the inputs belong to other features than those that
        ``model.json`` names.
    """
    model, description = load_network(run, "tagger", Tagger, TaggerConfig)
    named, kept = resolve_features(description["features"]), tuple(description["feature_names"])
    if named != kept:
        differ = ", ".join(sorted({*named} ^ {*kept})) or "their order"
        raise InputError(
            f"{run}/model.json: the statistics of the inputs are not those of the features {description['features']!r} "
            f"(different: {differ}); train the tagger again with these features"
        )
    return model, description
