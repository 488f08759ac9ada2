"""Strict configurations: frozen dataclasses filled from YAML and dotted overrides.

A YAML file sets some keys of a dataclass, ``key.sub=value`` arguments set more, and the others have the defaults of the
dataclass. An unknown key, a value of the wrong type or an impossible value raises an error at once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from genscale.errors import InputError, nearest

T = TypeVar("T")


def load_config(cls: type[T], file: Path | None = None, overrides: Sequence[str] = ()) -> T:
    """Build a configuration from its defaults, a YAML file and dotted overrides, in this order.

    Parameters
    ----------
    cls : type
        A dataclass; nested dataclasses correspond to nested YAML mappings.
    file : Path, optional
        YAML file; keys that it does not contain keep their defaults.
    overrides : sequence of str
        ``key.sub=value`` as on the command line.

    Returns
    -------
    cls
        An instance of the dataclass.

    Raises
    ------
    InputError
        The file is missing or malformed, a key is unknown (the message names the nearest one), a value has the wrong
        type, or the dataclass refuses it.
    """
    layers: list[tuple[str, Any]] = []
    if file is not None:
        layers.append((str(file), _read_yaml(file)))
    for text in overrides:
        if "=" not in text:
            raise InputError(f"override {text!r}: expected key=value, for example training.seed=2")
        try:
            layers.append((text, OmegaConf.from_dotlist([text])))
        except (OmegaConfBaseException, ValueError) as error:
            raise InputError(f"override {text!r}: {error}") from error
    return _merge(cls, layers)


def from_mapping(cls: type[T], values: Mapping[str, Any], source: str) -> T:
    """Build a configuration from a plain mapping, as strictly as from a file; ``source`` names it in errors."""
    return _merge(cls, [(source, OmegaConf.create(dict(values)))])


def parse_values(option: str, texts: Sequence[str] | None) -> dict[str, Any]:
    """Parse the ``key=value`` texts of a command-line option; numbers and booleans are converted."""
    for text in texts or ():
        if "=" not in text:
            raise InputError(f"{option} {text}: expected key=value")
    plain = OmegaConf.to_container(OmegaConf.from_dotlist(list(texts or ())))
    return {str(key): value for key, value in plain.items()} if isinstance(plain, dict) else {}


def to_mapping(config: Any) -> dict[str, Any]:
    """Return the configuration as plain nested dictionaries, lists and scalars, for JSON and YAML."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def config_hash(config: Any) -> str:
    """Return twelve hex digits that change when any value of the configuration (or plain mapping) changes."""
    plain = to_mapping(config) if dataclasses.is_dataclass(config) else config
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


def save_yaml(config: Any, path: Path) -> None:
    """Write the whole resolved configuration, including defaults."""
    path.write_text(OmegaConf.to_yaml(OmegaConf.create(to_mapping(config))))


def _read_yaml(file: Path) -> Any:
    if not file.is_file():
        raise InputError(f"{file}: no such configuration file")
    try:
        loaded = OmegaConf.load(file)
    except Exception as error:  # the errors of YAML have no common base class
        raise InputError(f"{file}: not a YAML file: {error}") from error
    if not OmegaConf.is_dict(loaded):
        raise InputError(f"{file}: expected a mapping of keys at the top level")
    return loaded


def _merge(cls: type[T], layers: Sequence[tuple[str, Any]]) -> T:
    base = OmegaConf.structured(cls)
    for source, layer in layers:
        _check_keys(cls, layer, source)
        try:
            base = OmegaConf.merge(base, layer)
        except OmegaConfBaseException as error:
            message = str(error).splitlines()[0]
            raise InputError(f"{source}: {getattr(error, 'full_key', '') or 'value'}: {message}") from error
    try:
        return OmegaConf.to_object(base)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        if isinstance(error.__cause__, InputError):  # raised by a dataclass's own __post_init__
            raise error.__cause__ from None
        sources = ", ".join(source for source, _ in layers) or cls.__name__
        raise InputError(f"{sources}: {str(error).splitlines()[0]}") from error


def _check_keys(cls: Any, layer: Any, source: str, prefix: str = "") -> None:
    """Raise InputError for the first key that is not a field of the dataclass, with the nearest field."""
    hints = get_type_hints(cls)
    for key in layer:
        if key not in hints:
            known = sorted(hints)
            raise InputError(
                f"{source}: unknown key {prefix}{key}{nearest(str(key), known)} (known: {', '.join(known)})"
            )
        if dataclasses.is_dataclass(hints[key]) and OmegaConf.is_dict(layer[key]):
            _check_keys(hints[key], layer[key], source, f"{prefix}{key}.")
