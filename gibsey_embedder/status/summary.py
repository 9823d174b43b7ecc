"""The stream's state in one word and one sentence: what a person wants to know at a glance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connectors.embedders.failover import REMEDY, FallbackStatus
from gibsey_embedder.status import health
from gibsey_embedder.status.view import StatusView

LATE_S = 5.0
"""Pages that take longer count as late."""
BUSY = 0.8
"""A stage that uses this share of what it can do at once holds the others up."""
MANY = 100
"""Events that are more than what is in flight anyway."""

Stages = Mapping[str, Mapping[str, Any]]

_NAMES = {
    "kafka": "reading from Kafka",
    "embedder": "the embedder",
    "stargate": "Stargate",
    "rag": "the RAG service",
}
_STAGE_OF = {"dead-letters": "dead_letters", "topic": "kafka"}
"""The stages whose names differ from their service's."""
_GOES_ON = "; rows are stored meanwhile, and what it cannot be told becomes dead letters"
_TO_EMBEDDER = ("kafka", "filter", "window")
_BEFORE = {
    "embedder": _TO_EMBEDDER,
    "stargate": (*_TO_EMBEDDER, "embedder"),
    "rag": (*_TO_EMBEDDER, "embedder"),
    "dead_letters": (*_TO_EMBEDDER, "embedder"),
}
"""The stages that a stage holds up."""


def summarize(
    view: StatusView,
    stages: Stages,
    freshness: Mapping[str, Any],
    lag: int | None,
    other_space: float = 0.0,
) -> dict[str, object]:
    """Judge the stream.

    Args:
        view: The stream.
        stages: What the stages do.
        freshness: How fresh the pages of the last minute were.
        lag: Messages that are not settled; None where they are not counted yet.
        other_space: Pages that have a vector of the fallback.

    Returns:
        `level`: `stuck`, `stopping`, `waiting`, `starting`, `fallback`, `behind`, `busy` or
        `idle`;
        `text`: the same in a sentence; `bottleneck`: the stage that holds the others up, or null;
        `to_go_s`: seconds until the lag is worked off at the present rate, null where nothing
        moves; `alive` and `ready`: as `/healthz` and `/readyz` answer.
    """
    alive, ready = health.liveness(view), health.readiness(view)
    slowest = _bottleneck(view, stages, lag)
    to_go_s = _to_go_s(view, stages, lag)
    if alive.ok and ready.ok:
        is_idle = lag == 0 and not view.tracker.open_pages
        level, text = _working(is_idle, freshness["kafka"]["p95_s"], lag, to_go_s, slowest)
        level, text = _with_fallback(view.batcher.fallback_status, level, text, other_space)
    else:
        verdict = ready if alive.ok else alive
        level, text = verdict.status, _all_stalls(view) or verdict.reason
    return {
        "level": level,
        "text": text[:1].upper() + text[1:],
        "bottleneck": slowest,
        "to_go_s": to_go_s,
        "alive": alive.ok,
        "ready": ready.ok,
    }


def stage_states(view: StatusView, stages: Stages, slowest: object) -> dict[str, str]:
    """One word for each stage: `waiting`, `held`, `slowest`, `working` or `idle`.

    `waiting` is the stage whose service is waited for, `held` those before it while events wait
    in them. Dead letters are `faults` where there are any since the start, else `none`.
    """
    stalled = {_STAGE_OF.get(s.service, s.service) for s in view.stalls.current()}
    before = set(_BEFORE.get(str(slowest), ())) if stalled and view.tracker.open_pages else set()
    found = {}
    for name, stage in stages.items():
        if name in stalled:
            found[name] = "waiting"
        elif name == "dead_letters":
            found[name] = "faults" if stage["total"] else "none"
        elif name == slowest:
            found[name] = "slowest"
        elif stage["rate_per_s"]:
            found[name] = "working"
        else:
            found[name] = "held" if name in before else "idle"
    return found


def _all_stalls(view: StatusView) -> str:
    """What is waited for; the remedy stands in the stall itself."""
    stalls = view.stalls.current()
    if not stalls:
        return ""
    others = ", ".join(health.named(stall.service) for stall in stalls[1:])
    also = f" (and for {others})" if others else ""
    goes_on = _GOES_ON if stalls[0].service == "rag" and not others else ""
    return f"{health.describe_stall(stalls[0])}{also}{goes_on}"


def _with_fallback(
    at_work: FallbackStatus | None, level: str, text: str, other_space: float
) -> tuple[str, str]:
    """Say that the fallback is at work, or what it has left to do again."""
    if at_work is not None:
        held = f", {at_work.held:,} wait for the embedder" if at_work.held else ""
        return "fallback", (
            f"the embedder is away ({at_work.reason}), and {at_work.model} at {at_work.name} "
            f"embeds for it: {at_work.pages:,} pages{held}; {text}"
        )
    if other_space:
        verb = "page has a vector" if other_space == 1 else "pages have vectors"
        text += f"; {other_space:,.0f} {verb} of the fallback: {REMEDY}"
    return level, text


def _bottleneck(view: StatusView, stages: Stages, lag: int | None) -> str | None:
    """The stage that the others wait for; None while none of them is near its limit."""
    stalls = view.stalls.current()
    if stalls:
        return _STAGE_OF.get(stalls[0].service, stalls[0].service)
    loads = {name: stages[name]["load"] or 0.0 for name in ("embedder", "stargate", "rag")}
    name = max(loads, key=lambda stage: loads[stage])
    if loads[name] >= BUSY:
        return name
    # None of them is near its limit, and yet there is a queue: it is the reading that is slow.
    return "kafka" if (lag or 0) > MANY and view.tracker.open_pages < MANY else None


def _to_go_s(view: StatusView, stages: Stages, lag: int | None) -> float | None:
    if any(stall.service == "kafka" for stall in view.stalls.current()):
        return None  # what has come since is not known
    rate = stages["kafka"]["rate_per_s"]
    if not lag:
        return None if lag is None else 0.0
    return round(lag / rate, 1) if rate else None


def _working(
    is_idle: bool, p95_s: float | None, lag: int | None, to_go_s: float | None, slowest: str | None
) -> tuple[str, str]:
    who = f"; the slowest stage is {_NAMES.get(slowest, slowest)}" if slowest else ""
    if is_idle:
        late = "; the pages of the last minute were late" if _is_late(p95_s) else ""
        return "idle", f"nothing to do: every change is in its outputs{late}"
    if lag is None:
        return "starting", "the events that wait are being counted"
    if to_go_s is None:
        return "behind", f"{lag:,.0f} events wait and nothing has been settled for 10 s{who}"
    if to_go_s > LATE_S:
        return "behind", f"working through a backlog of {lag:,.0f} events{who}"
    if _is_late(p95_s):
        return "busy", f"caught up just now: the pages of the last minute were late{who}"
    return "busy", f"changes are in their outputs as they come{who}"


def _is_late(p95_s: float | None) -> bool:
    return p95_s is not None and p95_s > LATE_S
