"""A backlog worked off: speed, the embedder's busy share and CPU over its steady part."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.program import Program
from bench.rig import Rig, Speed, wait_until

STEADY_FROM, STEADY_TO = 0.15, 0.85
"""Shares of the backlog between which is measured: neither start nor end count."""

FIRST_PAGES = 8
"""More than any program asks for to get to know the embedder."""

Start = Callable[[Rig], Program]


@dataclass(frozen=True, slots=True)
class Whole:
    """From the first window to the last delivery: fair to programs that work by fits and starts.

    Attributes:
        seconds: How long it was.
        pages: Pages delivered.
        cpu_s: CPU of the program under measurement.
    """

    seconds: float
    pages: float
    cpu_s: float

    @property
    def pages_per_s(self) -> float:
        """Speed."""
        return self.pages / self.seconds

    @property
    def cpu_ms_per_page(self) -> float:
        """CPU of the program for a page."""
        return 1000 * self.cpu_s / self.pages


@dataclass(frozen=True, slots=True)
class Steady:
    """What was seen between two answers of the embedder.

    Attributes:
        seconds: How long it was.
        pages: Pages embedded.
        busy_s: Seconds that the embedder computed.
        cpu_s: CPU of the program under measurement.
        services_cpu_s: CPU of embedder, Stargate and RAG service together.
    """

    seconds: float
    pages: float
    busy_s: float
    cpu_s: float
    services_cpu_s: float

    @property
    def pages_per_s(self) -> float:
        """Speed."""
        return self.pages / self.seconds

    @property
    def busy_percent(self) -> float:
        """The embedder's busy share."""
        return 100 * self.busy_s / self.seconds

    @property
    def cpu_ms_per_page(self) -> float:
        """CPU of the program for a page."""
        return 1000 * self.cpu_s / self.pages


def work_off(pages: int, speed: Speed, start: Start) -> Steady:
    """Have a program work off a backlog of new pages, and see that none is lost."""
    with Rig(speed) as rig:
        rig.feed(pages)
        with start(rig) as program:
            before = _edge(rig, program, pages * STEADY_FROM)
            after = _edge(rig, program, pages * STEADY_TO)
            rig.wait_until_delivered(pages, program)
    return Steady(*(b - a for a, b in zip(before, after, strict=True)))


def work_off_whole(pages: int, speed: Speed, start: Start) -> Whole:
    """The same, timed as a whole."""
    with Rig(speed) as rig:
        rig.feed(pages)
        with start(rig) as program:
            wait_until(lambda: _embedder(rig)["items"] >= FIRST_PAGES, program, every_s=0.01)
            began, done, cpu_s = time.monotonic(), _embedder(rig)["items"], program.cpu_s()
            rig.wait_until_delivered(pages, program)
            return Whole(time.monotonic() - began, pages - done, program.cpu_s() - cpu_s)


def _edge(rig: Rig, program: Program, pages: float) -> tuple[float, ...]:
    """The moment of the first answer of the embedder after so many pages."""
    wait_until(lambda: _embedder(rig)["items"] >= pages, program)
    first = now = _embedder(rig)
    while now["items"] == first["items"]:
        program.check()
        time.sleep(0.002)
        now = _embedder(rig)
    at, cpu_s = time.monotonic(), program.cpu_s()
    others: tuple[Any, ...] = (rig.stargate.stats(), rig.rag.stats())
    services_cpu_s = sum(s["process_cpu_s"] for s in (now, *others))
    return at, now["items"], now["busy_s"], cpu_s, services_cpu_s


def _embedder(rig: Rig) -> dict[str, Any]:
    return rig.ollama.stats()
