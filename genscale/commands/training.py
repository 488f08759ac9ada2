"""Commands that train models and use them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from genscale.commands.options import (
    AcceptLoss,
    ConfigFile,
    Device,
    Out,
    Overrides,
    RunOut,
    Seed,
    require_run_folder,
)
from genscale.inference.device import resolve_device

app = typer.Typer()
train_app = typer.Typer(help="Train a generator or a tagger.", no_args_is_help=True)
app.add_typer(train_app, name="train")


@train_app.command("generator")
def train_generator(out: RunOut, overrides: Overrides = None, config: ConfigFile = None) -> None:
    """Train an autoregressive generator on a token store.

    Needs the keys tokens, validation and tokenizer, for example tokens=tokens/train. With several GPUs or
    nodes: accelerate launch -m genscale.cli train generator ...
    """
    from genscale.config import load_config
    from genscale.training.generator import GeneratorRun, GeneratorTask
    from genscale.training.loop import train

    require_run_folder(out)
    run = load_config(GeneratorRun, config, overrides or [])
    report_run(train(GeneratorTask(run), run.training, out), out)


@train_app.command("tagger")
def train_tagger(out: RunOut, overrides: Overrides = None, config: ConfigFile = None) -> None:
    """Train a set-transformer tagger on a jet store; needs the keys jets and validation."""
    from genscale.config import load_config
    from genscale.training.loop import train
    from genscale.training.tagger import TaggerRun, TaggerTask

    require_run_folder(out)
    run = load_config(TaggerRun, config, overrides or [])
    report_run(train(TaggerTask(run), run.training, out), out)


def report_run(record: Any, out: Path) -> None:
    """Print the one line that a finished training deserves, once for all processes."""
    if int(os.environ.get("RANK", "0")) == 0:
        typer.echo(
            f"{out}: loss {record.saved.metrics['loss']:.4f} after {record.saved.jets_seen:,} jets, "
            f"N = {record.parameters['total']:,}"
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
    from genscale.inference.sampling import SamplingConfig
    from genscale.inference.stores import generate_store

    config = SamplingConfig(temperature, top_k, top_p, seed)
    manifest = generate_store(run, out, jets, config, class_label=class_label, device=resolve_device(device))
    hits = read_json(out / "sampling.json")["hit_max_length"]
    typer.echo(f"{out}: {manifest.rows:,} jets, {hits} of them cut at the maximal length")


@app.command()
def likelihood(
    run: Annotated[Path, typer.Argument(help="Folder of a finished generator run.")],
    store: Annotated[Path, typer.Argument(help="Token store, or a jet store to encode.")],
    out: Annotated[Path, typer.Option(help="Arrow file, a row per jet; a summary goes beside it as JSON.")],
    references: Annotated[
        Path | None,
        typer.Option(
            help="Training tokens: also compare with reference models (bigram, ...) counted on them."
        ),
    ] = None,
    accept_loss: AcceptLoss = False,
    device: Device = "auto",
) -> None:
    """Score jets with a generator: log-likelihood of their tokens, and density where codes have cells."""
    from genscale.inference.likelihood import likelihood_store

    found = likelihood_store(
        run, store, out, references=references, accept_loss=accept_loss, device=resolve_device(device)
    )
    for name, row in {**found["classes"], "all": found}.items():
        typer.echo(
            f"{name:8s} {row['jets']:9,d} jets  {row['nats_per_token']:.4f} ± {row['nats_per_token_error']:.4f} "
            f"nats per token  {row['nats_per_jet']:.2f} ± {row['nats_per_jet_error']:.2f} per jet"
        )
    density = found["log_density"]
    if density is None:
        typer.echo("no density of jets: the codes of a VQ-VAE have no cells of known volume")
    else:
        typer.echo(f"ln p(jet) {density['per_jet']:.2f} ± {density['per_jet_error']:.2f} in GeV and rad")
    for name, below in found.get("references", {}).items():
        gain, error = below["nats_per_jet_below"], below["nats_per_jet_below_error"]
        typer.echo(f"below {name:8s} {gain:8.2f} ± {error:.2f} nats per jet")
    typer.echo(f"written to {out} and {out.with_suffix('.json')}")


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="Folder of a finished tagger run.")],
    store: Annotated[Path, typer.Argument(help="Jet store with labels, for example the test split.")],
    out: Annotated[Path, typer.Option(help="File for the probabilities, .npz; must not exist yet.")],
    device: Device = "auto",
) -> None:
    """Write a tagger's class probabilities of every jet of a store.

    The file holds the arrays probabilities (a row per jet), labels, rows and classes, and its provenance as JSON;
    read it with numpy.load or genscale.inference.prediction.load_predictions.
    """
    from genscale.inference.prediction import predict_store

    found = predict_store(run, store, out, device=resolve_device(device))
    p = found.provenance
    error = "" if p["loss_error"] is None else f" ± {p['loss_error']:.4f}"
    typer.echo(
        f"{out}: {len(found.rows):,} jets, loss {p['loss']:.4f}{error} nats per jet, accuracy {p['accuracy']:.2%}"
    )


@app.command()
def ladder(
    vocabulary: Annotated[int, typer.Option(help="Tokens, start and stop included.", min=3)] = 8194,
    tokens_per_jet: Annotated[float, typer.Option(help="Mean target tokens of a jet.", min=1)] = 41.0,
    batch_jets: Annotated[int, typer.Option(help="Jets held by one device in a step.", min=1)] = 64,
    flops_per_second: Annotated[
        float | None, typer.Option(help="Measured rate of training: prints hours.")
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
