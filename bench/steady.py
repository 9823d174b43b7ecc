"""A backlog worked off: what was done between two moments of its steady part, or as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench import machine
from bench.launch import Start
from bench.program import Processes, Program
from bench.reading import Around
from bench.rig import Rig, wait_until
from bench.service import Counts

FIRST_PAGES = 8
"""More than any program asks for to get to know the embedder."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What had been done at a moment.

    Attributes:
        cpu_s: CPU of the program under measurement.
        machine_s: CPU of the whole machine.
        counts: What each stand-in had counted.
    """

    cpu_s: float
    machine_s: float
    counts: Mapping[str, Counts]


@dataclass(frozen=True, slots=True)
class Steady:
    """What was done from one moment to another.

    Attributes:
        before: The first.
        after: The second.
    """

    before: Moment
    after: Moment

    def seconds(self, service: str) -> float:
        """How long it was, by a stand-in's clock."""
        return self.after.counts[service].at - self.before.counts[service].at

    def items(self, service: str) -> int:
        """Pages that a stand-in has had."""
        return self.after.counts[service].items - self.before.counts[service].items

    def requests(self, service: str) -> int:
        """Requests that it has had."""
        return self.after.counts[service].requests - self.before.counts[service].requests

    def taken_s(self, service: str) -> float:
        """Seconds that its slots were taken, summed."""
        return self.after.counts[service].taken_s - self.before.counts[service].taken_s

    @property
    def pages_per_s(self) -> float:
        """Speed, at the slower output."""
        return min(self.items(name) / self.seconds(name) for name in ("Stargate", "RAG"))

    @property
    def cpu_ms_per_page(self) -> float:
        """CPU of the program for a page."""
        return 1000 * (self.after.cpu_s - self.before.cpu_s) / self.items("RAG")

    @property
    def around(self) -> Around:
        """What stand-ins and machine did meanwhile."""
        used = {name: self._cpu_s(name) / self.seconds(name) for name in self.after.counts}
        name = max(used, key=lambda name: used[name])
        machine_s = (self.after.machine_s - self.before.machine_s) / machine.CORES
        return Around(name, 100 * used[name], 100 * machine_s / self.seconds(name))

    def _cpu_s(self, name: str) -> float:
        return self.after.counts[name].cpu_s - self.before.counts[name].cpu_s


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of a backlog is steady.

    Attributes:
        first: Delivered pages at its beginning.
        last: Delivered pages at its end.
        pages: The whole backlog.
    """

    first: float
    last: float
    pages: int


def watch(rig: Rig, program: Program | Processes, part: Part) -> Steady:
    """Watch a program work off a backlog that lies ready, and see that no page is lost."""
    rig.wait_until_delivered(part.first, program)
    before = _moment(rig, program)
    rig.wait_until_delivered(part.last, program)
    after = _moment(rig, program)
    rig.wait_until_delivered(part.pages, program)
    return Steady(before, after)


def work_off(rig: Rig, start: Start, part: Part) -> Steady:
    """Feed a backlog, start a program, and watch it."""
    rig.feed(part.pages)
    with start(rig) as program:
        return watch(rig, program, part)


def work_off_whole(rig: Rig, start: Start, pages: int) -> tuple[float, Around]:
    """The same from the first window to the last delivery: fair to what works by fits and starts.

    Returns:
        Pages a second, and what else went on.
    """
    rig.feed(pages)
    with start(rig) as program:
        wait_until(lambda: rig.embedded() >= FIRST_PAGES, program, every_s=0.01)
        before = _moment(rig, program)
        rig.wait_until_delivered(pages, program)
        whole = Steady(before, _moment(rig, program))
    return whole.items("embedder") / whole.seconds("embedder"), whole.around


def _moment(rig: Rig, program: Program | Processes) -> Moment:
    counts = {name: service.counts() for name, service in rig.services.items()}
    return Moment(program.cpu_s(), machine.cpu_s(), counts)
