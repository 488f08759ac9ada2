"""Checkpoints: everything a run needs to go on as if it had never been killed.

A checkpoint is a folder ``checkpoints/step-<n>`` with weights, optimizer moments and random states as
safetensors (loading runs no code) and ``state.json`` with the loop's own state and the checksum of every
file. It is written aside and renamed; the newest that is whole is used, and the two newest are kept.
"""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from genscale.errors import InputError
from genscale.files import read_json, sha256, write_json
from genscale.training.averaging import WeightAverage
from genscale.training.optimizer import FlatAdamW

_KEPT = 2


def random_state(device: torch.device) -> dict[str, Tensor]:
    """State of the random generators that training draws from."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    """Put back what `random_state` took."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors (on any device, possibly shared) as safetensors."""
    save_file({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, path)


class Checkpoints:
    """The checkpoints of one run.

    With several processes, each saves its own random state; the main one saves the rest.
    """

    def __init__(self, run: Path, rank: int = 0) -> None:
        self.folder = run / "checkpoints"
        self.rank = rank

    def _aside(self, step: int) -> Path:
        return self.folder / f".step-{step:09d}.tmp"

    def save_random(self, step: int, device: torch.device) -> None:
        """Save this process's random state; call in every process, before `save` in the main one."""
        aside = self._aside(step)
        aside.mkdir(parents=True, exist_ok=True)
        save_tensors(random_state(device), aside / f"random-{self.rank}.safetensors")

    def save(
        self,
        step: int,
        model: nn.Module,
        optimizer: FlatAdamW,
        average: WeightAverage,
        state: dict[str, Any],
    ) -> None:
        """Complete and publish the checkpoint of this step; older ones than the two newest go."""
        aside = self._aside(step)
        save_tensors(dict(model.state_dict()), aside / "model.safetensors")
        save_tensors(optimizer.tensors(), aside / "optimizer.safetensors")
        save_tensors(average.tensors(), aside / "average.safetensors")
        files = {file.name: sha256(file) for file in sorted(aside.glob("*.safetensors"))}
        write_json(aside / "state.json", {"step": step, "files": files, "state": state})
        final = self.folder / f"step-{step:09d}"
        if final.exists():  # left damaged by a crash of the machine, or it would have been resumed from
            shutil.rmtree(final)
        aside.rename(final)
        for old in sorted(self.folder.glob("step-*"))[:-_KEPT]:
            shutil.rmtree(old)

    def newest(self) -> Path | None:
        """Folder of the newest checkpoint that is whole; damaged ones are skipped with a warning."""
        for folder in sorted(self.folder.glob("step-*"), reverse=True):
            try:
                files = read_json(folder / "state.json")["files"]
                for name, digest in files.items():
                    if not (folder / name).is_file() or sha256(folder / name) != digest:
                        raise InputError(f"{folder / name}: checksum differs from state.json")
                return folder
            except (InputError, KeyError, TypeError) as error:
                warnings.warn(f"checkpoint skipped, the one before it is used: {error}", stacklevel=2)
        return None

    def restore(
        self,
        folder: Path,
        model: nn.Module,
        optimizer: FlatAdamW,
        average: WeightAverage,
        device: torch.device,
    ) -> dict[str, Any]:
        """Load a checkpoint into model, optimizer, average and random generators; return the loop's state."""
        random = folder / f"random-{self.rank}.safetensors"
        if not random.is_file():
            raise InputError(f"{folder}: made by fewer processes than now run; resume with as many as before")
        try:
            model.load_state_dict(load_file(folder / "model.safetensors"))
            optimizer.load(load_file(folder / "optimizer.safetensors"))
            average.load(load_file(folder / "average.safetensors"))
            restore_random_state(load_file(random), device)
        except (SafetensorError, RuntimeError, KeyError) as error:
            raise InputError(f"{folder}: does not fit this run's model: {error}") from error
        return read_json(folder / "state.json")["state"]

    def save_best(self, model: nn.Module) -> None:
        """Keep these weights as those of the lowest held-out loss so far."""
        self.folder.mkdir(parents=True, exist_ok=True)
        aside = self.folder / ".best.tmp"
        save_tensors(dict(model.state_dict()), aside)
        aside.replace(self._best)

    def restore_best(self, model: nn.Module) -> None:
        """Load what `save_best` kept."""
        model.load_state_dict(load_file(self._best))

    @property
    def _best(self) -> Path:
        return self.folder / "best.safetensors"

    def clear_unfinished(self) -> None:
        """Remove what a killed process left half-written."""
        for aside in self.folder.glob(".step-*.tmp"):
            shutil.rmtree(aside)
