"""The command line: one table of commands. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from genscale.errors import CellFailed, InputError, Interrupted

app = typer.Typer(
    name="genscale",
    help=(
        "Neural scaling laws for jets: generation and tagging, side by side.\n\n"
        "A study does everything: [bold]genscale study run configs/studies/quickstart.yaml[/bold]. The other "
        "commands are its steps, one at a time."
    ),
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
tokenizer_app = typer.Typer(help="Jets to discrete tokens and back.", no_args_is_help=True)
train_app = typer.Typer(help="Train a generator or a tagger.", no_args_is_help=True)
study_app = typer.Typer(help="Whole studies: from jets to the report.", no_args_is_help=True)
app.add_typer(tokenizer_app, name="tokenizer")
app.add_typer(train_app, name="train")
app.add_typer(study_app, name="study")

Out = Annotated[Path, typer.Option(help="Where the result goes; must not exist yet.")]
Seed = Annotated[int, typer.Option(help="Same seed, same numbers.", min=0)]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file (see configs/).")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Changes to the configuration: key.sub=value.", metavar="[KEY=VALUE]..."),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda if there is one.")]


# -- jets -----------------------------------------------------------------------------------------------------


@app.command()
def simulate(
    out: Out,
    jets: Annotated[int, typer.Option(help="Jets in all, shared equally by the classes.", min=1)],
    classes: Annotated[str, typer.Option(help="Comma-separated JetClass names, or all.")] = "all",
    seed: Seed = 1,
    workers: Annotated[
        int, typer.Option(help="Processes; the jets do not depend on it. 0: one per core.")
    ] = 0,
    mpi: Annotated[
        bool, typer.Option(help="Multiparton interactions: realistic, seven times slower.")
    ] = True,
    format: Annotated[str, typer.Option(help="store (Arrow), or root: JetClass ROOT files.")] = "store",
) -> None:
    """Simulate jets with Pythia 8, a CMS-like detector and anti-kT R=0.8 clustering.

    Run again after an interruption, it goes on where it was.
    """
    from genscale.data.schema import CLASSES
    from genscale.data.simulation import simulate as run

    if format not in ("store", "root"):
        raise InputError(f"--format {format}: known are store and root")
    names = list(CLASSES) if classes == "all" else [name.strip() for name in classes.split(",")]
    store = out if format == "store" else out.with_name(out.name + ".store")
    if not (format == "root" and (store / "manifest.json").exists()):
        manifest = run(store, jets, names, seed, workers=workers or os.cpu_count() or 1, mpi=mpi)
        typer.echo(f"{store}: {manifest.rows:,} jets")
    if format == "root":
        _export(store, out)


@app.command()
def convert(
    sources: Annotated[list[str], typer.Argument(help="Files, folders or globs.")],
    out: Out,
    format: Annotated[
        str, typer.Option(help="auto looks into the files; jetclass is ROOT as published.")
    ] = "auto",
    workers: Annotated[int, typer.Option(help="Files read at a time. 0: one per core.")] = 0,
    split: Annotated[str | None, typer.Option(help="train, val or test: recorded in the store.")] = None,
) -> None:
    """Convert foreign jet files to a jet store."""
    from genscale.data.convert import convert as run

    manifest = run(sources, out, format, workers=workers or os.cpu_count() or 1, split=split)
    typer.echo(f"{out}: {manifest.rows:,} jets")


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
    from genscale.inspect import describe

    typer.echo(describe(path, verify=verify))


# -- tokenizer ------------------------------------------------------------------------------------------------


@tokenizer_app.command("fit")
def tokenizer_fit(
    store: Annotated[Path, typer.Argument(help="Jet store to learn from.")],
    out: Out,
    overrides: Overrides = None,
    config: ConfigFile = None,
    validation: Annotated[
        Path | None, typer.Option(help="Held-out jet store; default: the same store.")
    ] = None,
) -> None:
    """Train a VQ-VAE tokenizer. Run again after an interruption, it goes on where it was."""
    from genscale.config import load_config
    from genscale.training.loop import train
    from genscale.training.tokenizer import TokenizerRun, TokenizerTask

    given = [f"jets={store}", f"validation={validation or store}"]
    run = load_config(TokenizerRun, config, [*given, *(overrides or [])])
    _report_run(train(TokenizerTask(run), run.training, out), out)


@tokenizer_app.command("encode")
def tokenizer_encode(
    store: Annotated[Path, typer.Argument(help="Jet store.")],
    tokenizer: Annotated[Path, typer.Option(help="Folder of the tokenizer.")],
    out: Out,
    device: Device = "auto",
) -> None:
    """Turn a jet store into a token store."""
    from genscale.tokens import encode_store

    manifest = encode_store(store, tokenizer, out, device=_device(device))
    typer.echo(f"{out}: {manifest.rows:,} jets, {manifest.items:,} tokens")


@tokenizer_app.command("decode")
def tokenizer_decode(
    tokens: Annotated[Path, typer.Argument(help="Token store.")],
    tokenizer: Annotated[Path, typer.Option(help="Folder of the tokenizer that made it.")],
    out: Out,
    device: Device = "auto",
) -> None:
    """Turn a token store into a jet store."""
    from genscale.tokens import decode_store

    manifest = decode_store(tokens, tokenizer, out, device=_device(device))
    typer.echo(f"{out}: {manifest.rows:,} jets")


@tokenizer_app.command("quality")
def tokenizer_quality(
    tokenizer: Annotated[Path, typer.Argument(help="Folder of the tokenizer.")],
    store: Annotated[Path, typer.Argument(help="Jet store to measure it on.")],
    out: Annotated[Path, typer.Option(help="JSON file; a figure goes beside it.")] = Path("quality.json"),
) -> None:
    """Measure codebook use, resolution per feature, and the distance of decoded from original jets."""
    from genscale.tokens import tokenizer_quality as run

    found = run(tokenizer, store, out, out.with_suffix(".png"))
    typer.echo(
        f"codes used {found['codes_used']} of {found['codebook_size']}, perplexity {found['perplexity']:.1f}, "
        f"{found['bits_per_jet']:.0f} bits per jet"
    )
    for group in ("particle", "jet"):
        for name, r in found[group].items():
            typer.echo(
                f"  {group:8s} {name:14s} bias {r['bias']:+.4f}  68 % half-width {r['half_width_68']:.4f}"
            )
    typer.echo(f"written to {out} and {out.with_suffix('.png')}")


# -- training and generation ----------------------------------------------------------------------------------


@train_app.command("generator")
def train_generator(out: Out, overrides: Overrides = None, config: ConfigFile = None) -> None:
    """Train an autoregressive generator on a token store.

    Needs the keys tokens, validation and tokenizer, for example tokens=tokens/train. With several GPUs or
    nodes: accelerate launch -m genscale.cli train generator ...
    """
    from genscale.config import load_config
    from genscale.training.generator import GeneratorRun, GeneratorTask
    from genscale.training.loop import train

    run = load_config(GeneratorRun, config, overrides or [])
    _report_run(train(GeneratorTask(run), run.training, out), out)


@train_app.command("tagger")
def train_tagger(out: Out, overrides: Overrides = None, config: ConfigFile = None) -> None:
    """Train a set-transformer tagger on a jet store; needs the keys jets and validation."""
    from genscale.config import load_config
    from genscale.training.loop import train
    from genscale.training.tagger import TaggerRun, TaggerTask

    run = load_config(TaggerRun, config, overrides or [])
    _report_run(train(TaggerTask(run), run.training, out), out)


def _report_run(record: Any, out: Path) -> None:
    if int(os.environ.get("RANK", "0")) == 0:
        loss = record.final.metrics["loss"]
        typer.echo(
            f"{out}: loss {loss:.4f} after {record.jets_seen:,} jets, N = {record.parameters['total']:,}"
        )


@app.command()
def generate(
    run: Annotated[Path, typer.Argument(help="Folder of a finished generator run.")],
    jets: Annotated[int, typer.Option(help="Jets to draw.", min=1)],
    out: Out,
    seed: Seed = 1,
    class_label: Annotated[str | None, typer.Option(help="For class-conditional generators.")] = None,
    temperature: Annotated[float, typer.Option(help="1: the model's own distribution.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Keep the k likeliest tokens; 0: all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Keep the likeliest tokens of this total probability.")] = 1.0,
    device: Device = "auto",
) -> None:
    """Draw jets from a generator into a jet store."""
    from genscale.files import read_json
    from genscale.generation import SamplingConfig
    from genscale.tokens import generate_store

    config = SamplingConfig(temperature, top_k, top_p, seed)
    manifest = generate_store(run, out, jets, config, class_label=class_label, device=_device(device))
    hits = read_json(out / "sampling.json")["hit_max_length"]
    typer.echo(f"{out}: {manifest.rows:,} jets, {hits} of them cut at the maximal length")


@app.command()
def ladder(
    vocabulary: Annotated[int, typer.Option(help="Tokens, start and stop included.")] = 8194,
    tokens_per_jet: Annotated[float, typer.Option(help="Mean target tokens of a jet.")] = 41.0,
) -> None:
    """Print the generator's sizes: parameters by part, and training FLOPs per token."""
    from genscale.models.ladder import describe

    typer.echo(describe(vocabulary, tokens_per_jet))


# -- scores and laws ------------------------------------------------------------------------------------------


@app.command()
def evaluate(
    generated: Annotated[Path, typer.Argument(help="Jet store to score.")],
    reference: Annotated[Path, typer.Argument(help="Jet store to score it against.")],
    out: Annotated[Path, typer.Option(help="JSON file; figures go beside it.")] = Path("fidelity.json"),
    tokenizer_floor: Annotated[
        Path | None, typer.Option(help="Store of encoded and decoded jets: the floor of any generator.")
    ] = None,
    jets: Annotated[int, typer.Option(help="At most this many jets of each store; 0: all.")] = 0,
    directions: Annotated[int, typer.Option(help="Directions of the sliced distance.", min=1)] = 200,
    seed: Seed = 0,
) -> None:
    """Score generated jets: sliced Wasserstein distances with errors and floors."""
    from genscale.fidelity import evaluate_stores

    result = evaluate_stores(
        generated, reference, out, tokenizer_floor=tokenizer_floor, n_jets=jets, n_directions=directions,
        seed=seed, figures=out.parent,
    )  # fmt: skip
    for name, s in result.scores.items():
        typer.echo(f"{name:13s} {s.value:10.4g} ± {s.distance.standard_error:<9.2g} {s.unit}: {s.verdict}")
    for warning in result.warnings:
        typer.echo(f"warning: {warning}")
    typer.echo(f"written to {out}")


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
    huber_delta: Annotated[float, typer.Option(help="Threshold on residuals of ln L.")] = 1e-3,
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
    predict: Annotated[
        str | None, typer.Option(help="Also print the loss at, for example, N=1e9,D=1e12.")
    ] = None,
    figure: Annotated[Path | None, typer.Option(help="Also draw points and fit into this PNG.")] = None,
    seed: Seed = 0,
) -> None:
    """Fit a scaling law to a table of losses, with intervals."""
    from genscale.fitting import FitRequest, fit_points

    request = FitRequest(
        points, out, approach, law, variable, loss, huber_delta, bootstrap, unit,
        {k: _number(k, v) for k, v in _pairs("--fix", fixed)}, dict(_pairs("--column", column)),
        dict(_pairs("--where", where)),
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


# -- studies --------------------------------------------------------------------------------------------------


@study_app.command("run")
def study_run(
    study: Annotated[Path, typer.Argument(help="YAML file (see configs/studies/).")],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results; default: runs/<name>.")] = None,
    backend: Annotated[str, typer.Option(help="local, debug, slurm or submitit-local.")] = "local",
    jobs: Annotated[int, typer.Option(help="Cells at one time; 0: one per core (64 on a cluster).")] = 0,
    dry_run: Annotated[bool, typer.Option(help="Only list the cells, with FLOPs and time.")] = False,
    flops_per_second: Annotated[float, typer.Option(help="Rate for the times of --dry-run.")] = 1e10,
) -> None:
    """Run a study, or go on with one: finished cells are skipped, interrupted ones resumed."""
    from genscale.config import load_config
    from genscale.study.config import StudyConfig
    from genscale.study.run import dry_run as list_cells

    config = load_config(StudyConfig, study, overrides or [])
    folder = out or Path("runs") / config.name
    if dry_run:
        typer.echo(list_cells(config, flops_per_second))
        return
    from genscale.study.backends import make_backend
    from genscale.study.run import run_study

    report = run_study(config, folder, make_backend(backend, jobs))
    summary = folder / "summary.txt"
    typer.echo(summary.read_text() if summary.exists() else "")
    typer.echo(f"report: {report.absolute()}")


@study_app.command("status")
def study_status(folder: Annotated[Path, typer.Argument(help="Folder of a study's results.")]) -> None:
    """List the cells of a study and how far each is."""
    from genscale.study.run import status

    for cell, state in status(folder):
        typer.echo(f"{state:8s} {cell.id}")


@study_app.command("report")
def study_report(folder: Annotated[Path, typer.Argument(help="Folder of a study's results.")]) -> None:
    """Make the report again from the results."""
    from genscale.config import load_config
    from genscale.study.config import StudyConfig
    from genscale.study.report import write_report

    write_report(folder, load_config(StudyConfig, folder / "study.yaml"))
    typer.echo(f"report: {(folder / 'report.html').absolute()}")


# -- running --------------------------------------------------------------------------------------------------


def _device(name: str) -> str:
    if name == "auto":
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


def run_guarded(command: Callable[[], object]) -> int:
    """Run a command; return its exit code. Bad input is 2, with one clear line instead of a traceback."""
    import eval.errors
    import tokenizer.errors

    bad_input = (InputError, eval.errors.InputError, tokenizer.errors.InputError)
    try:
        command()
    except bad_input as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; run the same command to go on", file=sys.stderr)
        return 130
    except Interrupted as error:
        print(error, file=sys.stderr)
        return 128 + error.signal
    except (CellFailed, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def main() -> None:
    """Entry point of the ``genscale`` command."""
    sys.exit(run_guarded(lambda: app(standalone_mode=True)))


if __name__ == "__main__":
    main()
