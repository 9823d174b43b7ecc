"""`gibsey-embedder run`: the stream, with its recovery store made and used."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NoReturn

import typer

import dataflow
from connectors.observability import logs
from dataflow.config.settings import Settings, load
from dataflow.startup.launch import Launch, LaunchError, launch
from gibsey_embedder.run.recovery_store import make_store
from gibsey_embedder.terminal.options import whole_number

FLOW = Path(dataflow.__file__).parent / "main.py"
"""As a file: so Bytewax finds the installed program from whatever directory it is started in."""

OWNER_ONLY = 0o077
NAME_S = 60.0
"""How long the name of a new pod may take to be known."""
NAME_AGAIN_S = 1.0

Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        "-w",
        metavar="COUNT",
        parser=whole_number(1),
        help="Worker threads; else WORKERS.",
    ),
]
RecoveryDir = Annotated[
    Path | None,
    typer.Option(
        "--recovery-dir",
        "-r",
        metavar="DIRECTORY",
        help="Where the recovery store is; else RECOVERY_DIR.",
    ),
]
SnapshotSeconds = Annotated[
    int | None,
    typer.Option(
        "--snapshot-seconds",
        "-s",
        metavar="SECONDS",
        parser=whole_number(1),
        help="Time between snapshots; else SNAPSHOT_SECONDS.",
    ),
]
ProcessId = Annotated[
    int | None,
    typer.Option(
        "--process-id",
        "-i",
        metavar="NUMBER",
        parser=whole_number(0),
        help="This process's place among the addresses, from 0 on.",
    ),
]
Addresses = Annotated[
    str | None,
    typer.Option(
        "--addresses",
        "-a",
        metavar="ADDRESSES",
        help='All processes of a cluster: "host:port;host:port".',
    ),
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
    started = launch(["bytewax/run.py", *arguments], environ)
    wait_for_own_name(started)
    os.umask(OWNER_ONLY)
    make_store(started, settings.recovery_partitions)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "bytewax.run", *arguments])  # noqa: S606


def wait_for_own_name(started: Launch, within_s: float = NAME_S) -> None:
    """Wait until this process's own address in the cluster is known.

    Bytewax waits for the names of the others, but ends where it does not know its own; that of a
    pod is known some seconds after it has started.

    Raises:
        LaunchError: It is not known in time.
    """
    if not started.is_cluster:
        return
    address = started.addresses[started.process_id]
    host = address.rpartition(":")[0].strip("[]")
    give_up = time.monotonic() + within_s
    while True:
        try:
            socket.getaddrinfo(host, None)
        except OSError as error:
            if time.monotonic() > give_up:
                raise LaunchError(
                    f"this process's own address {address} is not known here ({error}); correct "
                    "the addresses (-a, BYTEWAX_HOSTFILE_PATH), or see the DNS"
                ) from None
            time.sleep(NAME_AGAIN_S)
        else:
            return


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
