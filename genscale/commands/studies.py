"""Commands of whole studies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genscale.commands.options import Overrides

app = typer.Typer(help="Whole studies: from jets to the report.", no_args_is_help=True)


@app.command("run")
def study_run(
    study: Annotated[Path, typer.Argument(help="YAML file (see configs/studies/).")],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results; default: runs/<name>.")] = None,
    backend: Annotated[str, typer.Option(help="local, debug, slurm or submitit-local.")] = "local",
    jobs: Annotated[
        int, typer.Option(help="Cells at one time; 0: one per core (64 on a cluster).", min=0)
    ] = 0,
    cluster: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="For slurm: a parameter of submitit, for example slurm_partition=gpu, gpus_per_node=1, "
            "timeout_min=1440; tasks_per_node=4 shares every training by four GPUs.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Only list the cells, with FLOPs and time.")] = False,
    flops_per_second: Annotated[
        float, typer.Option(help="For --dry-run: rate of large models; 4e10 is one CPU core.")
    ] = 4e10,
    ms_per_step: Annotated[
        float, typer.Option(help="For --dry-run: what a step takes however small the model is.")
    ] = 25.0,
) -> None:
    """Run a study, or go on with one: finished cells are skipped, interrupted ones resumed."""
    from genscale.config import load_config, parse_values, require
    from genscale.study.config import StudyConfig
    from genscale.study.run import dry_run as list_cells

    config = load_config(StudyConfig, study, overrides or [])
    folder = out or Path("runs") / config.name
    require(flops_per_second > 0, f"--flops-per-second {flops_per_second:g}: must be positive")
    if dry_run:
        typer.echo(list_cells(config, flops_per_second, ms_per_step))
        return
    from genscale.study.backends import make_backend
    from genscale.study.run import run_study

    report = run_study(config, folder, make_backend(backend, jobs, parse_values("--cluster", cluster)))
    summary = folder / "summary.txt"
    typer.echo(summary.read_text() if summary.exists() else "")
    typer.echo(f"report: {report.absolute()}")


@app.command("status")
def study_status(folder: Annotated[Path, typer.Argument(help="Folder of a study's results.")]) -> None:
    """List the cells of a study and how far each is."""
    from genscale.study.run import status

    for cell, state in status(folder):
        typer.echo(f"{state:8s} {cell.id}")


@app.command("report")
def study_report(folder: Annotated[Path, typer.Argument(help="Folder of a study's results.")]) -> None:
    """Make the report of a finished study again from its results."""
    from genscale.config import load_config
    from genscale.errors import InputError
    from genscale.study.config import StudyConfig
    from genscale.study.report import write_report
    from genscale.study.run import status

    missing = [cell.id for cell, state in status(folder) if state != "done" and cell.work != "report"]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise InputError(
            f"{folder}: is not finished: {', '.join(missing[:3])}{more}; go on with genscale study run"
        )
    write_report(folder, load_config(StudyConfig, folder / "study.yaml"))
    typer.echo(f"report: {(folder / 'report.html').absolute()}")
