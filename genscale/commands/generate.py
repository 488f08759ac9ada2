"""Commands that use a trained generator: sampling, and likelihoods of given jets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genscale.commands.options import AcceptLoss, Device, Out, Seed
from genscale.inference.device import resolve_device

app = typer.Typer()


@app.command()
def generate(
    run: Annotated[Path, typer.Argument(help="Folder of a finished generator run.")],
    jets: Annotated[int, typer.Option(help="Jets to draw.", min=1)],
    out: Out,
    seed: Seed = 1,
    class_label: Annotated[str | None, typer.Option(help="For class-conditional generators.")] = None,
    temperature: Annotated[
        float, typer.Option(help="Divides the logits; 1: the model's own distribution.")
    ] = 1.0,
    top_k: Annotated[int, typer.Option(help="Keep the k most probable tokens; 0: all.")] = 0,
    top_p: Annotated[
        float, typer.Option(help="Keep the most probable tokens that together reach this probability.")
    ] = 1.0,
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
    out: Annotated[
        Path, typer.Option(help="Arrow file with one row per jet; a JSON summary is written beside it.")
    ],
    references: Annotated[
        Path | None,
        typer.Option(
            help="Store of training tokens: compare with reference models (bigram, ...) counted on it."
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
