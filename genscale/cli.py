"""The command line: the commands of ``genscale.commands`` under one name.

Large libraries are imported only by the commands that need them.
"""

from __future__ import annotations

import sys

import typer

from genscale.commands import evaluate, generate, jets, laws, study, tag, tokenizer, train, world
from genscale.errors import run_guarded

app = typer.Typer(
    name="genscale",
    help=(
        "Neural scaling laws for jets: generation and tagging, side by side.\n\n"
        "A study does everything: `genscale study run quickstart`. The other "
        "commands are its steps, one at a time."
    ),
    no_args_is_help=True,
    rich_markup_mode="markdown",  # "rich" would interpret brackets, as in kinds=[vq,fsq], as styles
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(jets.app)
app.add_typer(tokenizer.app, name="tokenizer")
app.add_typer(train.app, name="train")
app.add_typer(generate.app)
app.add_typer(tag.app)
app.add_typer(evaluate.app)
app.add_typer(laws.app)
app.add_typer(study.app, name="study")
app.add_typer(world.app, name="world")


def main() -> None:
    """Entry point of the ``genscale`` command."""
    sys.exit(run_guarded(lambda: app(standalone_mode=True)))


if __name__ == "__main__":
    main()
