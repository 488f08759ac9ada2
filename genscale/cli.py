"""The command line: the commands of ``genscale.commands`` under one name, and the exit codes of their failures.

Large libraries are imported only by the commands that need them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from genscale.commands import jets, scores, studies, tokens, training
from genscale.errors import CellFailed, InputError, Interrupted

app = typer.Typer(
    name="genscale",
    help=(
        "Neural scaling laws for jets: generation and tagging, side by side.\n\n"
        "A study does everything: `genscale study run configs/studies/quickstart.yaml`. The other "
        "commands are its steps, one at a time."
    ),
    no_args_is_help=True,
    rich_markup_mode="markdown",  # "rich" would interpret brackets, as in kinds=[vq,fsq], as styles
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(jets.app)
app.add_typer(tokens.app, name="tokenizer")
app.add_typer(training.app)
app.add_typer(scores.app)
app.add_typer(studies.app, name="study")


def run_guarded(command: Callable[[], object]) -> int:
    """Run a command and return its exit code: 2 for bad input, with one line instead of a traceback."""
    import eval.common.errors
    import tokenizer.errors

    bad_input = (InputError, eval.common.errors.InputError, tokenizer.errors.InputError)
    try:
        command()
    except bad_input as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return 2
    except Interrupted as error:
        print(error, file=sys.stderr)
        return 128 + error.signal
    except (CellFailed, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        _end_process_group()
    return 0


def _end_process_group() -> None:
    """Close the connections of a training on several processes; a process that exits with open ones may abort."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def main() -> None:
    """Entry point of the ``genscale`` command."""
    sys.exit(run_guarded(lambda: app(standalone_mode=True)))


if __name__ == "__main__":
    main()
