"""``genscale evaluate``: the score of generated jets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genscale.commands.options import Seed, Workers
from genscale.errors import InputError

app = typer.Typer()


@app.command()
def evaluate(
    generated: Annotated[
        Path,
        typer.Argument(
            help="Jets to score: a store, or ROOT, Parquet, HDF5 or npz files (a file or folder)."
        ),
    ],
    reference: Annotated[Path, typer.Argument(help="Jets to score them against, likewise.")],
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
    workers: Workers = 0,
    seed: Seed = 0,
) -> None:
    """Score generated jets against reference jets, every number with its error and floor.

    Wasserstein distances of some forty observables, jointly (sliced), one at a time and of single particles; Frechet
    and kernel physics distance; classifiers that try to tell them apart. docs/fidelity.md says which number to trust
    for what. 2 x 20,000 jets take about two minutes on two cores.
    """
    from genscale.fidelity import evaluate as run
    from genscale.fidelity import evaluate_stores
    from genscale.fidelity.page import findings

    if quick and efps is not None:
        raise InputError("--efps: not with --quick, which measures five observables only")
    if quick:
        result = evaluate_stores(
            generated, reference, out, tokenizer_floor=tokenizer_floor, n_jets=jets, n_directions=directions,
            seed=seed, figures=out.parent,
        )  # fmt: skip
    else:
        result = run(
            generated, reference, out, tokenizer_floor=tokenizer_floor, n_jets=jets, order=2 if order == 2 else 1,
            n_directions=directions, seed=seed, efps=efps, workers=workers,
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
