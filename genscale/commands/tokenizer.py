"""Commands of the tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from genscale.commands.train import report_run
from genscale.inference.device import resolve_device
from genscale.shipped import find_config

if TYPE_CHECKING:
    from genscale.comparison.result import Comparison

app = typer.Typer(help="Encode jets as discrete tokens, and decode them.", no_args_is_help=True)


@app.command("fit")
def tokenizer_fit(
    store: Annotated[Path, typer.Argument(help="Jet store of the training jets.")],
    out: RunOut,
    overrides: Overrides = None,
    config: ConfigFile = None,
    validation: Annotated[
        Path | None, typer.Option(help="Held-out jet store; needed here, in --config or as validation=STORE.")
    ] = None,
) -> None:
    """Train a VQ-VAE tokenizer. Run it again after an interruption to resume the training."""
    from genscale.config import load_config
    from genscale.training.loop import train
    from genscale.training.tokenizer import TokenizerRun, TokenizerTask

    require_run_folder(out)
    given = [f"jets={store}", *([f"validation={validation}"] if validation else [])]
    run = load_config(TokenizerRun, find_config("tokenizer", config), [*given, *(overrides or [])])
    report_run(train(TokenizerTask(run), run.training, out), out)


@app.command("encode")
def tokenizer_encode(
    store: Annotated[Path, typer.Argument(help="Jet store.")],
    tokenizer: Annotated[Path, typer.Option(help="Folder of the tokenizer.")],
    out: Out,
    accept_loss: AcceptLoss = False,
    device: Device = "auto",
) -> None:
    """Turn a jet store into a token store."""
    from genscale.inference.stores import encode_store

    manifest = encode_store(store, tokenizer, out, accept_loss=accept_loss, device=resolve_device(device))
    typer.echo(f"{out}: {manifest.rows:,} jets, {manifest.items:,} tokens")


@app.command("decode")
def tokenizer_decode(
    tokens: Annotated[Path, typer.Argument(help="Token store.")],
    tokenizer: Annotated[Path, typer.Option(help="Folder of the tokenizer that made it.")],
    out: Out,
    device: Device = "auto",
) -> None:
    """Turn a token store into a jet store."""
    from genscale.inference.stores import decode_store

    manifest = decode_store(tokens, tokenizer, out, device=resolve_device(device))
    typer.echo(f"{out}: {manifest.rows:,} jets")


@app.command("bin")
def tokenizer_bin(
    store: Annotated[Path, typer.Argument(help="Jet store from whose jets the bins are determined.")],
    out: RunOut,
    overrides: Overrides = None,
    jets: Annotated[int, typer.Option(help="Number of jets that determine them; 0: all.", min=0)] = 20_000,
) -> None:
    """Make a tokenizer of plain bins in (ln pT, eta_rel, phi_rel), without a network.

    Keys: bins=[16,8,8], spacing=quantile or uniform, pt_range_gev=[0.05,1000]. Only such a tokenizer has cells of
    known volume, so that probabilities of tokens can be turned into densities of jets.
    """
    require_run_folder(out)
    from genscale.config import load_config
    from genscale.training.tokenizer import fit_binning
    from tokenizer import BinningConfig

    made = fit_binning(load_config(BinningConfig, None, overrides or []), store, out, n_jets=jets)
    typer.echo(f"{out}: {made.config.codebook_size:,} cells")


@app.command("coarsen")
def tokenizer_coarsen(
    tokenizer: Annotated[Path, typer.Argument(help="Folder of a VQ-VAE tokenizer.")],
    codes: Annotated[int, typer.Option(help="Codes to keep, fewer than it has.", min=2)],
    out: RunOut,
    seed: Seed = 0,
) -> None:
    """Merge the codes of a tokenizer by k-means of their vectors, which gives a coarser one without training.

    Generators trained on the tokens of several of them show what depends on the codebook, such as the share of the
    tokens' information that can be learned.
    """
    require_run_folder(out)
    from genscale.inference.stores import coarsen_tokenizer

    coarsen_tokenizer(tokenizer, out, codes, seed=seed)
    typer.echo(f"{out}: {codes:,} codes")


@app.command("quality")
def tokenizer_quality(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Folders of tokenizers, then the jet store.", metavar="TOKENIZER... STORE"),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="One tokenizer: JSON file (default quality.json), a figure goes beside it. Several: folder "
            "(default quality)."
        ),
    ] = None,
    jets: Annotated[int, typer.Option(help="Jets to measure on; 0: all of the store.", min=0)] = 0,
    device: Device = "auto",
) -> None:
    """Measure rate, codebook use, resolution, and the distance of decoded from original jets.

    With several tokenizers: compare them, and name the one to use within each budget.
    """
    from genscale.errors import InputError

    *tokenizers, store = paths
    if not tokenizers:
        raise InputError(
            f"{store}: one path only; give the tokenizers and then the jet store to measure them on"
        )
    if len(tokenizers) > 1:
        from genscale.comparison.measure import compare_tokenizers

        folder = out or Path("quality")
        _report(
            compare_tokenizers(tokenizers, store, folder, n_jets=jets, device=resolve_device(device)), folder
        )
        return
    from genscale.inference.stores import tokenizer_quality as run

    file = out or Path("quality.json")
    if file.suffix != ".json":
        raise InputError(f"--out {file}: a name that ends in .json; a figure goes beside it")
    file.parent.mkdir(parents=True, exist_ok=True)
    found = run(
        tokenizers[0], store, file, file.with_suffix(".png"), n_jets=jets, device=resolve_device(device)
    )
    typer.echo(
        f"codes used {found['codes_used']} of {found['codebook_size']}, perplexity {found['perplexity']:.1f}, "
        f"{found['bits_per_jet']:.0f} bits per jet"
    )
    for group in ("particle", "jet"):
        for name, r in found[group].items():
            typer.echo(
                f"  {group:8s} {name:14s} bias {r['bias']:+.4f}  68 % half-width {r['half_width_68']:.4f}"
            )
    typer.echo(f"written to {file} and {file.with_suffix('.png')}")


@app.command("compare")
def tokenizer_compare(
    jets: Annotated[Path, typer.Option(help="Jet store to train on.")],
    validation: Annotated[Path, typer.Option(help="Held-out jet store for the trainings.")],
    test: Annotated[Path, typer.Option(help="Jet store to measure on.")],
    out: Annotated[Path, typer.Option(help="Folder of the tokenizers and their comparison.")],
    overrides: Overrides = None,
    config: ConfigFile = None,
    test_jets: Annotated[int, typer.Option(help="Jets to measure on; 0: all of the store.", min=0)] = 0,
    device: Device = "auto",
) -> None:
    """Train a family of tokenizers and compare them; finished ones are kept when the command is run again.

    For example with --config comparison; kinds=[vq,fsq] codebook_sizes=[512] make it small.
    """
    from genscale.comparison.family import FamilyConfig, train_family
    from genscale.comparison.measure import compare_tokenizers
    from genscale.config import load_config

    family = load_config(FamilyConfig, find_config("tokenizer", config), overrides or [])
    folders = train_family(family, jets, validation, out)
    _report(compare_tokenizers(folders, test, out, n_jets=test_jets, device=resolve_device(device)), out)


def _report(found: Comparison, out: Path) -> None:
    """Print the recommendations."""
    from genscale.comparison.page import recommendations

    for line in recommendations(found):
        typer.echo(line)
    typer.echo(f"page, table and figure: {out / 'comparison.html'}")
