"""The `stm-fast` command. Commands import what they need when they run, so that `--help` is fast."""

import os
import signal
from typing import Annotated

import typer

import stm_fast
from stm_fast.cli import threads
from stm_fast.cli.annotate import annotate
from stm_fast.cli.console import DEBUG_VARIABLE, Commands, stdout, takes_loudness
from stm_fast.cli.demo import demo
from stm_fast.cli.doctor import doctor
from stm_fast.cli.evaluate import evaluate
from stm_fast.cli.export import export
from stm_fast.cli.export_model import export_model
from stm_fast.cli.score import score
from stm_fast.cli.segment import segment
from stm_fast.cli.suggest import suggest
from stm_fast.cli.train import EPILOG as RECIPES
from stm_fast.cli.train import train
from stm_fast.cli.tune import tune

WORDS = "docs/glossary.md explains the words: memory, policy, prototype, offload, uncertainty and others."

app = typer.Typer(
    name="stm-fast",
    cls=Commands,
    help="Space-Time Memory video object segmentation.",
    epilog=WORDS,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command(epilog=WORDS)(segment)
app.command(epilog=WORDS)(annotate)
app.command()(demo)
app.command(epilog=WORDS)(suggest)
app.command(epilog=WORDS)(export)
app.command()(export_model)
app.command(epilog=WORDS)(evaluate)
app.command(epilog=WORDS)(score)
app.command()(doctor)
app.command()(tune)
app.command(epilog=RECIPES)(train)


def main() -> None:
    """Entry point of the `stm-fast` command; see `stm_fast.cli.console` for its exit codes.

    A termination, as batch systems send one, ends a command as tidily as Ctrl-C does.
    """
    threads.wait_briefly()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app()


def _version(asked: bool) -> None:
    if asked:
        stdout.print(stm_fast.__version__)
        raise typer.Exit


@app.callback()
@takes_loudness
def _settings(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"


if __name__ == "__main__":
    main()
