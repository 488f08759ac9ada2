"""Trained networks on disk: weights as safetensors, configuration and provenance as JSON; loading runs no code."""

from __future__ import annotations

import errno
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_model, save_file
from torch import Tensor, nn

from genscale.errors import InputError
from genscale.files import read_json, replacing, sha256, write_json

#: Version of each kind of model, and why older ones cannot be used.
MODEL_VERSIONS: Final = {
    "generator": (1, ""),
    "tagger": (2, "; taggers before version 2 did not standardise their inputs: train it again"),
}

ModelT = TypeVar("ModelT", bound=nn.Module)


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors (on any device, possibly shared) as safetensors; raises OSError if the disk is full."""
    try:
        save_file({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, path)
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error), str(path)) from error


def save_network(run: Path, kind: str, model: nn.Module, provenance: dict[str, Any]) -> None:
    """Write ``model.safetensors`` and then ``model.json``, without which the weights are not read.

    Parameters
    ----------
    run : Path
        Folder of the run.
    kind : str
        "generator" or "tagger".
    model : nn.Module
        A model whose configuration is a dataclass, ``model.config``.
    provenance : dict
        What users of the model must match: the tokenizer's fingerprint, the features.
    """
    weights = run / "model.safetensors"
    with replacing(weights) as aside:
        save_tensors(dict(model.state_dict()), aside)
    shape = asdict(model.config)  # type: ignore[call-overload]
    write_json(
        run / "model.json",
        {
            "version": MODEL_VERSIONS[kind][0],
            "kind": kind,
            "shape": shape,
            "sha256": sha256(weights),
            **provenance,
        },
    )


def check_weights(run: Path) -> None:
    """Raise InputError unless the weights of a run are there, with the checksum that ``model.json`` has."""
    weights = run / "model.safetensors"
    expected = read_json(run / "model.json").get("sha256")
    if not weights.is_file() or sha256(weights) != expected:
        raise InputError(f"{weights}: missing or damaged: its checksum is not the one in model.json")


def load_network(
    run: Path, kind: str, model_cls: type[ModelT], config_cls: type
) -> tuple[ModelT, dict[str, Any]]:
    """Read a network and its provenance.

    Parameters
    ----------
    run : Path
        Folder of the run.
    kind : str
        "generator" or "tagger".
    model_cls : type
        Class of the model, made from its configuration.
    config_cls : type
        Dataclass of the configuration.

    Returns
    -------
    model : nn.Module
        The network in evaluation mode.
    provenance : dict

    Raises
    ------
    InputError
        There is no finished run in the folder, the model is of another kind, or its weights are damaged.
    """
    if not (run / "model.json").is_file():
        raise InputError(f"{run}: no trained {kind} here (model.json is missing; is the run finished?)")
    description = read_json(run / "model.json")
    version, reason = MODEL_VERSIONS[kind]
    if description.get("version") != version or description.get("kind") != kind:
        raise InputError(
            f"{run}/model.json: a {description.get('kind')} of version {description.get('version')}, "
            f"expected a {kind} of version {version}{reason * (description.get('kind') == kind)}"
        )
    check_weights(run)
    weights = run / "model.safetensors"
    shape = description["shape"]
    keys = {field.name for field in fields(config_cls)}
    if set(shape) != keys:
        raise InputError(
            f"{run}/model.json: the shape must name {', '.join(sorted(keys))}; {', '.join(sorted(keys ^ set(shape)))} "
            "missing or unknown: written by another version of genscale"
        )
    model = model_cls(config_cls(**shape))
    try:
        load_model(model, str(weights))
    except (SafetensorError, RuntimeError) as error:
        raise InputError(f"{weights}: does not fit model.json: {error}") from error
    return model.eval(), description
