"""Commands of the tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genscale.commands.options import ConfigFile, Device, Out, Overrides, resolve_device
from genscale.commands.training import report_run

app = typer.Typer(help="Jets to discrete tokens and back.", no_args_is_help=True)


@app.command("fit")
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
    report_run(train(TokenizerTask(run), run.training, out), out)


@app.command("encode")
def tokenizer_encode(
    store: Annotated[Path, typer.Argument(help="Jet store.")],
    tokenizer: Annotated[Path, typer.Option(help="Folder of the tokenizer.")],
    out: Out,
    device: Device = "auto",
) -> None:
    """Turn a jet store into a token store."""
    from genscale.tokens import encode_store

    manifest = encode_store(store, tokenizer, out, device=resolve_device(device))
    typer.echo(f"{out}: {manifest.rows:,} jets, {manifest.items:,} tokens")


@app.command("decode")
def tokenizer_decode(
    tokens: Annotated[Path, typer.Argument(help="Token store.")],
    tokenizer: Annotated[Path, typer.Option(help="Folder of the tokenizer that made it.")],
    out: Out,
    device: Device = "auto",
) -> None:
    """Turn a token store into a jet store."""
    from genscale.tokens import decode_store

    manifest = decode_store(tokens, tokenizer, out, device=resolve_device(device))
    typer.echo(f"{out}: {manifest.rows:,} jets")


@app.command("quality")
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
