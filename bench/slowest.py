"""Each service in turn as the slowest: how much of what it can do does the stream have it do?

A slow stand-in works on a few requests at once and counts how long its slots are taken. That
share of the time, times what the requests carried for it against full ones, is the share of its
capacity. What does not count: the first second of work and the first request in every slot; the
last request in every slot.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial

from bench.launch import LAUNCHES
from bench.reading import Measurement, Step, Target
from bench.rig import Rig, Speed
from bench.scope import Scope
from bench.steady import Part, Steady, work_off

EPOCH_S = 5.0
EMBED_S = 0.002
WINDOW_PAGES = 32
BULK_ROWS = 100
START_S = 4.0
"""For starting and stopping everything of a run, about."""
TARGET = Target(97, at_least=True)


@dataclass(frozen=True, slots=True)
class Slow:
    """A rig with one slow service.

    Attributes:
        name: What is shown.
        service: Which one it is, by its name in the rig.
        speed: How long all services take.
        slots: Requests that the slow service works on at once.
        request_s: Seconds of a slot for a request.
        page_s: Seconds of a slot for each page in it.
        full: Pages of the largest request.
        settings: What the stream is told besides.
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
        """Seconds of a slot for a page, in requests of so many pages."""
        return self.request_s / pages + self.page_s

    @property
    def pages_per_s(self) -> float:
        """Its capacity: all slots taken by full requests."""
        return self.slots / self.slot_s(self.full)

    @property
    def request_full_s(self) -> float:
        """Seconds of a full request."""
        return self.full * self.slot_s(self.full)

    def percent(self, steady: Steady) -> float:
        """How much of its capacity was used."""
        taken = steady.taken_s(self.service) / steady.seconds(self.service) / self.slots
        pages = steady.items(self.service) / steady.requests(self.service)
        return 100 * taken * self.slot_s(self.full) / self.slot_s(pages)

    def part(self, epochs: float, warm_up_s: float) -> Part:
        """A backlog that lasts so many epochs beside beginning and end."""
        in_slots = self.slots * self.full
        first = max(warm_up_s * self.pages_per_s, in_slots)
        last = first + epochs * EPOCH_S * self.pages_per_s
        return Part(first, last, round(last + in_slots))


def embedder(request_s: float, text_s: float) -> Slow:
    """The embedder; one request at a time."""
    speed = Speed(request_s=request_s, text_s=text_s, store_s=0.02, notify_s=0.02)
    return Slow("embedder", "embedder", speed, 1, request_s, text_s, WINDOW_PAGES)


def embedders(request_s: float, text_s: float, at_once: int) -> Slow:
    """Several of them behind one address."""
    one = embedder(request_s, text_s)
    speed = replace(one.speed, embed_at_once=at_once)
    told = {"EMBED_CONCURRENCY": str(at_once + 1)}
    name = f"of {at_once} embedders at one address"
    return replace(one, name=name, speed=speed, slots=at_once, settings=told)


def rest(delay_s: float, at_once: int) -> Slow:
    """Stargate, a row a request."""
    speed = Speed(text_s=EMBED_S, store_s=delay_s, store_at_once=at_once)
    return Slow("Stargate rest", "Stargate", speed, at_once, delay_s)


def graphql(delay_s: float, row_s: float, at_once: int) -> Slow:
    """Stargate, as many rows a request as there are, up to a hundred."""
    speed = Speed(text_s=EMBED_S, store_s=delay_s, store_row_s=row_s, store_at_once=at_once)
    bulk = {"STARGATE_BULK": "graphql"}
    return Slow("Stargate graphql", "Stargate", speed, at_once, delay_s, row_s, BULK_ROWS, bulk)


def rag(delay_s: float, at_once: int) -> Slow:
    """The RAG service."""
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


def name(slow: Slow, launch: str) -> str:
    """Of the figure."""
    return f"slowest {slow.name}, {1000 * slow.request_s:g} ms, {launch}"


def steps(scope: Scope) -> list[Step]:
    """Each service with each way to start; other service times too, if the scope has them."""
    found = [
        _step(scope, "cluster" if launch == "2 x 2" else "slowest", slow, launch)
        for slow in MEDIUM
        for launch in LAUNCHES
    ]
    if scope.delays:
        found += [
            _step(scope, "delays", slow, launch) for slow in OTHERS for launch in ("-w 1", "-w 4")
        ]
    return found


def _step(scope: Scope, measure: str, slow: Slow, launch: str) -> Step:
    part = slow.part(scope.epochs, scope.warm_up_s)
    title = name(slow, launch)
    return Step(
        measure,
        title,
        START_S + part.pages / slow.pages_per_s,
        partial(_measure, scope, slow, launch, part, title),
    )


def _measure(
    scope: Scope, slow: Slow, launch: str, part: Part, title: str
) -> Iterable[Measurement]:
    with Rig(slow.speed, scope.kafka) as rig:
        steady = work_off(rig, LAUNCHES[launch](**slow.settings), part)
    unit = f"% of {slow.pages_per_s:.0f} pages/s"
    yield Measurement(title, unit, slow.percent(steady), TARGET, steady.around)
