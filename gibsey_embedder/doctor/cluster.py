"""The processes of a cluster, as the BYTEWAX_* variables tell them."""

from __future__ import annotations

from collections.abc import Mapping

from dataflow.config.settings import Settings
from dataflow.startup.launch import Launch, LaunchError, parse_launch
from gibsey_embedder.doctor.findings import Finding, bad, good

CHECK = "cluster"


def check_launch(settings: Settings, environ: Mapping[str, str]) -> tuple[Launch, list[Finding]]:
    """Read how a process would be launch here.

    Returns:
        How, or one process where the variables cannot be used; and a finding, if there are any.
    """
    alone = Launch(workers=settings.workers)
    try:
        launch = parse_launch(["bytewax/run.py", "flow", "-w", str(settings.workers)], environ)
    except LaunchError as error:
        found, _, remedy = str(error).partition("; ")
        return alone, [bad(CHECK, found, remedy or "correct the BYTEWAX_* variables")]
    if not launch.addresses:
        return alone, []
    own = launch.addresses[launch.process_id]
    place = f"process {launch.process_id} of {launch.process_count}, at {own}"
    return launch, [good(CHECK, place)]
