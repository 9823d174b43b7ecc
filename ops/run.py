"""`gibsey-embedder run`: the stream, with its recovery store made and used."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NoReturn

import typer

import dataflow
from connectors import logs
from dataflow.launch import launch
from dataflow.settings import Settings, load
from ops.recovery_store import make_store

FLOW = Path(dataflow.__file__).parent / "main.py"
"""As a file: so Bytewax finds the installed program from whatever directory it is started in."""

OWNER_ONLY = 0o077

Workers = Annotated[
    int | None, typer.Option("--workers", "-w", min=1, help="Worker threads; else WORKERS.")
]
RecoveryDir = Annotated[
    Path | None,
    typer.Option("--recovery-dir", "-r", help="Where the recovery store is; else RECOVERY_DIR."),
]
SnapshotSeconds = Annotated[
    int | None,
    typer.Option(
        "--snapshot-seconds", "-s", min=1, help="Seconds between snapshots; else SNAPSHOT_SECONDS."
    ),
]
ProcessId = Annotated[
    int | None,
    typer.Option("--process-id", "-i", min=0, help="This process's place among the addresses."),
]
Addresses = Annotated[
    str | None,
    typer.Option("--addresses", "-a", help='All processes of a cluster: "host:port;host:port".'),
]


def run(
    workers: Workers = None,
    recovery_dir: RecoveryDir = None,
    snapshot_seconds: SnapshotSeconds = None,
    process_id: ProcessId = None,
    addresses: Addresses = None,
) -> NoReturn:
    """Run the stream: pages from Kafka become vectors in Stargate, and the RAG service is told.

    The recovery store is made when it is missing (in a cluster by process 0), so that a restart
    goes on where the last run stopped. Stop with Ctrl-C or SIGTERM; nothing is lost. Every other
    setting is a variable, explained in .env.example.
    """
    settings = load()
    logs.configure(settings.log_level, settings.log_format, settings.secret_values())
    environ = os.environ  # noqa: TID251 - Bytewax's own variables, read by `launch`
    options = {
        "workers": workers,
        "recovery_dir": recovery_dir,
        "snapshot_seconds": snapshot_seconds,
        "process_id": process_id,
        "addresses": addresses,
    }
    arguments = bytewax_arguments(options, settings, environ)
    os.umask(OWNER_ONLY)
    make_store(launch(["bytewax/run.py", *arguments], environ), settings.recovery_partitions)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "bytewax.run", *arguments])  # noqa: S606


def bytewax_arguments(
    options: Mapping[str, object], settings: Settings, environ: Mapping[str, str]
) -> list[str]:
    """Return what `bytewax.run` is started with.

    An option given wins over a setting given, that one over Bytewax's own variable (which is then
    left to Bytewax), and that over the setting's default.
    """
    arguments = [f"{FLOW}:flow"]
    for flag, name, variable in (
        ("-w", "workers", "BYTEWAX_WORKERS_PER_PROCESS"),
        ("-r", "recovery_dir", "BYTEWAX_RECOVERY_DIRECTORY"),
        ("-s", "snapshot_seconds", "BYTEWAX_SNAPSHOT_INTERVAL"),
    ):
        if options[name] is not None:
            arguments += [flag, str(options[name])]
        elif name in settings.model_fields_set or variable not in environ:
            arguments += [flag, str(getattr(settings, name))]
    if "BYTEWAX_RECOVERY_BACKUP_INTERVAL" not in environ:
        arguments += ["-b", "0"]
    for flag, name in (("-i", "process_id"), ("-a", "addresses")):
        if options[name] is not None:
            arguments += [flag, str(options[name])]
    return arguments
