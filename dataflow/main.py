"""The entry point of `python -m bytewax.run dataflow.main`: from the settings to the graph."""

from __future__ import annotations

import os
import sys

from bytewax.dataflow import Dataflow

from connectors.observability import logs
from connectors.observability.recent_events import RecentEvents
from connectors.runtime.tuning import allocator, timer_slack
from dataflow import graph, wiring
from dataflow.config.settings import Settings, SettingsError, load_settings
from dataflow.startup.launch import LaunchError, parse_launch
from dataflow.startup.recovery import check_recovery_store, prepare_store


def flow() -> Dataflow:
    """Read the settings, prepare the recovery store, and build the graph.

    This function contacts no service. The stream starts without them, reports which service it
    waits for, and continues when that service responds.
    """
    settings = _settings()
    allocator.keep_one_heap()
    allocator.collect_seldom()
    recent = RecentEvents()
    logs.configure(
        settings.log_level, settings.log_format, settings.secret_values(), recent.add_log_line
    )
    try:
        launch = parse_launch(sys.argv, os.environ)
        check_recovery_store(launch)
        prepare_store(launch)
    except LaunchError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
    if "BYTEWAX_DATAFLOW_API_ENABLED" in os.environ:
        logs.get("stream").warning(
            "Bytewax's own web server is on: it listens on port 3030 of all addresses",
            remedy="unset BYTEWAX_DATAFLOW_API_ENABLED; any value, even 0, turns it on",
        )
    stream = graph.build(wiring.open_all(settings, launch, recent))
    if launch.has_worker_threads:
        timer_slack.give_slack()  # last, because threads that start later inherit it
    return stream


def _settings() -> Settings:
    try:
        return load_settings()
    except SettingsError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
