"""Checks the processes of a cluster, which the BYTEWAX_* variables list."""

from __future__ import annotations

from collections.abc import Mapping

from connectors.core.findings import Finding, bad, good
from dataflow.config.settings import Settings
from dataflow.startup.launch import Launch, LaunchError, parse_launch

CHECK = "cluster"


def check_cluster(settings: Settings, environ: Mapping[str, str]) -> tuple[Launch, list[Finding]]:
    """Read the command line of a process from the environment.

    Returns:
        The command line (that of a single process if the variables are invalid), and the findings.
    """
    single = Launch(workers=settings.workers)
    try:
        launch = parse_launch(["bytewax/run.py", "flow", "-w", str(settings.workers)], environ)
    except LaunchError as error:
        found, _, remedy = str(error).partition("; ")
        return single, [bad(CHECK, found, remedy or "correct the BYTEWAX_* variables")]
    if not launch.addresses:
        return single, []
    address = launch.addresses[launch.process_id]
    found = f"process {launch.process_id} of {launch.process_count}, at {address}"
    return launch, [good(CHECK, found)]
