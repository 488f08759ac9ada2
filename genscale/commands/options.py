"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genscale.errors import InputError
from genscale.shipped import shipped_names

Out = Annotated[Path, typer.Option(help="Where the result goes; must not exist yet.")]
RunOut = Annotated[Path, typer.Option(help="Folder of the run; an interrupted run is resumed.")]
Workers = Annotated[
    int, typer.Option(help="Number of processes, which does not change the result; 0: one per core.", min=0)
]
Seed = Annotated[int, typer.Option(help="Seed of all random numbers.", min=0, max=2**32 - 1)]
_PRESETS = "; ".join(
    f"for a {kind} {', '.join(shipped_names(kind))}" for kind in ("tokenizer", "generator", "tagger")
)
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help=f"YAML file, or name of a preset ({_PRESETS}).")
]
Study = Annotated[
    Path,
    typer.Argument(
        help=f"YAML file, or name of a study of genscale ({', '.join(shipped_names('studies'))})."
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Changes to the configuration: key.sub=value.", metavar="[KEY=VALUE]..."),
]
AcceptLoss = Annotated[
    bool, typer.Option("--accept-loss", help="Go on if the tokenizer drops much of the jets.")
]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda if there is one.")]


def require_run_folder(folder: Path) -> None:
    """Refuse a folder that holds a store or a study: a run would mix its files with theirs."""
    for name, what in (("manifest.json", "a store"), ("study.yaml", "a study")):
        if (folder / name).exists():
            raise InputError(f"{folder}: holds {what}; choose another folder for the run")
