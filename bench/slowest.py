"""Makes each service the slowest, and measures which share of its capacity the stream uses.

A slow fake serves a few requests at once and counts for how long its slots are held. The share of
the capacity is this share of the time, multiplied by the efficiency of the requests compared with
full requests. The first second, and the first and last request of each slot, do not count.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial

from bench.measurement import Measurement, Step, Target
from bench.rig import Rig, Speed
from bench.scope import Scope
from bench.starts import STARTS
from bench.steady import Part, Steady, work_off

EPOCH_S = 5.0
EMBED_S = 0.002
WINDOW_PAGES = 32
BULK_ROWS = 100
START_S = 4.0
"""Approximate time for starting and stopping all processes of a run."""
TARGET = Target(97, at_least=True)


@dataclass(frozen=True, slots=True)
class Slow:
    """A rig with one slow service.

    Attributes:
        name: The name in the results.
        service: The name of the slow service in the rig.
        speed: The durations of all services.
        slots: Requests that the slow service serves at once.
        request_s: Seconds of a slot per request.
        page_s: Seconds of a slot per page.
        full: Number of pages of the largest request.
        settings: Additional settings of the stream.
    """

    name: str
    service: str
    speed: Speed
    slots: int
    request_s: float
    page_s: float = 0.0
    full: int = 1
    settings: dict[str, str] = field(default_factory=dict)

    def slot_s(self, pages: float) -> float:
        """Return the seconds of a slot per page, in requests with this number of pages."""
        return self.request_s / pages + self.page_s

    @property
    def pages_per_s(self) -> float:
        """The capacity: all slots are held by full requests."""
        return self.slots / self.slot_s(self.full)

    @property
    def request_full_s(self) -> float:
        """The seconds of a full request."""
        return self.full * self.slot_s(self.full)

    def percent(self, steady: Steady) -> float:
        """Return the used share of the capacity."""
        held = steady.held_s(self.service) / steady.seconds(self.service) / self.slots
        pages = steady.items(self.service) / steady.requests(self.service)
        return 100 * held * self.slot_s(self.full) / self.slot_s(pages)

    def part(self, epochs: float, warm_up_s: float) -> Part:
        """Return a backlog for this number of epochs, plus its beginning and end."""
        in_slots = self.slots * self.full
        first = max(warm_up_s * self.pages_per_s, in_slots)
        last = first + epochs * EPOCH_S * self.pages_per_s
        return Part(first, last, round(last + in_slots))


def embedder(request_s: float, text_s: float) -> Slow:
    """Return a slow embedder with one request at a time."""
    speed = Speed(request_s=request_s, text_s=text_s, store_s=0.02, notify_s=0.02)
    return Slow("embedder", "embedder", speed, 1, request_s, text_s, WINDOW_PAGES)


def embedders(request_s: float, text_s: float, at_once: int) -> Slow:
    """Return several slow embedders behind one address."""
    one = embedder(request_s, text_s)
    speed = replace(one.speed, embed_at_once=at_once)
    settings = {"EMBED_CONCURRENCY": str(at_once + 1)}
    name = f"of {at_once} embedders at one address"
    return replace(one, name=name, speed=speed, slots=at_once, settings=settings)


def rest(delay_s: float, at_once: int) -> Slow:
    """Return a slow Stargate with one row per request."""
    speed = Speed(text_s=EMBED_S, store_s=delay_s, store_at_once=at_once)
    return Slow("Stargate rest", "Stargate", speed, at_once, delay_s)


def graphql(delay_s: float, row_s: float, at_once: int) -> Slow:
    """Return a slow Stargate with up to a hundred rows per request."""
    speed = Speed(text_s=EMBED_S, store_s=delay_s, store_row_s=row_s, store_at_once=at_once)
    bulk = {"STARGATE_BULK": "graphql"}
    return Slow("Stargate graphql", "Stargate", speed, at_once, delay_s, row_s, BULK_ROWS, bulk)


def rag(delay_s: float, at_once: int) -> Slow:
    """Return a slow RAG service."""
    speed = Speed(text_s=EMBED_S, notify_s=delay_s, notify_at_once=at_once)
    return Slow("RAG", "RAG", speed, at_once, delay_s)


MEDIUM = (
    embedder(0.005, 0.003),
    embedders(0.1, 0.01, 4),
    rest(0.04, 10),
    graphql(0.05, 0.015, 4),
    rag(0.04, 10),
)
OTHERS = (
    embedder(0.001, 0.0033),
    embedder(0.5, 0.0),
    rest(0.0035, 1),
    rest(0.5, 32),
    graphql(0.001, 0.0035, 1),
    graphql(0.5, 0.0, 1),
    rag(0.0035, 1),
    rag(0.5, 32),
)


def name(slow: Slow, start_name: str) -> str:
    """Return the name of the figure."""
    return f"slowest {slow.name}, {1000 * slow.request_s:g} ms, {start_name}"


def steps(scope: Scope) -> list[Step]:
    """Return the steps for each service with each way to start the stream."""
    steps = [
        _step(scope, "cluster" if start_name == "2 x 2" else "slowest", slow, start_name)
        for slow in MEDIUM
        for start_name in STARTS
    ]
    if scope.delays:
        steps += [
            _step(scope, "delays", slow, start_name)
            for slow in OTHERS
            for start_name in ("-w 1", "-w 4")
        ]
    return steps


def _step(scope: Scope, measure: str, slow: Slow, start_name: str) -> Step:
    part = slow.part(scope.epochs, scope.warm_up_s)
    title = name(slow, start_name)
    return Step(
        measure,
        title,
        START_S + part.pages / slow.pages_per_s,
        partial(_measure, scope, slow, start_name, part, title),
    )


def _measure(
    scope: Scope, slow: Slow, start_name: str, part: Part, title: str
) -> Iterable[Measurement]:
    with Rig(slow.speed, scope.kafka) as rig:
        steady = work_off(rig, STARTS[start_name](**slow.settings), part)
    unit = f"% of {slow.pages_per_s:.0f} pages/s"
    yield Measurement(title, unit, slow.percent(steady), TARGET, steady.utilisation)
