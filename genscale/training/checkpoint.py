"""Checkpoints: everything that a run needs to continue as if it had never been killed.

A checkpoint is a folder ``checkpoints/step-<n>``, n being the steps done so far, branches included. It holds weights,
optimizer moments and random states as safetensors (loading runs no code), and ``state.json`` with the loop's own state,
the checksum of every file, and the checksum of these values themselves. Within a cooldown branch it holds the same of
the paused run, too, in files ``trunk-*``. It is written aside and renamed; the newest complete one is used, and the two
newest are kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from genscale.errors import InputError
from genscale.files import read_json, replacing, sha256, without_infinities, write_json
from genscale.models.files import save_tensors
from genscale.training.averaging import WeightAverage
from genscale.training.optimizer import FlatAdamW

_KEPT = 2

STATE = "state.json"
_PARTS = ("model", "optimizer", "average")


@dataclass(frozen=True)
class Snapshot:
    """Everything in memory on which a run's next steps depend: weights, moments, means, and random generators.

    Attributes
    ----------
    model : dict of str to Tensor
        Weights.
    optimizer : dict of str to Tensor
        Moments of the optimizer.
    average : dict of str to Tensor
        Averaged weights.
    random : dict of str to Tensor
        States of the random generators.
    """

    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    average: dict[str, Tensor]
    random: dict[str, Tensor]

    @staticmethod
    def of(model: nn.Module, optimizer: FlatAdamW, average: WeightAverage, device: torch.device) -> Snapshot:
        """Return the present state, whose tensors, except random states, change with the next step."""
        random = {"cpu": torch.get_rng_state()}
        if device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(device)
        return Snapshot(dict(model.state_dict()), optimizer.tensors(), average.tensors(), random)

    def copied(self) -> Snapshot:
        """Return a copy whose tensors do not change."""
        copies = ({name: t.detach().clone() for name, t in part.items()} for part in vars(self).values())
        return Snapshot(*copies)

    def put_back(
        self, model: nn.Module, optimizer: FlatAdamW, average: WeightAverage, device: torch.device
    ) -> None:
        """Return model, optimizer, average and random generators to this state."""
        model.load_state_dict(self.model)
        optimizer.load(self.optimizer)
        average.load(self.average)
        torch.set_rng_state(self.random["cpu"])
        if device.type == "cuda" and "cuda" in self.random:
            torch.cuda.set_rng_state(self.random["cuda"], device)


class Checkpoints:
    """The checkpoints of one run.

    With several processes, each saves its own random state; the main one saves the rest.
    """

    def __init__(self, run: Path, rank: int = 0) -> None:
        self.folder = run / "checkpoints"
        self.rank = rank

    def _aside(self, step: int) -> Path:
        return self.folder / f".step-{step:09d}.tmp"

    def save_random(self, step: int, now: Snapshot, trunk: Snapshot | None) -> None:
        """Save this process's random states; call in every process, before `save` in the main one."""
        aside = self._aside(step)
        with _removed_on_error(aside):
            aside.mkdir(parents=True, exist_ok=True)
            for prefix, snapshot in _named(now, trunk):
                save_tensors(snapshot.random, aside / f"{prefix}random-{self.rank}.safetensors")

    def save(self, step: int, now: Snapshot, trunk: Snapshot | None, state: dict[str, Any]) -> None:
        """Complete and publish the checkpoint after this many steps; only the two newest are kept.

        Parameters
        ----------
        step : int
            Steps done so far.
        now : Snapshot
            The present state.
        trunk : Snapshot or None
            Within a branch, the state of the paused run.
        state : dict
            Plain values of the loop.
        """
        aside = self._aside(step)
        with _removed_on_error(aside):
            for prefix, snapshot in _named(now, trunk):
                for part in _PARTS:
                    save_tensors(getattr(snapshot, part), aside / f"{prefix}{part}.safetensors")
            files = {file.name: sha256(file) for file in sorted(aside.glob("*.safetensors"))}
            values = {"step": step, "files": files, "state": state}
            write_json(aside / STATE, values | {"sha256": _digest(values)})
        final = self.folder / f"step-{step:09d}"
        if final.exists():  # damaged by a crash of the machine, otherwise it would have been resumed from
            shutil.rmtree(final)
        aside.rename(final)
        for old in sorted(self.folder.glob("step-*"))[:-_KEPT]:
            shutil.rmtree(old)

    def newest(self) -> Path | None:
        """Return the folder of the newest complete checkpoint; damaged ones are skipped with a warning."""
        for folder in sorted(self.folder.glob("step-*"), reverse=True):
            try:
                _verify(folder)
                return folder
            except InputError as error:
                warnings.warn(f"checkpoint skipped, the one before it is used: {error}", stacklevel=2)
        return None

    def restore(
        self,
        folder: Path,
        model: nn.Module,
        optimizer: FlatAdamW,
        average: WeightAverage,
        device: torch.device,
    ) -> tuple[dict[str, Any], Snapshot | None]:
        """Load a checkpoint into model, optimizer, average and random generators.

        Parameters
        ----------
        folder : Path
            Folder of the checkpoint.
        model : nn.Module
            The model.
        optimizer : FlatAdamW
            Its optimizer.
        average : WeightAverage
            Its averaged weights.
        device : torch.device
            Device of the random generator.

        Returns
        -------
        state : dict
            Plain values of the loop.
        trunk : Snapshot or None
            State of the paused run, if the checkpoint was made within a branch.

        Raises
        ------
        InputError
            The checkpoint was made by fewer processes, or does not fit the model.
        """
        if not (folder / f"random-{self.rank}.safetensors").is_file():
            raise InputError(f"{folder}: made by fewer processes than now run; resume with as many as before")
        try:
            self._load(folder, "").put_back(model, optimizer, average, device)
            paused = (folder / "trunk-model.safetensors").is_file()
            trunk = self._load(folder, "trunk-") if paused else None
        except (SafetensorError, RuntimeError, KeyError) as error:
            raise InputError(f"{folder}: does not fit this run's model: {error}") from error
        return read_json(folder / STATE)["state"], trunk

    def _load(self, folder: Path, prefix: str) -> Snapshot:
        names = (*_PARTS, f"random-{self.rank}")
        return Snapshot(*(load_file(folder / f"{prefix}{name}.safetensors") for name in names))

    def save_best(self, model: nn.Module) -> None:
        """Keep these weights as those of the lowest held-out loss so far."""
        with replacing(self._best) as aside:
            save_tensors(dict(model.state_dict()), aside)

    def restore_best(self, model: nn.Module) -> None:
        """Load the weights that `save_best` kept."""
        model.load_state_dict(load_file(self._best))

    @property
    def _best(self) -> Path:
        return self.folder / "best.safetensors"

    def clear_unfinished(self) -> None:
        """Remove files that a killed process left half-written."""
        for aside in self.folder.glob(".step-*.tmp"):
            shutil.rmtree(aside)


@contextlib.contextmanager
def _removed_on_error(folder: Path) -> Iterator[None]:
    """Remove a half-written folder if the disk is full: the files would keep it so."""
    try:
        yield
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _digest(values: dict[str, Any]) -> str:
    """Return the checksum of the values of ``state.json``, as they are when they have been written and read."""
    return hashlib.sha256(json.dumps(without_infinities(values), sort_keys=True).encode()).hexdigest()


def _verify(folder: Path) -> None:
    """Raise InputError unless a checkpoint is whole: its state, which older ones have no checksum of, and its files."""
    values = read_json(folder / STATE)
    if not isinstance(values, dict) or not isinstance(values.get("files"), dict):
        raise InputError(f"{folder / STATE}: damaged: it lists no files")
    digest = values.pop("sha256", None)
    if digest is not None and digest != _digest(values):
        raise InputError(f"{folder / STATE}: its values differ from their checksum")
    for name, expected in values["files"].items():
        file = folder / Path(name).name
        if not file.is_file() or sha256(file) != expected:
            raise InputError(f"{file}: checksum differs from {STATE}")


def _named(now: Snapshot, trunk: Snapshot | None) -> list[tuple[str, Snapshot]]:
    """Return the snapshots of a checkpoint with the prefixes of their files."""
    return [("", now)] if trunk is None else [("", now), ("trunk-", trunk)]
