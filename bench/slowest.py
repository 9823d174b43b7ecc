"""Each output in turn as the slowest service: is a part of it ever idle?

A slow stand-in works on a few requests at once and counts how long each of these places is taken;
their share of the time is what the stream uses of its capacity. Measured over the steady part of a
backlog, without its first and last 15 %.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.program import Processes, Program
from bench.rig import Rig, Speed, reached

SHARES = 0.15, 0.85
EMBED_S = 0.002


@dataclass(frozen=True, slots=True)
class Slow:
    """A rig with one slow service.

    Attributes:
        service: Which one it is: `stargate` or `rag`.
        speed: How long all services take.
        settings: What the stream is told besides.
    """

    service: str
    speed: Speed
    settings: dict[str, str]

    @property
    def places(self) -> int:
        """Requests that the slow service works on at once."""
        return max(self.speed.store_at_once, self.speed.notify_at_once)


def slow_rest(delay_s: float, at_once: int) -> Slow:
    """Stargate, a row a request."""
    return Slow("stargate", Speed(text_s=EMBED_S, store_s=delay_s, store_at_once=at_once), {})


def slow_graphql(row_s: float, at_once: int) -> Slow:
    """Stargate, as many rows a request as there are."""
    speed = Speed(text_s=EMBED_S, store_s=0.05, store_row_s=row_s, store_at_once=at_once)
    return Slow("stargate", speed, {"STARGATE_BULK": "graphql"})


def slow_rag(delay_s: float, at_once: int) -> Slow:
    """The RAG service."""
    return Slow("rag", Speed(text_s=EMBED_S, notify_s=delay_s, notify_at_once=at_once), {})


def used_percent(slow: Slow, pages: int, start: Callable[[Rig], Program | Processes]) -> float:
    """The used share of the slow service's capacity."""
    with Rig(slow.speed) as rig:
        rig.feed(pages)
        service = rig.stargate if slow.service == "stargate" else rig.rag
        with start(rig) as program:
            (began, first), (ended, last) = (
                reached(service, share * pages, "slots_s", program) for share in SHARES
            )
            rig.wait_until_delivered(pages, program)
    return 100 * (last - first) / (ended - began) / slow.places
