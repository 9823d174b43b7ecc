"""`gibsey-embedder run`: creates the recovery store and starts the stream."""

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
from dataflow.config.settings import Settings, load_settings
from dataflow.startup.launch import Launch, LaunchError, parse_launch
from gibsey_embedder.run.recovery_store import create_store
from gibsey_embedder.terminal.options import whole_number

FLOW = Path(dataflow.__file__).parent / "main.py"
"""The path of the file, with which Bytewax finds the installed program from any directory."""

OWNER_ONLY = 0o077
NAME_TIMEOUT_S = 60.0
"""The name of a new pod becomes known within this time."""
NAME_RETRY_S = 1.0

Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        "-w",
        metavar="COUNT",
        parser=whole_number(1),
        help="Number of worker threads. Default: WORKERS.",
    ),
]
RecoveryDir = Annotated[
    Path | None,
    typer.Option(
        "--recovery-dir",
        "-r",
        metavar="DIRECTORY",
        help="Directory of the recovery store. Default: RECOVERY_DIR.",
    ),
]
SnapshotSeconds = Annotated[
    int | None,
    typer.Option(
        "--snapshot-seconds",
        "-s",
        metavar="SECONDS",
        parser=whole_number(1),
        help="Seconds between two snapshots. Default: SNAPSHOT_SECONDS.",
    ),
]
ProcessId = Annotated[
    int | None,
    typer.Option(
        "--process-id",
        "-i",
        metavar="NUMBER",
        parser=whole_number(0),
        help="Number of this process in the list of addresses; the first is 0.",
    ),
]
Addresses = Annotated[
    str | None,
    typer.Option(
        "--addresses",
        "-a",
        metavar="ADDRESSES",
        help='Addresses of all processes of a cluster: "host:port;host:port".',
    ),
]


def run(
    workers: Workers = None,
    recovery_dir: RecoveryDir = None,
    snapshot_seconds: SnapshotSeconds = None,
    process_id: ProcessId = None,
    addresses: Addresses = None,
) -> NoReturn:
    """Run the stream: read page changes from Kafka, store their vectors, notify the RAG service.

    The command creates the recovery store if it does not exist (in a cluster, process 0 does). A
    restart continues where the last run stopped. Stop with Ctrl-C or SIGTERM; no page is lost. All
    other settings are variables; .env.example explains them.
    """
    settings = load_settings()
    logs.configure(settings.log_level, settings.log_format, settings.secret_values())
    environ = os.environ  # noqa: TID251 - `parse_launch` reads Bytewax's own variables
    options = {
        "workers": workers,
        "recovery_dir": recovery_dir,
        "snapshot_seconds": snapshot_seconds,
        "process_id": process_id,
        "addresses": addresses,
    }
    arguments = bytewax_arguments(options, settings, environ)
    launch = parse_launch(["bytewax/run.py", *arguments], environ)
    wait_for_own_name(launch)
    os.umask(OWNER_ONLY)
    create_store(launch, settings.recovery_partitions)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "bytewax.run", *arguments])  # noqa: S606


def wait_for_own_name(
    launch: Launch, timeout_s: float = NAME_TIMEOUT_S, retry_s: float = NAME_RETRY_S
) -> None:
    """Wait until this process's own host name resolves.

    Bytewax waits for the names of the other processes, but exits if its own name does not resolve.
    DNS resolves a new pod's name some seconds after the pod starts.

    Args:
        launch: The command line of the process; a single process does not wait.
        timeout_s: Seconds until the function gives up.
        retry_s: Seconds between two attempts.

    Raises:
        LaunchError: The name does not resolve in time.
    """
    if not launch.is_cluster:
        return
    address = launch.addresses[launch.process_id]
    host = address.rpartition(":")[0].strip("[]")
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            socket.getaddrinfo(host, None)
        except OSError as error:
            if time.monotonic() > deadline:
                raise LaunchError(
                    f"this process's own address {address} is not known here ({error}); correct "
                    "the addresses (-a, BYTEWAX_HOSTFILE_PATH) or the DNS"
                ) from None
            time.sleep(retry_s)
        else:
            return


def bytewax_arguments(
    options: Mapping[str, object], settings: Settings, environ: Mapping[str, str]
) -> list[str]:
    """Return the arguments for `bytewax.run`.

    An option takes precedence over a setting, a setting over Bytewax's own variable (which Bytewax
    then reads itself), and that variable over the default of the setting.
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
