"""Commands that train a generator or a tagger."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import typer

from genscale.commands.options import ConfigFile, Overrides, RunOut, require_run_folder
from genscale.shipped import find_config

app = typer.Typer(help="Train a generator or a tagger.", no_args_is_help=True)


@app.command("generator")
def train_generator(out: RunOut, overrides: Overrides = None, config: ConfigFile = None) -> None:
    """Train an autoregressive generator on a token store.

    Needs the keys tokens, validation and tokenizer, for example tokens=tokens/train. With several GPUs or
    nodes: accelerate launch -m genscale.cli train generator ...
    """
    from genscale.config import load_config
    from genscale.training.generator import GeneratorRun, GeneratorTask
    from genscale.training.loop import train

    require_run_folder(out)
    run = load_config(GeneratorRun, find_config("generator", config), overrides or [])
    report_run(train(GeneratorTask(run), run.training, out), out)


@app.command("tagger")
def train_tagger(out: RunOut, overrides: Overrides = None, config: ConfigFile = None) -> None:
    """Train a set-transformer tagger on a jet store; needs the keys jets and validation."""
    from genscale.config import load_config
    from genscale.training.loop import train
    from genscale.training.tagger import TaggerRun, TaggerTask

    require_run_folder(out)
    run = load_config(TaggerRun, find_config("tagger", config), overrides or [])
    report_run(train(TaggerTask(run), run.training, out), out)


def report_run(record: Any, out: Path) -> None:
    """Print one line about a finished training, in one of its processes only."""
    if int(os.environ.get("RANK", "0")) == 0:
        typer.echo(
            f"{out}: loss {record.saved.metrics['loss']:.4f} after {record.saved.jets_seen:,} jets, "
            f"N = {record.parameters['total']:,}"
        )
