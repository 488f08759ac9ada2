"""A tokenizer on disk: a JSON file that describes the tokenizer, and a file of weights that it names."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tokenizer.config import BinningConfig, VQVAEConfig
from tokenizer.errors import InputError

FORMAT = "genscale tokenizer"
VERSION = 2
DESCRIPTION = "tokenizer.json"

Config = VQVAEConfig | BinningConfig
KINDS: dict[str, type[Config]] = {"vqvae": VQVAEConfig, "binning": BinningConfig}

#: Names that the file of weights may have: no path leads out of the folder of the tokenizer.
_WEIGHTS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

#: Keys that version 1 did not have, with the values that reproduce version 1. Keys with these values do not enter the
#: fingerprint, so that a tokenizer written by version 1 keeps its fingerprint, and its token stores stay valid.
ADDED_SINCE_VERSION_1 = {"quantizer": "vq", "levels": [], "conditional": True, "pt_weight_power": 0.0}


def fingerprint(config: Config, weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of configuration and weights, independent of file format, device and order."""
    values = config.as_dict()
    for key, meaning_before in ADDED_SINCE_VERSION_1.items():
        if values.get(key) == meaning_before:
            del values[key]
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write(folder: Path, config: Config, weights: Mapping[str, Tensor]) -> None:
    """Write a tokenizer into `folder`.

    The name of the weights' file contains their fingerprint. Old and new weights can therefore lie side by side, and
    replacing the JSON file, which names the weights, replaces the tokenizer in one step.
    """
    name = fingerprint(config, weights)
    weights_path = folder / f"weights-{name[:12]}.safetensors"
    description = {
        "format": FORMAT,
        "version": VERSION,
        "kind": next(kind for kind, cls in KINDS.items() if isinstance(config, cls)),
        "fingerprint": name,
        "weights": weights_path.name,
        "config": config.as_dict(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.detach().cpu().contiguous() for key, value in weights.items()}
    try:
        save_file(tensors, _aside(weights_path))
        os.replace(_aside(weights_path), weights_path)
        _aside(folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
        os.replace(_aside(folder / DESCRIPTION), folder / DESCRIPTION)
    except (SafetensorError, OSError) as error:  # a full disk, which is reported without a name
        reason = getattr(error, "strerror", None) or str(error)
        raise OSError(getattr(error, "errno", errno.EIO), reason, str(folder)) from error
    finally:
        for path in (weights_path, folder / DESCRIPTION):
            _aside(path).unlink(missing_ok=True)
    for other in folder.glob("weights-*.safetensors"):
        if other != weights_path:
            other.unlink()


def read(folder: Path) -> tuple[Config, dict[str, Tensor]]:
    """Read what `write` wrote.

    Parameters
    ----------
    folder : Path
        Folder of the tokenizer.

    Returns
    -------
    config : VQVAEConfig or BinningConfig
    weights : dict of str to Tensor

    Raises
    ------
    InputError
        Files are missing, damaged, of a newer version, or do not belong together.
    """
    path = folder / DESCRIPTION
    try:
        description = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{folder}: not a tokenizer folder, {DESCRIPTION} is missing") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not JSON: {error}") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise InputError(f"{path}: not the description of a tokenizer (its format must be {FORMAT!r})")
    if description.get("version") not in range(1, VERSION + 1):
        raise InputError(
            f"{path}: format version {description.get('version')}, this program reads versions up to {VERSION}; "
            "update genscale to read it"
        )
    kind = description.get("kind", "vqvae")  # the only kind of version 1
    if kind not in KINDS:
        raise InputError(f"{path}: kind {kind!r} is not known; it must be one of {', '.join(KINDS)}")
    try:
        name = description["weights"]
        if not isinstance(name, str) or not _WEIGHTS.fullmatch(name):
            raise InputError(f"weights: {name!r} is not the name of a file in this folder")
        weights_path = folder / name
        config: Config = KINDS[kind].from_dict(description["config"])
        expected = description["fingerprint"]
    except KeyError as error:
        raise InputError(f"{path}: key {error} is missing") from None
    except (InputError, TypeError) as error:
        raise InputError(f"{path}: {error}") from error
    try:
        weights = load_file(weights_path)
    except FileNotFoundError:
        raise InputError(f"{weights_path}: missing, though {DESCRIPTION} names it") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{weights_path}: not a complete safetensors file: {error}") from error
    found = fingerprint(config, weights)
    if found != expected:
        raise InputError(
            f"{folder}: weights and configuration have fingerprint {found[:12]}, {DESCRIPTION} "
            f"says {str(expected)[:12]}: one of them was changed or damaged"
        )
    return config, weights


def _aside(path: Path) -> Path:
    return path.with_name(path.name + ".partial")
