"""The configurations that come with genscale, by name: ``quickstart``, ``paper/generation``.

They are the files of ``configs/``. The link ``genscale/configs`` makes them part of the package, in a clone as in an
installation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from genscale.errors import InputError, nearest

FOLDER: Final = Path(__file__).parent / "configs"


def shipped_names(kind: str) -> list[str]:
    """Return the names of the configurations of a kind: ``studies``, ``generator``, ``tagger`` or ``tokenizer``."""
    folder = FOLDER / kind
    return sorted(file.relative_to(folder).with_suffix("").as_posix() for file in folder.rglob("*.yaml"))


def shipped_file(kind: str, name: str) -> Path:
    """Return the file of a configuration that comes with genscale.

    Parameters
    ----------
    kind : str
        ``studies``, ``generator``, ``tagger`` or ``tokenizer``.
    name : str
        Name of the configuration.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        There is none of this name; the message has the nearest one and all others.
    """
    known = shipped_names(kind)
    if name not in known:
        guess = name.removesuffix(".yaml").removeprefix(f"configs/{kind}/")
        raise InputError(
            f"{name}: no such configuration file, and no configuration of genscale has this name"
            f"{nearest(guess, known)} (known: {', '.join(known)})"
        )
    return FOLDER / kind / f"{name}.yaml"


def find_config(kind: str, given: Path | None) -> Path | None:
    """Return the file that is meant by a path, or by the name of a configuration that comes with genscale."""
    return given if given is None or given.is_file() else shipped_file(kind, given.as_posix())
