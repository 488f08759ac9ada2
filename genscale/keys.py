"""What may be set in a configuration, from the fields and docstrings of its dataclasses."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Iterator
from typing import Any

#: A line ``name : type`` of a section Attributes, and the indented lines below it.
_ATTRIBUTE = re.compile(r"^(\w+) : (.+)\n((?:    .+\n?|\n(?=    ))*)", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Key:
    """A key of a configuration.

    Attributes
    ----------
    name : str
        The key with those above it: ``generator.training.jets``.
    type : str
        Type, in words.
    default : str
        Default, as it is written in YAML.
    meaning : str
        The first sentence of its description.
    """

    name: str
    type: str
    default: str
    meaning: str


def config_keys(config: Any, prefix: str = "") -> Iterator[Key]:
    """Yield the keys of a configuration in the order of its fields.

    Parameters
    ----------
    config : dataclass or instance of one
        The configuration. The defaults are those of the dataclass, or the values of the instance.
    prefix : str
        Put before the name of each key.

    Yields
    ------
    Key
    """
    described = _described(config if isinstance(config, type) else type(config))
    for field in dataclasses.fields(config):
        value = _default(field) if isinstance(config, type) else getattr(config, field.name)
        name = f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from config_keys(value, f"{name}.")
        else:
            kind, meaning = described[field.name]
            yield Key(name, kind, json.dumps(value), meaning)


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _described(cls: type) -> dict[str, tuple[str, str]]:
    """Type and first sentence of each attribute that the docstring of a class describes."""
    _, _, attributes = inspect.cleandoc(cls.__doc__ or "").partition("Attributes\n----------\n")
    found = {}
    for name, kind, text in _ATTRIBUTE.findall(attributes):
        sentence = re.split(r"(?<=\.)\s+(?=[A-Z`0-9])", " ".join(text.split()), maxsplit=1)[0]
        found[name] = (kind, sentence.replace("`", ""))
    return found
