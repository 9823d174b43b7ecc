"""Measures the stream while it processes a backlog: its steady part, or all of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench import machine
from bench.measurement import Utilisation
from bench.program import Processes, Program
from bench.rig import Rig, wait_until
from bench.service import Counts
from bench.starts import Start

FIRST_PAGES = 8
"""More than the pages with which a program tests the embedder."""


@dataclass(frozen=True, slots=True)
class Moment:
    """All counters at one time.

    Attributes:
        cpu_s: CPU seconds of the program under measurement.
        machine_s: CPU seconds of the whole machine.
        counts: The counters of each fake.
    """

    cpu_s: float
    machine_s: float
    counts: Mapping[str, Counts]


@dataclass(frozen=True, slots=True)
class Steady:
    """The work between two times.

    Attributes:
        before: The counters at the first time.
        after: The counters at the second time.
    """

    before: Moment
    after: Moment

    def seconds(self, service: str) -> float:
        """Return the seconds between both times, by a fake's clock."""
        return self.after.counts[service].at - self.before.counts[service].at

    def items(self, service: str) -> int:
        """Return the number of pages that a fake received."""
        return self.after.counts[service].items - self.before.counts[service].items

    def requests(self, service: str) -> int:
        """Return the number of requests that a fake received."""
        return self.after.counts[service].requests - self.before.counts[service].requests

    def held_s(self, service: str) -> float:
        """Return the seconds for which slots were held, summed over all slots."""
        return self.after.counts[service].held_s - self.before.counts[service].held_s

    @property
    def pages_per_s(self) -> float:
        """Pages per second at the slower output."""
        return min(self.items(name) / self.seconds(name) for name in ("Stargate", "RAG"))

    @property
    def cpu_ms_per_page(self) -> float:
        """CPU of the program per page, in milliseconds."""
        return 1000 * (self.after.cpu_s - self.before.cpu_s) / self.items("RAG")

    @property
    def utilisation(self) -> Utilisation:
        """The CPU of the fakes and of the machine."""
        used = {name: self._cpu_s(name) / self.seconds(name) for name in self.after.counts}
        name = max(used, key=lambda name: used[name])
        machine_s = (self.after.machine_s - self.before.machine_s) / machine.CORES
        return Utilisation(name, 100 * used[name], 100 * machine_s / self.seconds(name))

    def _cpu_s(self, name: str) -> float:
        return self.after.counts[name].cpu_s - self.before.counts[name].cpu_s


@dataclass(frozen=True, slots=True)
class Part:
    """The steady part of a backlog.

    Attributes:
        first: Number of delivered pages at its beginning.
        last: Number of delivered pages at its end.
        pages: Number of pages in the backlog.
    """

    first: float
    last: float
    pages: int


def watch(rig: Rig, program: Program | Processes, part: Part) -> Steady:
    """Measure a program that processes a complete backlog, and check that no page is lost."""
    rig.wait_until_delivered(part.first, program)
    before = _moment(rig, program)
    rig.wait_until_delivered(part.last, program)
    after = _moment(rig, program)
    rig.wait_until_delivered(part.pages, program)
    return Steady(before, after)


def work_off(rig: Rig, start: Start, part: Part) -> Steady:
    """Send a backlog, start a program, and measure it."""
    rig.feed(part.pages)
    with start(rig) as program:
        return watch(rig, program, part)


def work_off_whole(rig: Rig, start: Start, pages: int) -> tuple[float, Utilisation]:
    """Measure a program from its first window to its last delivery.

    Returns:
        Pages per second, and the utilisation.
    """
    rig.feed(pages)
    with start(rig) as program:
        wait_until(lambda: rig.embedded() >= FIRST_PAGES, program, interval_s=0.01)
        before = _moment(rig, program)
        rig.wait_until_delivered(pages, program)
        whole = Steady(before, _moment(rig, program))
    return whole.items("embedder") / whole.seconds("embedder"), whole.utilisation


def _moment(rig: Rig, program: Program | Processes) -> Moment:
    counts = {name: service.counts() for name, service in rig.services.items()}
    return Moment(program.cpu_s(), machine.cpu_s(), counts)
