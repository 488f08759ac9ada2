"""``genscale predict``: class probabilities by a trained tagger."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genscale.commands.options import Device
from genscale.inference.device import resolve_device

app = typer.Typer()


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
