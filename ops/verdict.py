"""The stream's state in one word and one sentence: what a person wants to know at a glance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ops import health
from ops.status_view import StatusView

FRESH_S = 2.0
"""The mark up to which pages count as fresh."""
LATE_S = 5.0
"""The mark beyond which they count as late."""
BUSY = 0.8
"""A stage that uses this share of what it can do at once holds the others up."""
SLOTS_PER_ENDPOINT = 2

Stages = Mapping[str, Mapping[str, Any]]

_NAMES = {"embedder": "the embedder", "stargate": "Stargate", "rag": "the RAG service"}


def state(
    view: StatusView, stages: Stages, freshness: Mapping[str, Any], lag: float
) -> dict[str, object]:
    """Judge the stream.

    Returns:
        `level`: `stuck`, `stopping`, `waiting`, `starting`, `behind`, `busy` or `idle`;
        `text`: the same in a sentence; `bottleneck`: the slowest stage while there is a queue;
        `alive` and `ready`: as `/healthz` and `/readyz` answer.
    """
    alive, ready = health.liveness(view), health.readiness(view)
    slowest = bottleneck(view, stages, lag)
    if alive.ok and ready.ok:
        level, text = _working(view, stages, freshness, lag, slowest)
    else:
        level, text = (ready.status, ready.reason) if alive.ok else (alive.status, alive.reason)
    return {
        "level": level,
        "text": text[:1].upper() + text[1:],
        "bottleneck": slowest,
        "alive": alive.ok,
        "ready": ready.ok,
    }


def bottleneck(view: StatusView, stages: Stages, lag: float) -> str | None:
    """The stage that the others wait for; None while none of them is near its limit."""
    stalls = view.stalls.current()
    if stalls:
        return stalls[0].service
    loads = {name: _load(stages[name]) for name in _NAMES}
    name = max(loads, key=lambda stage: loads[stage])
    if loads[name] >= BUSY:
        return name
    # nothing is near its limit, and yet there is a queue: it is fed too slowly
    return "kafka" if lag > 100 and view.ledger.has_room() else None


def _load(stage: Mapping[str, Any]) -> float:
    """Which share of its places in flight a stage used."""
    if "endpoints" in stage:
        places = len(stage["endpoints"]) * SLOTS_PER_ENDPOINT
    else:
        places = stage["concurrency"] or 0
    return (stage["in_flight_mean"] or 0.0) / places if places else 0.0


def _working(
    view: StatusView,
    stages: Stages,
    freshness: Mapping[str, Any],
    lag: float,
    slowest: str | None,
) -> tuple[str, str]:
    p95 = freshness["kafka"]["p95_s"]
    rate = stages["stargate"]["rate_per_s"] or 0.0
    late = p95 is not None and p95 > LATE_S
    if not lag and not view.ledger.open_pages and not rate:
        return "idle", "nothing to do: every change is in its outputs"
    if not late:
        return "busy", "keeping up"
    left = f", about {_duration(lag / rate)} to go" if rate and lag else ""
    who = f"; the slowest stage is {_NAMES.get(slowest, slowest)}" if slowest else ""
    return "behind", f"working through a backlog of {lag:,.0f}{left}{who}"


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
