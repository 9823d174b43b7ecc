"""The command `gibsey-embedder`; each subcommand is a function in a module of its own.

`main` prints a command's `SettingsError`, `LaunchError` or `RecoveryError`, and sets the exit code:
0 success, 1 a check failed, 2 incorrect usage or settings.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from dataflow.config.settings import SettingsError
from dataflow.startup.launch import LaunchError
from dataflow.startup.recovery import RecoveryError
from gibsey_embedder.dead_letters.listing import dead_letters
from gibsey_embedder.dead_letters.replay import replay
from gibsey_embedder.doctor.doctor import doctor
from gibsey_embedder.run.gather import gather
from gibsey_embedder.run.run import run
from gibsey_embedder.search.search import search
from gibsey_embedder.tables.audit import audit
from gibsey_embedder.tables.backfill import backfill
from gibsey_embedder.terminal.help_style import PlainCommand, PlainGroup

app = typer.Typer(
    name="gibsey-embedder",
    cls=PlainGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        try:
            print(version("gibsey-embedder"))
        except PackageNotFoundError:
            print("unknown: gibsey-embedder is not installed")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
]


@app.callback()
def _root(_version: Version = False) -> None:
    """Keep vectors in Cassandra in step with page changes in Kafka, and notify the RAG service.

    Settings are environment variables or lines in .env. The file .env.example explains them.
    """


def demo(
    once: Annotated[
        bool,
        typer.Option(
            "--once", help="Check the result and exit; the exit code is 0 if it is right."
        ),
    ] = False,
) -> None:
    """Run the whole stream on this machine, with a fake of every service.

    The demo needs no other service. It embeds, edits and searches pages of Python's documentation.
    """
    from gibsey_embedder.demo.run import main as run_demo

    raise typer.Exit(run_demo(once))


COMMANDS: dict[str, Callable[..., object]] = {
    "run": run,
    "demo": demo,
    "doctor": doctor,
    "dead-letters": dead_letters,
    "replay": replay,
    "gather": gather,
    "audit": audit,
    "backfill": backfill,
    "search": search,
}
for name, command in COMMANDS.items():
    app.command(name, cls=PlainCommand)(command)


def main() -> None:
    """Run the command line: the entry point of `gibsey-embedder`."""
    try:
        app()
    except (SettingsError, LaunchError) as error:
        print(error, file=sys.stderr)
        sys.exit(1 if isinstance(error, RecoveryError) else 2)


if __name__ == "__main__":
    main()
