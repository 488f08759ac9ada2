"""Commands of scaling laws: their fits, compute-optimal plans, and the sizes of the ladder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from genscale.commands.options import Seed
from genscale.errors import InputError

app = typer.Typer()

#: Default output of each approach: `genscale plan` reads that of a law only, which no other may overwrite.
OUTPUTS: Final = {"1": "envelope.json", "2": "isoflop.json", "3": "fit.json", "all": "approaches.json"}


@app.command()
def fit(
    points: Annotated[
        Path, typer.Argument(help="CSV (or .jsonl) with N, D, L; optional C, U, seed, weight, group.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="JSON file; default: fit.json for a law, otherwise envelope, isoflop, approaches or laws.json."
        ),
    ] = None,
    approach: Annotated[str, typer.Option(help="1 envelope, 2 IsoFLOP, 3 a law, or all.")] = "3",
    law: Annotated[
        str,
        typer.Option(
            help="Of N and D: additive, additive-tied, kaplan, effective-data. Of one --variable: power, "
            "power-nofloor, logarithmic, broken, m4. compare fits every law below a compute cut and judges it above."
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
        list[str] | None, typer.Option("--fix", help="Hold a parameter fixed, for example E=1.8.")
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
    from eval.common.results import plain, write_json
    from eval.scaling import (
        Comparison,
        FitResult,
        FrontierFit,
        compare_approaches,
        compare_laws,
        envelope,
        isoflop,
        misfit,
        read_points,
    )
    from eval.scaling import fit as fit_table

    constants = {k: _number(k, v) for k, v in _pairs("--fix", fixed)}
    columns, rows = dict(_pairs("--column", column)), dict(_pairs("--where", where))
    windows = {k: _range(k, v) for k, v in _pairs("--range", ranges)}
    at = {k: _number(k, v) for k, v in _pairs("--predict", predict.split(",") if predict else None)}
    _check_fit(approach, law, at, figure)
    out = out or Path("laws.json" if law == "compare" else OUTPUTS[approach])

    table = read_points(points, columns=columns, where=rows)
    if "D" not in windows and "D" not in columns and (least := _least_jets(points)):
        windows["D"] = (least, math.inf)
        typer.echo(f"note: D >= {least:g}, as in the study beside this table (--range D=0: keeps all points)")
    for name, (low, high) in windows.items():
        table = table.within(name, low, high)
    for file in (out, figure):
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
    for warning in table.warnings():
        typer.echo(f"note: {warning}")
    if law == "compare":
        ranking = compare_laws(table, loss=loss, delta=huber_delta, seed=seed)
        typer.echo(str(ranking))
        write_json(plain(ranking), out)
        typer.echo(f"written to {out}")
        return
    resamples: dict[str, Any] = {"bootstrap": bootstrap, "seed": seed}
    result: FitResult | FrontierFit | Comparison
    if approach in ("1", "2"):
        result = (envelope if approach == "1" else isoflop)(table, **resamples)
    else:
        one = fit_table(
            table,
            law,
            variable=variable,
            loss=loss,
            delta=huber_delta,
            unit=unit,
            fixed=constants,
            **resamples,
        )
        result = compare_approaches(table, one, **resamples) if approach == "all" else one
    typer.echo(str(result))
    if isinstance(result, FitResult):
        typer.echo(str(misfit(table, result)))
        # Constants by mean squares where the fit was robust, and the reverse, show how far outliers and misfit decide.
        other_loss = "mse-log" if result.loss.kind.startswith("huber") else "huber-log"
        other = fit_table(
            table, law, variable=variable, loss=other_loss, bootstrap=0, fixed=constants, seed=seed
        )
        values = ", ".join(f"{name} = {estimate.value:.4g}" for name, estimate in other.params.items())
        typer.echo(f"by the {other.objective_kind} (--loss {other.loss.kind}): {values}")
    write_json(plain(result), out)
    typer.echo(f"written to {out}")
    if at and isinstance(result, FitResult):
        values = ", ".join(f"{k} = {v:g}" for k, v in at.items())
        ends = [float(x) for x in result.predict_interval(0.95, **at)] if bootstrap else []
        interval = f" [{ends[0]:.5g}, {ends[1]:.5g}] (95 %)" if ends else ""
        typer.echo(f"L({values}) = {float(result.predict(**at)):.5g}{interval}")
    if figure is not None:
        from eval.scaling.figures import fit_panel, isoflop_slices

        if isinstance(result, FitResult):
            fit_panel(table, result).savefig(figure, dpi=150)
        elif isinstance(result, FrontierFit):
            isoflop_slices(result).savefig(figure, dpi=150)
        typer.echo(f"drawn to {figure}")


def _least_jets(points: Path) -> float:
    """Smallest number of jets that the study beside a table of points fits; 0 where there is no study."""
    if not (points.parent / "study.yaml").is_file():
        return 0.0
    from genscale.study.results.study import read_config

    return float(read_config(points.parent).fit.min_jets)


def _check_fit(approach: str, law: str, at: dict[str, float], figure: Path | None) -> None:
    """Raise InputError for options of ``fit`` that do not go together."""
    from genscale.errors import require

    require(approach in ("1", "2", "3", "all"), f"--approach {approach}: must be 1, 2, 3 or all")
    one_law = approach == "3" and law != "compare"
    require(one_law or not at, "--predict needs a law: it goes with --approach 3")
    for name, value in at.items():
        require(value > 0, f"--predict {name}={value:g}: must be positive")
    drawn = one_law or approach == "2"
    require(drawn or figure is None, "--figure draws a law or IsoFLOP slices: --approach 3 or 2")
    require(
        figure is None or figure.suffix in (".png", ".pdf"),
        f"--figure {figure}: a name that ends in .png or .pdf",
    )


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
    flops: Annotated[float | None, typer.Option(help="Training budget in FLOPs.")] = None,
    jets: Annotated[float | None, typer.Option(help="Fixed number of jets D: the best N for it.")] = None,
    loss: Annotated[float | None, typer.Option(help="Target loss: the least budget that reaches it.")] = None,
    gpu_hours: Annotated[
        float | None, typer.Option(help="Budget in hours; needs --flops-per-second.")
    ] = None,
    flops_per_second: Annotated[float | None, typer.Option(help="Measured training rate in FLOP/s.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the answer as JSON.")] = None,
) -> None:
    """Compute-optimal model and data for a budget, from a fitted law, with intervals."""
    asked = {"--flops": flops, "--jets": jets, "--loss": loss, "--gpu-hours": gpu_hours}
    given = [option for option, value in asked.items() if value is not None]
    if len(given) != 1:
        raise InputError(f"give exactly one of {', '.join(asked)} (found {', '.join(given) or 'none'})")
    if (gpu_hours is None) != (flops_per_second is None):
        raise InputError("--gpu-hours and --flops-per-second come together")
    from eval.scaling import FitResult
    from eval.scaling import plan as run
    from genscale.files import write_json

    answer = run(
        FitResult.from_json(fit_file), flops=flops, data=jets, loss=loss, gpu_hours=gpu_hours,
        flops_per_second=flops_per_second,
    )  # fmt: skip
    typer.echo(str(answer))
    if out is not None:
        write_json(out, answer.to_dict())


@app.command()
def ladder(
    vocabulary: Annotated[
        int, typer.Option(help="Size of the vocabulary, including start and stop tokens.", min=3)
    ] = 8194,
    tokens_per_jet: Annotated[
        float, typer.Option(help="Mean number of target tokens per jet.", min=1)
    ] = 41.0,
    batch_jets: Annotated[int, typer.Option(help="Jets per step on one device.", min=1)] = 64,
    flops_per_second: Annotated[
        float | None, typer.Option(help="Measured training rate in FLOP/s; adds a column of hours.")
    ] = None,
    fit: Annotated[
        Path | None,
        typer.Option(
            help="Law of N and D (genscale fit) for the compute-optimal D. Default: 20 tokens per parameter."
        ),
    ] = None,
) -> None:
    """Print the generator's sizes: parameters by part, FLOPs per token, memory, and the compute-optimal training."""
    from genscale.models.cost import describe

    typer.echo(
        describe(
            vocabulary, tokens_per_jet, batch_jets=batch_jets, flops_per_second=flops_per_second, fit=fit
        )
    )
