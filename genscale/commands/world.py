"""Commands of worlds whose limits are known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from genscale.commands.options import Out, Overrides, Seed
from genscale.errors import InputError

app = typer.Typer(help="Jets whose floors are known, to test what a study finds.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of the world: see genscale world list.")]


@app.command("list")
def world_list() -> None:
    """List the worlds and their parameters with their defaults."""
    import dataclasses

    from genscale.worlds import WORLDS

    for name, world in WORLDS.items():
        typer.echo(f"{name}: {world.about}")
        for field in dataclasses.fields(world):  # type: ignore[arg-type]
            default = field.default_factory() if callable(field.default_factory) else field.default
            text = f"[{','.join(default)}]" if isinstance(default, list) else default
            typer.echo(f"    {field.name}={text}")
        typer.echo(f"    The class depends on {world.shown}.")


@app.command("sample")
def world_sample(
    name: Name,
    jets: Annotated[int, typer.Option(help="Training jets.", min=1)],
    out: Out,
    parameters: Overrides = None,
    validation_jets: Annotated[
        int, typer.Option(help="Held-out jets; 0: a tenth of the training jets.", min=0)
    ] = 0,
    test_jets: Annotated[int, typer.Option(help="Test jets; 0: a tenth of the training jets.", min=0)] = 0,
    seed: Seed = 1,
) -> None:
    """Sample a world into jet stores (for taggers), token stores (for generators) and a tokenizer.

    A study takes them as jets.stores=OUT/jets, tokenizer.folder=OUT/tokenizer and tokenizer.tokens=OUT/tokens. Run
    it again after an interruption to resume it.
    """
    from genscale.worlds import make_world

    world = make_world(name, parameters or [])
    from genscale.worlds.stores import write_world

    tenth = max(1, jets // 10)
    sizes = {"train": jets, "validation": validation_jets or tenth, "test": test_jets or tenth}
    write_world(world, out, sizes, seed=seed)
    typer.echo(f"{out}: {', '.join(f'{n:,} {split} jets' for split, n in sizes.items())} of {name}")


@app.command("floors")
def world_floors(
    name: Name,
    out: Annotated[Path, typer.Option(help="JSON file.")] = Path("floors.json"),
    parameters: Overrides = None,
    jets: Annotated[
        int,
        typer.Option(help="Jets to sample for what is not known exactly; 0: what the world needs.", min=0),
    ] = 0,
    seed: Seed = 1,
) -> None:
    """Compute the floors of generation and tagging, with their errors."""
    from genscale.worlds import make_world
    from genscale.worlds.floors import write_floors

    if out.suffix != ".json":
        raise InputError(f"--out {out}: a name that ends in .json")
    world = make_world(name, parameters or [])
    floors = write_floors(world, out, jets or world.floor_jets, seed)
    for key in ("generation_nats_per_token", "generation_given_class_nats_per_token", "tagging_nats"):
        floor = getattr(floors, key)
        typer.echo(f"{key:38s} {floor.value:.6f} ± {floor.error:.6f}")
    typer.echo(f"written to {out}")
