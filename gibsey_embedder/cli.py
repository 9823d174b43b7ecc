"""The command `gibsey-embedder`. A new command is a function in its own module, registered here.

Commands raise `SettingsError`, `LaunchError` and `RecoveryError` as they come; `main` turns them
into a line and an exit code: 0 good, 1 a check failed, 2 wrong usage or settings.
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
            print("unknown: run from a source tree that is not installed")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
]


@app.callback()
def _root(_version: Version = False) -> None:
    """Turn page changes from Kafka into vectors in Cassandra, and tell the RAG service.

    Settings are environment variables, or lines in .env; .env.example explains each.
    """


def demo(
    once: Annotated[
        bool, typer.Option("--once", help="Check the outcome and end, 0 if all is right.")
    ] = False,
) -> None:
    """See the whole stream run on this machine, with stand-ins for every service.

    It needs nothing else: pages of Python's own documentation are embedded, edited, and searched.
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
    """Run the command line; the entry point of `gibsey-embedder`."""
    try:
        app()
    except (SettingsError, LaunchError) as error:
        print(error, file=sys.stderr)
        sys.exit(1 if isinstance(error, RecoveryError) else 2)


if __name__ == "__main__":
    main()
