"""Commands of whole studies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genscale.commands.options import Overrides, Study
from genscale.shipped import find_config, shipped_file, shipped_names

app = typer.Typer(help="Whole studies: from jets to the report.", no_args_is_help=True)


@app.command("run")
def study_run(
    study: Study,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results; default: runs/NAME.")] = None,
    backend: Annotated[str, typer.Option(help="local, debug, slurm or submitit-local.")] = "local",
    jobs: Annotated[
        int, typer.Option(help="Cells that run at the same time; 0: one per core (64 on a cluster).", min=0)
    ] = 0,
    cluster: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="For slurm: a parameter of submitit, for example slurm_partition=gpu, gpus_per_node=1, "
            "timeout_min=1440; tasks_per_node=4 shares every training by four GPUs.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Only list the cells, with FLOPs and hours.")] = False,
    flops_per_second: Annotated[
        float, typer.Option(help="For --dry-run: rate of wide models; 6e10 is one CPU core.")
    ] = 6e10,
    ms_per_step: Annotated[
        float, typer.Option(help="For --dry-run: milliseconds that each step takes besides its FLOPs.")
    ] = 1.0,
) -> None:
    """Run or resume a study: finished cells are skipped, interrupted ones resumed."""
    from genscale.config import load_config, parse_values
    from genscale.errors import require
    from genscale.study.config import StudyConfig

    config = load_config(StudyConfig, find_config("studies", study), overrides or [])
    folder = out or Path("runs") / config.name
    require(flops_per_second > 0, f"--flops-per-second {flops_per_second:g}: must be positive")
    if dry_run:
        from genscale.study.costs import Costs
        from genscale.study.plan import planned_cells
        from genscale.study.power import without_power

        typer.echo(Costs(planned_cells(config), flops_per_second, ms_per_step).table())
        if line := without_power(config):
            typer.echo(line)
        return
    from genscale.study.backends import make_backend
    from genscale.study.run import run_study

    report = run_study(config, folder, make_backend(backend, jobs, parse_values("--cluster", cluster)))
    summary = folder / "summary.txt"
    typer.echo(summary.read_text() if summary.exists() else "")
    typer.echo(f"report: {report.absolute()}")


@app.command("new")
def study_new(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(shipped_names('studies'))}.")],
) -> None:
    """Print a study of genscale as a commented YAML file, to begin one of your own.

    For example genscale study new generation > mine.yaml; then change its name and its grids, and give the file to
    genscale study run.
    """
    typer.echo(shipped_file("studies", name).read_text(encoding="utf-8"), nl=False)


@app.command("keys")
def study_keys(
    part: Annotated[
        str, typer.Argument(help="Only the keys of this part, such as jets or generator.training.")
    ] = "",
) -> None:
    """List the keys of a study: each with its default, its type and its meaning.

    They are set in the file of the study, or as KEY=VALUE behind genscale study run.
    """
    from genscale.errors import InputError, nearest
    from genscale.keys import config_keys
    from genscale.study.config import StudyConfig

    keys = list(config_keys(StudyConfig))
    found = [key for key in keys if not part or key.name == part or key.name.startswith(f"{part}.")]
    if not found:
        parts = {key.name.rpartition(".")[0] for key in keys} - {""}
        raise InputError(
            f"{part}: no key or part of a study{nearest(part, [*(k.name for k in keys), *parts])}"
        )
    for key in found:
        typer.echo(f"{f'{key.name}={key.default}':46}  {key.type:12}  {key.meaning}")


@app.command("power")
def study_power(
    study: Study,
    overrides: Overrides = None,
    out: Annotated[
        Path | None,
        typer.Option(help="JSON file; default: runs/NAME/power.json, where the report looks for it."),
    ] = None,
    scatter: Annotated[
        float | None,
        typer.Option(
            help="Standard deviation of ln L between seeds; default: 0.02 for taggers, 0.001 for generators."
        ),
    ] = None,
    earlier: Annotated[
        Path | None,
        typer.Option("--from", help="Folder (or points.csv) of an earlier study: the scatter of its seeds."),
    ] = None,
    trials: Annotated[int, typer.Option(help="Simulated studies in each world.", min=1)] = 30,
) -> None:
    """Tell which published claims a study could decide, before it is run.

    Simulates the published laws, and laws that differ by twice what matters, on the study's own grid, with its own fits
    and verdicts. A claim that is decided rightly with a probability below one half is "not tested" in the report.
    """
    from eval.literature.design import Noise
    from genscale.config import load_config
    from genscale.errors import require
    from genscale.study.config import StudyConfig
    from genscale.study.power import POWER_FILE, compute_power, earlier_noise, power_table, save_power

    config = load_config(StudyConfig, find_config("studies", study), overrides or [])
    require(scatter is None or earlier is None, "--scatter, --from: give one of the two")
    require(scatter is None or scatter > 0, f"--scatter {scatter}: must be positive")
    noise = earlier_noise(earlier) if earlier is not None else {}
    if scatter is not None:
        noise = {task: Noise(scatter) for task in ("tagging", "generation")}
    plain, found = compute_power(config, noise, trials=trials, progress=True)
    path = out or Path("runs") / config.name / POWER_FILE
    save_power(plain, path)
    typer.echo(power_table(found))
    typer.echo(f"power: {path.absolute()}")


@app.command("status")
def study_status(folder: Annotated[Path, typer.Argument(help="Folder of a study's results.")]) -> None:
    """List the cells of a study and how far each is."""
    from genscale.study.plan import new_since, status

    for cell, state in status(folder):
        typer.echo(f"{state:8s} {cell.id}")
    if grown := new_since(folder):
        typer.echo(
            f"{grown}; genscale study run runs them, genscale study report makes the report without them"
        )


@app.command("report")
def study_report(folder: Annotated[Path, typer.Argument(help="Folder of a study's results.")]) -> None:
    """Make the report of a study from its results; of a study that is not finished, from those that are there."""
    from genscale.study.report.page import write_report
    from genscale.study.results.study import read_config

    write_report(folder, read_config(folder))
    typer.echo(f"report: {(folder / 'report.html').absolute()}")


@app.command("contrast")
def study_contrast(
    folders: Annotated[list[Path], typer.Argument(help="Folders of finished studies.")],
    out: Annotated[Path, typer.Option(help="Folder of the page, its figure and tables.")],
) -> None:
    """Set the learnable windows of studies side by side: where each stops, and what compute fills it.

    For example generation and tagging of the same jets, or one task on jets of two kinds.
    """
    from genscale.study.report.contrast import contrast_studies

    contrasted = contrast_studies(folders)
    page = contrasted.write(out)
    for line in contrasted.found:
        typer.echo(line)
    typer.echo(f"page: {page.absolute()}")
