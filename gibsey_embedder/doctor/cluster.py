"""The processes of a cluster, as the BYTEWAX_* variables tell them."""

from __future__ import annotations

from collections.abc import Mapping

from dataflow.config.settings import Settings
from dataflow.startup.launch import Launch, LaunchError, launch
from gibsey_embedder.doctor.findings import Finding, bad, good

CHECK = "cluster"


def check_launch(settings: Settings, environ: Mapping[str, str]) -> tuple[Launch, list[Finding]]:
    """Read how a process would be started here.

    Returns:
        How, or one process where the variables cannot be used; and a finding, if there are any.
    """
    alone = Launch(workers=settings.workers)
    try:
        started = launch(["bytewax/run.py", "flow", "-w", str(settings.workers)], environ)
    except LaunchError as error:
        found, _, remedy = str(error).partition("; ")
        return alone, [bad(CHECK, found, remedy or "correct the BYTEWAX_* variables")]
    if not started.addresses:
        return alone, []
    own = started.addresses[started.process_id]
    place = f"process {started.process_id} of {started.process_count}, at {own}"
    return started, [good(CHECK, place)]
