"""Class probabilities of the jets of a store, by a trained tagger; rejection and calibration are measured on them."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from genscale.data.batching import FeatureRows, by_length
from genscale.data.features import resolve_features
from genscale.data.schema import CLASSES
from genscale.data.store import JetStore, require_classes
from genscale.errors import InputError
from genscale.models.tagger import Tagger
from genscale.records import git_commit, package_versions
from genscale.training.tagger import load_tagger

PREDICTION_VERSION = 1

#: Number of jets read at a time; sorted by length, they form batches with little padding.
CHUNK_JETS = 8192

BATCH_JETS = 512


@dataclass(frozen=True, eq=False)
class Predictions:
    """A tagger's class probabilities of the jets of one store.

    Attributes
    ----------
    probabilities : array of float32, shape (n_jets, n_classes)
        Class probabilities; rows sum to one. Small probabilities keep their relative precision, so that 1 - p of a
        probable class is best computed as the sum of the others.
    labels : array of int16, shape (n_jets,)
        True classes, as positions in ``classes``.
    rows : array of int64, shape (n_jets,)
        Row of each jet in its store.
    classes : tuple of str
        Names of the columns of ``probabilities``.
    provenance : dict
        Run, checksum of its weights, store with its fingerprint and split, features, versions; ``loss`` in nats per
        jet, its standard error, and ``accuracy``.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    rows: np.ndarray
    classes: tuple[str, ...]
    provenance: dict[str, Any]


def predict_store(
    run: Path, store: Path, out: Path, *, device: torch.device | str = "cpu", progress: bool = True
) -> Predictions:
    """Write the class probabilities of the jets of a store as ``.npz``; the file appears only when it is complete.

    Parameters
    ----------
    run : Path
        Folder of a finished tagger run.
    store : Path
        Jet store with labels, usually the test split.
    out : Path
        Output file, with the arrays of `Predictions` under their names (``provenance`` as JSON).
    device : torch.device or str
        Device on which the network runs.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Predictions

    Raises
    ------
    InputError
        The run is not a finished tagger, the store has no labels or lacks a column, or ``out`` exists.
    """
    if out.suffix != ".npz":
        raise InputError(f"{out}: predictions are written as .npz; give a name that ends so")
    if out.exists():
        raise InputError(f"{out}: exists already; choose another name or remove it")
    model, description = load_tagger(run)
    jets = JetStore.open(store)
    classes = tuple(description.get("classes", CLASSES))
    require_classes(jets, classes, f"the tagger {run}")
    features = resolve_features(description["features"])
    rows = FeatureRows(jets, features, int(description["max_particles"]))
    log_p = _log_probabilities(model.to(device), rows, torch.device(device), progress)
    labels = jets.labels()
    losses = -log_p[np.arange(len(labels)), labels]
    provenance = {
        "version": PREDICTION_VERSION,
        "run": run.resolve().name,
        "weights_sha256": description["sha256"],
        "store": store.resolve().name,
        "store_fingerprint": jets.fingerprint,
        "split": jets.manifest.meta.get("split"),
        "features": description["features"],
        "max_particles": description["max_particles"],
        "loss": float(losses.mean()),
        "loss_error": float(losses.std(ddof=1) / np.sqrt(len(losses))) if len(losses) > 1 else None,
        "accuracy": float((log_p.argmax(1) == labels).mean()),
        "device": torch.device(device).type,
        "versions": package_versions(),
        "git_commit": git_commit(),
    }
    found = Predictions(
        np.exp(log_p).astype(np.float32), labels.astype(np.int16), np.arange(len(labels)), classes, provenance
    )
    _save(found, out)
    return found


def load_predictions(file: Path) -> Predictions:
    """Read a file of `predict_store`; raises InputError if it is missing, invalid or of a newer version."""
    if not file.is_file():
        raise InputError(f"{file}: no such file; genscale predict makes it")
    try:
        with np.load(file, allow_pickle=False) as stored:
            provenance = json.loads(str(stored["provenance"]))
            if provenance["version"] > PREDICTION_VERSION:
                raise InputError(
                    f"{file}: predictions of version {provenance['version']}, this genscale reads {PREDICTION_VERSION}"
                )
            return Predictions(
                stored["probabilities"],
                stored["labels"],
                stored["rows"],
                tuple(stored["classes"].tolist()),
                provenance,
            )
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file}: not a file of predictions ({error})") from error


def _log_probabilities(model: Tagger, rows: FeatureRows, device: torch.device, progress: bool) -> np.ndarray:
    """Return ln of class probabilities in double precision, shape (n_jets, n_classes), in the order of the store."""
    found = np.empty((len(rows), model.config.n_classes))
    with (
        torch.inference_mode(),
        tqdm(total=len(rows), unit="jet", unit_scale=True, desc="predict", disable=not progress) as bar,
    ):
        for low in range(0, len(rows), CHUNK_JETS):
            places = np.arange(low, min(low + CHUNK_JETS, len(rows)))
            for jets, chosen in by_length(rows, places, BATCH_JETS):
                batch = jets.to(device)
                logits = model(batch.inputs, batch.packing).double()
                found[low + chosen] = torch.log_softmax(logits, dim=1).cpu().numpy()
                bar.update(len(chosen))
    return found


def _save(found: Predictions, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        with aside.open("wb") as file:
            np.savez(
                file,
                probabilities=found.probabilities,
                labels=found.labels,
                rows=found.rows,
                classes=np.array(found.classes),
                provenance=np.array(json.dumps(found.provenance)),
            )
            file.flush()
            os.fsync(file.fileno())
        aside.replace(out)
    finally:
        aside.unlink(missing_ok=True)
