"""Commands that make, convert and describe stores of jets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genscale.commands.options import Out, Seed, Workers
from genscale.errors import InputError

if TYPE_CHECKING:
    from genscale.data.manifest import Manifest

app = typer.Typer()


@app.command()
def simulate(
    out: Out,
    jets: Annotated[int, typer.Option(help="Total number of jets, shared equally among the classes.", min=1)],
    classes: Annotated[str, typer.Option(help="Comma-separated JetClass names, or all.")] = "all",
    seed: Seed = 1,
    workers: Workers = 0,
    jets_of: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLASS=N",
            help="Number of jets of one class, in place of its equal share; may be repeated.",
        ),
    ] = None,
    mpi: Annotated[
        bool, typer.Option(help="Simulate multiparton interactions: more realistic, five times slower.")
    ] = True,
    format: Annotated[
        str, typer.Option(help="store (Arrow), or root: JetClass ROOT files, with the store beside them.")
    ] = "store",
) -> None:
    """Simulate jets with Pythia 8, a CMS-like detector and anti-kT R=0.8 clustering.

    Run it again after an interruption to resume it.
    """
    from genscale.data.schema import CLASSES
    from genscale.data.simulation import simulate as run
    from genscale.processes import available_cores

    if format not in ("store", "root"):
        raise InputError(f"--format {format}: known are store and root")
    names = list(CLASSES) if classes == "all" else [name.strip() for name in classes.split(",")]
    store = out if format == "store" else out.with_name(out.name + ".store")
    manifest = run(
        store, jets, names, seed, workers=workers or available_cores(), mpi=mpi, reuse=format == "root",
        jets_of=dict(map(_class_and_jets, jets_of or [])),
    )  # fmt: skip
    typer.echo(f"{store}: {manifest.rows:,} jets")
    if format == "root":
        _export(store, out)


def _class_and_jets(text: str) -> tuple[str, int]:
    name, equals, jets = text.partition("=")
    if not equals or not jets.isdecimal():
        raise InputError(f"--jets-of {text}: expected a class and its number of jets, for example QCD=100000")
    return name, int(jets)


@app.command()
def convert(
    sources: Annotated[list[str], typer.Argument(help="Files, folders or globs.")],
    out: Out,
    format: Annotated[
        str, typer.Option(help="auto recognises the files; jetclass: ROOT files as published.")
    ] = "auto",
    workers: Workers = 0,
    split: Annotated[
        str | None,
        typer.Option(help="train, val or test; recorded in the store, because training refuses test jets."),
    ] = None,
    class_name: Annotated[
        str | None,
        typer.Option("--class", metavar="NAME", help="The class of all jets, which the files do not name."),
    ] = None,
    array: Annotated[
        str | None, typer.Option(metavar="NAME", help="The array of particles, in a file with several.")
    ] = None,
    jet_pt: Annotated[
        float | None, typer.Option(help="pT of the jets in GeV, for files with fractions of it only.")
    ] = None,
) -> None:
    """Convert foreign jet files to a jet store.

    Files of JetClass, JetNet, EnergyFlow, the top-tagging reference, Aspen Open Jets and ATLAS's top tagging are
    recognised, as are Parquet tables and padded arrays of any generator (docs/data.md).
    """
    from genscale.data.convert import convert as run
    from genscale.data.readers import Options
    from genscale.processes import available_cores

    manifest = run(
        sources, out, format, workers=workers or available_cores(), split=split,
        options=Options(array, jet_pt, class_name),
    )  # fmt: skip
    typer.echo(f"{out}: {_described(manifest)}")


def _described(manifest: Manifest) -> str:
    counts = ", ".join(f"{count:,} {name}" for name, count in manifest.class_counts.items() if count)
    return f"{manifest.rows:,} jets ({counts or 'of no known class'})"


@app.command()
def select(
    store: Annotated[Path, typer.Argument(help="A jet store.")],
    out: Out,
    classes: Annotated[
        list[str] | None, typer.Option("--class", metavar="NAME", help="Jets of this class; may be repeated.")
    ] = None,
    ranges: Annotated[
        list[str] | None,
        typer.Option(
            "--range",
            metavar="COLUMN=LOW:HIGH",
            help="Jets with LOW <= column < HIGH, for example jet_pt=500:1000 or jet_mass=60:; may be repeated.",
        ),
    ] = None,
) -> None:
    """Write the jets of some classes, or within some ranges, to a store of their own."""
    from genscale.data.subsets import parse_ranges
    from genscale.data.subsets import select as run

    manifest = run(store, out, classes or [], parse_ranges(ranges or []))
    share, error = manifest.meta["efficiency"], manifest.meta["efficiency_error"]
    typer.echo(f"{out}: {_described(manifest)}, {100 * share:.2f} ± {100 * error:.2f} % of {store}")


@app.command()
def merge(
    stores: Annotated[list[Path], typer.Argument(help="Jet stores.")],
    out: Out,
) -> None:
    """Write the jets of several stores, with the classes of all of them, to one store."""
    from genscale.data.subsets import merge as run

    manifest = run(stores, out)
    typer.echo(f"{out}: {_described(manifest)}")
    if left_out := manifest.meta["columns_left_out"]:
        typer.echo(f"left out, because not all stores have them: {', '.join(left_out)}")


@app.command()
def export(store: Annotated[Path, typer.Argument(help="A jet store.")], out: Out) -> None:
    """Write a jet store as ROOT files in the layout of JetClass."""
    _export(store, out)


def _export(store: Path, out: Path) -> None:
    from genscale.data.export import export_root
    from genscale.data.store import JetStore

    files = export_root(JetStore.open(store), out, progress=True)
    typer.echo(f"{out}: {len(files)} ROOT files")


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="A store, a run or a study.")],
    verify: Annotated[bool, typer.Option(help="Also compare checksums.")] = False,
) -> None:
    """Summarise a jet store, a token store, a training run or a study."""
    from genscale.data.manifest import MANIFEST
    from genscale.records import RECORD_FILE

    if (path / "study.yaml").exists():
        from genscale.study.plan import status

        typer.echo("\n".join(f"{state:8s} {cell.id}" for cell, state in status(path)))
    elif (path / RECORD_FILE).exists():
        from genscale.records import RunRecord

        typer.echo(RunRecord.load(path).text())
    elif (path / MANIFEST).exists():
        from genscale.data.summary import render, summary

        typer.echo(render(summary(path, verify=verify)))
    elif not path.is_dir():
        raise InputError(f"{path}: no such folder")
    else:
        raise InputError(
            f"{path}: neither a store (manifest.json) nor a run (record.json) nor a study (study.yaml)"
        )
