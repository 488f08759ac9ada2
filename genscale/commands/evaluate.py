"""``genscale evaluate``: the score of generated jets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from genscale.commands.options import Seed, Workers
from genscale.errors import InputError

app = typer.Typer()


@app.command()
def evaluate(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="GENERATED... REFERENCE",
            help="Jets to score, and those to score them against: stores, or ROOT, Parquet, HDF5 or NumPy "
            "files. Several generators are ranked.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="JSON file; page (.html), table (.csv) and figures go beside it.")
    ] = Path("fidelity.json"),
    tokenizer_floor: Annotated[
        Path | None, typer.Option(help="Store of encoded and decoded jets: the floor of any generator.")
    ] = None,
    jets: Annotated[int, typer.Option(help="At most this many jets of each; 0: all.", min=0)] = 0,
    order: Annotated[int, typer.Option(help="Order p of the Wasserstein distances.", min=1, max=2)] = 1,
    directions: Annotated[int, typer.Option(help="Directions of the sliced distance.", min=1)] = 200,
    quick: Annotated[
        bool, typer.Option("--quick", help="Only the five observables and their joint distance; no page.")
    ] = False,
    efps: Annotated[
        str | None,
        typer.Option(
            help="Also energy flow polynomials of more than four edges, for example 'd<=6'; slow; needs EnergyFlow."
        ),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="NAME", help="Only jets of this class; may be repeated."),
    ] = None,
    ranges: Annotated[
        list[str] | None,
        typer.Option(
            "--range",
            metavar="NAME=LOW:HIGH",
            help="Only jets with an observable in a range, say jet_pt=500:1000.",
        ),
    ] = None,
    workers: Workers = 0,
    seed: Seed = 0,
) -> None:
    """Score generated jets against reference jets, every number with its error and floor.

    Wasserstein distances of some forty observables, jointly (sliced), one at a time and of single particles; Frechet
    and kernel physics distance; classifiers that try to tell them apart. docs/fidelity.md says which number to trust
    for what. 2 x 20,000 jets take about two minutes on two cores. Several generators are ranked by the joint distance
    alone, with the errors of the differences.
    """
    from genscale.data.subsets import parse_ranges
    from genscale.fidelity import Selection, evaluate_stores
    from genscale.fidelity import evaluate as run
    from genscale.fidelity.page import findings

    *made, reference = paths
    if not made:
        raise InputError(f"{reference}: one path only; give the generated jets and then the reference")
    selection = Selection(tuple(classes or ()), parse_ranges(ranges or []))
    if len(made) > 1:
        if tokenizer_floor is not None or efps is not None or order != 1:
            raise InputError(
                "--tokenizer-floor, --efps and --order: for one generator, not for a ranking of several"
            )
        _rank(made, reference, out, n_jets=jets, selection=selection, n_directions=directions, seed=seed)
        return
    generated = made[0]
    if quick and efps is not None:
        raise InputError("--efps: not with --quick, which measures five observables only")
    if quick:
        result = evaluate_stores(
            generated, reference, out, tokenizer_floor=tokenizer_floor, n_jets=jets, selection=selection,
            n_directions=directions, seed=seed, figures=out.parent,
        )  # fmt: skip
    else:
        result = run(
            generated, reference, out, tokenizer_floor=tokenizer_floor, n_jets=jets, selection=selection,
            order=2 if order == 2 else 1, n_directions=directions, seed=seed, efps=efps, workers=workers,
        )  # fmt: skip
    for name, s in result.scores.items():
        if name in ("joint", *result.settings["joint_observables"]):
            typer.echo(
                f"{name:13s} {s.value:10.4g} ± {s.distance.standard_error:<9.2g} {s.unit}: {s.verdict}"
            )
    for line in findings(result)[1:]:
        typer.echo(line)
    for warning in (*result.warnings, *(f"no {name}: {why}" for name, why in result.skipped.items())):
        typer.echo(f"warning: {warning}")
    typer.echo(
        f"written to {out}" if quick else f"written to {out.with_suffix('.html')}, {out} and the CSV beside"
    )


def _rank(made: list[Path], reference: Path, out: Path, **settings: Any) -> None:
    from genscale.fidelity import compare

    found = compare(made, reference, out, **settings)
    for name, value in found.distances.items():
        typer.echo(f"{name:30s} {value:10.4g} ± {found.errors[name]:.2g}")
    for difference in found.neighbours():
        typer.echo(difference.verdict)
    typer.echo(f"{found.n_jets:,} jets of each, {found.n_reference:,} of the reference; written to {out}")
