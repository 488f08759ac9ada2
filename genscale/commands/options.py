"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path, typer.Option(help="Where the result goes; must not exist yet.")]
Seed = Annotated[int, typer.Option(help="Same seed, same numbers.", min=0)]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file (see configs/).")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Changes to the configuration: key.sub=value.", metavar="[KEY=VALUE]..."),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda if there is one.")]


def resolve_device(name: str) -> str:
    """Return the device of this name; ``auto`` is cuda where there is one."""
    if name == "auto":
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"
    return name
