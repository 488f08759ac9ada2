"""Commands that score samples and fit laws."""

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

    if quick:
        result = evaluate_stores(
            generated, reference, out, tokenizer_floor=tokenizer_floor, n_jets=jets, n_directions=directions,
            seed=seed, figures=out.parent,
        )  # fmt: skip
    else:
        result = run(
            generated, reference, out, tokenizer_floor=tokenizer_floor, n_jets=jets, order=2 if order == 2 else 1,
            n_directions=directions, seed=seed, workers=workers,
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


@app.command()
def fit(
    points: Annotated[
        Path, typer.Argument(help="CSV (or .jsonl) with N, D, L; optional C, U, seed, weight, group.")
    ],
    out: Annotated[Path, typer.Option(help="JSON file.")] = Path("fit.json"),
    approach: Annotated[str, typer.Option(help="1 envelope, 2 IsoFLOP, 3 a law, or all.")] = "3",
    law: Annotated[
        str,
        typer.Option(
            help="Of N and D: additive, additive-tied, kaplan, effective-data. Of one --variable: power, "
            "power-nofloor, logarithmic, broken, m4. compare: fit every law below a compute cut, judge it above."
        ),
    ] = "additive",
    variable: Annotated[str | None, typer.Option(help="N, D, C or U, for a law of one variable.")] = None,
    loss: Annotated[str, typer.Option(help="huber-log, mse, mse-log or huber-likelihood.")] = "huber-log",
    huber_delta: Annotated[
        float | None,
        typer.Option(
            help="Threshold on residuals of ln L (published fits: 1e-3); by default 1.345 times their noise."
        ),
    ] = None,
    bootstrap: Annotated[
        int, typer.Option(help="Resamples behind the intervals; 0: no intervals.", min=0)
    ] = 200,
    unit: Annotated[str, typer.Option(help="What is resampled: points, groups, or auto.")] = "auto",
    fixed: Annotated[
        list[str] | None, typer.Option("--fix", help="Hold a constant, for example E=1.8.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="Other column names, for example L=val_loss.")
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option(help="Keep rows with column=value, for example task=generator.")
    ] = None,
    ranges: Annotated[
        list[str] | None,
        typer.Option(
            "--range", help="Keep points with N, D, C, U or L in a range, for example D=1e4: or D=1e4:2e5."
        ),
    ] = None,
    predict: Annotated[
        str | None, typer.Option(help="Also print the loss at, for example, N=1e9,D=1e12.")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="Also draw points and fit into this .png or .pdf file.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Fit a scaling law to a table of losses, with intervals."""
    from genscale.fitting import FitRequest, fit_points

    request = FitRequest(
        points, out, approach, law, variable, loss, huber_delta, bootstrap, unit,
        {k: _number(k, v) for k, v in _pairs("--fix", fixed)}, dict(_pairs("--column", column)),
        dict(_pairs("--where", where)), {k: _range(k, v) for k, v in _pairs("--range", ranges)},
        {k: _number(k, v) for k, v in _pairs("--predict", predict.split(",") if predict else None)}, figure, seed,
    )  # fmt: skip
    for line in fit_points(request):
        typer.echo(line)


def _pairs(option: str, texts: list[str] | None) -> list[tuple[str, str]]:
    found = []
    for text in texts or []:
        key, separator, value = text.partition("=")
        if not separator:
            raise InputError(f"{option} {text}: expected name=value")
        found.append((key.strip(), value.strip()))
    return found


def _range(name: str, text: str) -> tuple[float, float]:
    low, separator, high = text.partition(":")
    if not separator or name not in ("N", "D", "C", "U", "L"):
        raise InputError(
            f"--range {name}={text}: expected N, D, C, U or L and LOW:HIGH, either end may be missing"
        )
    return _number(name, low or "0"), _number(name, high or "inf")


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{name}={text}: not a number") from None


@app.command()
def plan(
    fit_file: Annotated[Path, typer.Argument(metavar="FIT.JSON", help="A fitted law of N and D.")],
    flops: Annotated[float | None, typer.Option(help="Training budget.")] = None,
    jets: Annotated[float | None, typer.Option(help="D is fixed: the best N for it.")] = None,
    loss: Annotated[float | None, typer.Option(help="Wanted loss: the least budget that reaches it.")] = None,
    gpu_hours: Annotated[
        float | None, typer.Option(help="Budget in hours; needs --flops-per-second.")
    ] = None,
    flops_per_second: Annotated[float | None, typer.Option(help="Measured rate of training.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the answer as JSON.")] = None,
) -> None:
    """Compute-optimal model and data for a budget, from a fitted law, with intervals."""
    import json

    asked = {"--flops": flops, "--jets": jets, "--loss": loss, "--gpu-hours": gpu_hours}
    given = [option for option, value in asked.items() if value is not None]
    if len(given) != 1:
        raise InputError(f"give exactly one of {', '.join(asked)} (found {', '.join(given) or 'none'})")
    if (gpu_hours is None) != (flops_per_second is None):
        raise InputError("--gpu-hours and --flops-per-second come together")
    from eval.scaling import FitResult
    from eval.scaling import plan as run
    from genscale.files import write_atomic

    answer = run(
        FitResult.from_json(fit_file), flops=flops, data=jets, loss=loss, gpu_hours=gpu_hours,
        flops_per_second=flops_per_second,
    )  # fmt: skip
    typer.echo(str(answer))
    if out is not None:
        write_atomic(out, json.dumps(answer.to_dict(), indent=1) + "\n")
