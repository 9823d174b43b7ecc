"""Summarises the state of the stream in one word and one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connectors.embedders.failover import REMEDY, FallbackStatus
from connectors.embedders.service import SERVICE as EMBEDDER
from gibsey_embedder.status import health
from gibsey_embedder.status.view import StatusView

LATE_S = 5.0
"""Pages that take longer are late."""
BUSY = 0.8
"""A stage that uses this share of its slots holds up the others."""
MANY = 100
"""More events than are in flight anyway."""

Stages = Mapping[str, Mapping[str, Any]]

_BEFORE_EMBEDDER = ("kafka", "filter", "window")


def summarize(
    view: StatusView,
    stages: Stages,
    freshness: Mapping[str, Any],
    lag: int | None,
    other_space: float = 0.0,
) -> dict[str, object]:
    """Summarise the stream.

    Args:
        view: The state of the stream.
        stages: The figures of each stage.
        freshness: The freshness of the pages of the last minute.
        lag: Messages that are not settled; None: not counted yet.
        other_space: Pages that have a vector of the fallback.

    Returns:
        `level`: `stuck`, `stopping`, `waiting`, `starting`, `fallback`, `behind`, `busy` or
        `idle`;
        `text`: the same in a sentence; `bottleneck`: the stage that holds up the others, or null;
        `to_go_s`: seconds until the lag is processed at the present rate, null if the rate
        is 0; `alive` and `ready`: as `/healthz` and `/readyz` respond.
    """
    alive, ready = health.liveness(view), health.readiness(view)
    slowest = _bottleneck(view, stages, lag)
    to_go_s = _to_go_s(view, stages, lag)
    if alive.ok and ready.ok:
        is_idle = lag == 0 and not view.tracker.open_pages
        suffix = _slowest_stage(view, slowest)
        level, text = _working(is_idle, freshness["kafka"]["p95_s"], lag, to_go_s, suffix)
        level, text = _with_fallback(view.batcher.fallback_status, level, text, other_space)
    else:
        problem = ready if alive.ok else alive
        level, text = problem.status, _all_stalls(view) or problem.reason
    return {
        "level": level,
        "text": text[:1].upper() + text[1:],
        "bottleneck": slowest,
        "to_go_s": to_go_s,
        "alive": alive.ok,
        "ready": ready.ok,
    }


def stage_states(view: StatusView, stages: Stages, slowest: object) -> dict[str, str]:
    """Return one word for each stage: `waiting`, `held`, `slowest`, `working` or `idle`.

    `waiting` is the stage whose service the stream waits for. The stages before it are `held` while
    events wait in them. Dead letters are `faults` if there are any since the start, else `none`.
    """
    stalled = {view.service(stall.service).stage for stall in view.stalls.current()}
    is_holding = stalled and view.tracker.open_pages
    held = _stages_before(view, str(slowest)) if is_holding else ()
    states = {}
    for name, stage in stages.items():
        if name in stalled:
            states[name] = "waiting"
        elif name == "dead_letters":
            states[name] = "faults" if stage["total"] else "none"
        elif name == slowest:
            states[name] = "slowest"
        elif stage["rate_per_s"]:
            states[name] = "working"
        else:
            states[name] = "held" if name in held else "idle"
    return states


def _stages_before(view: StatusView, stage: str) -> tuple[str, ...]:
    """Return the stages that a stage holds up."""
    if stage == EMBEDDER.stage:
        return _BEFORE_EMBEDDER
    after_embedder = {output.service.stage for output in view.outputs} | {"dead_letters"}
    return (*_BEFORE_EMBEDDER, EMBEDDER.stage) if stage in after_embedder else ()


def _all_stalls(view: StatusView) -> str:
    """Return what the stream waits for; the page shows the remedy of each stall separately."""
    stalls = view.stalls.current()
    if not stalls:
        return ""
    first, *others = stalls
    text = health.describe_stall(view, first)
    if others:
        titles = ", ".join(view.service(stall.service).title for stall in others)
        return f"{text} (and for {titles})"
    while_away = view.service(first.service).while_away
    return f"{text}; {while_away}" if while_away else text


def _with_fallback(
    fallback: FallbackStatus | None, level: str, text: str, other_space: float
) -> tuple[str, str]:
    """Add the state of the fallback, or the number of its vectors that are left."""
    if fallback is not None:
        held = f", {fallback.held:,} wait for the embedder" if fallback.held else ""
        return "fallback", (
            f"the embedder is unavailable ({fallback.reason}), and {fallback.model} at "
            f"{fallback.name} embeds instead: {fallback.pages:,} pages{held}; {text}"
        )
    if other_space:
        verb = "page has a vector" if other_space == 1 else "pages have vectors"
        text += f"; {other_space:,.0f} {verb} of the fallback: {REMEDY}"
    return level, text


def _bottleneck(view: StatusView, stages: Stages, lag: int | None) -> str | None:
    """Return the stage that the others wait for; None while no stage is near its limit."""
    stalls = view.stalls.current()
    if stalls:
        return view.service(stalls[0].service).stage
    limited = [EMBEDDER.stage, *(output.service.stage for output in view.outputs)]
    loads = {name: stages[name]["load"] or 0.0 for name in limited}
    name = max(loads, key=lambda stage: loads[stage])
    if loads[name] >= BUSY:
        return name
    # No stage is near its limit, but events wait: reading is the slowest stage.
    return "kafka" if (lag or 0) > MANY and view.tracker.open_pages < MANY else None


def _slowest_stage(view: StatusView, stage: str | None) -> str:
    """Return the end of a sentence that names the slowest stage; empty if there is none."""
    if stage is None:
        return ""
    services = (service for service in view.services if service.stage == stage)
    names = (service.activity or service.title for service in services)
    return f"; the slowest stage is {next(names, stage)}"


def _to_go_s(view: StatusView, stages: Stages, lag: int | None) -> float | None:
    if any(stall.service == "kafka" for stall in view.stalls.current()):
        return None  # the number of new events is unknown
    rate = stages["kafka"]["rate_per_s"]
    if not lag:
        return None if lag is None else 0.0
    return round(lag / rate, 1) if rate else None


def _working(
    is_idle: bool, p95_s: float | None, lag: int | None, to_go_s: float | None, suffix: str
) -> tuple[str, str]:
    if is_idle:
        late = "; the pages of the last minute were late" if _is_late(p95_s) else ""
        return "idle", f"nothing to do: every change is in its outputs{late}"
    if lag is None:
        return "starting", "counting the events that wait"
    if to_go_s is None:
        return "behind", f"{lag:,.0f} events wait and nothing has been settled for 10 s{suffix}"
    if to_go_s > LATE_S:
        return "behind", f"processing a backlog of {lag:,.0f} events{suffix}"
    if _is_late(p95_s):
        return "busy", f"caught up: the pages of the last minute were late{suffix}"
    return "busy", f"every change reaches its outputs within {LATE_S:.0f} s{suffix}"


def _is_late(p95_s: float | None) -> bool:
    return p95_s is not None and p95_s > LATE_S
