"""`python -m bytewax.run dataflow.main`: from the settings to the graph."""

from __future__ import annotations

import os
import sys

from bytewax.dataflow import Dataflow

from connectors.observability import logs
from connectors.observability.recent_events import RecentEvents
from connectors.runtime.tuning import allocator, timer_slack
from dataflow import graph, wiring
from dataflow.config.settings import Settings, SettingsError, load
from dataflow.startup.launch import LaunchError, launch
from dataflow.startup.recovery import check_recovery, make_ready


def flow() -> Dataflow:
    """Read the settings, open what the stream stands on, and wire the graph.

    Nothing is asked of any service here: the stream starts, says what it waits for, and goes on
    when it comes.
    """
    settings = _settings()
    allocator.keep_one_heap()
    allocator.collect_seldom()
    recent = RecentEvents()
    logs.configure(
        settings.log_level, settings.log_format, settings.secret_values(), recent.note_line
    )
    try:
        started = launch(sys.argv, os.environ)
        check_recovery(started)
        make_ready(started)
    except LaunchError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
    if "BYTEWAX_DATAFLOW_API_ENABLED" in os.environ:
        logs.get("stream").warning(
            "Bytewax's own web server is on: it listens on all addresses, port 3030, for anybody",
            remedy="unset BYTEWAX_DATAFLOW_API_ENABLED; any value, even 0, turns it on",
        )
    built = graph.build(wiring.open_all(settings, started, recent))
    if started.has_worker_threads:
        timer_slack.give_slack()  # last: other threads would inherit it
    return built


def _settings() -> Settings:
    try:
        return load()
    except SettingsError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
