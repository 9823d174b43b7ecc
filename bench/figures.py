"""Which figures there are, and how each is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import backlog, idle, live_edits, memory, picture, scaling, slowest
from bench.program import Processes, Program, cluster, peer, peer_flow, stream
from bench.report import Figure, Target
from bench.rig import EMBEDDER_SLOWEST, FREE, Rig

AT_LEAST = partial(Target, at_least=True)


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured.

    Attributes:
        runs: Runs of each figure.
        pages: Backlog before the slow embedder; the free services get twice as many.
        small_pages: The smaller backlog of the memory figure; the larger one is ten times it. It
            is more than fills the bounded queues and the cache.
        memory_runs: Runs of that figure, which takes longest.
        edits: Live edits of one run.
        idle_s: Seconds of watching an idle stream.
    """

    runs: int = 3
    pages: int = 2000
    small_pages: int = 6000
    memory_runs: int = 1
    edits: int = 100
    idle_s: float = 6.0


CORE = Size()
LONG = Size(runs=7, pages=8000, small_pages=10_000, memory_runs=3, edits=400, idle_s=30.0)

Measured = dict[str, list[float]]


class Measuring:
    """The values of all figures, filled round by round so that noise falls on all alike."""

    def __init__(self, size: Size) -> None:
        self._size = size
        self._values: Measured = {}

    def rounds(self) -> dict[str, Callable[[], None]]:
        """What there is to measure, by name; each call is one run."""
        return {
            "busy": self.busy,
            "slowest": self.slowest,
            "peers": self.peers,
            "free": self.free,
            "scaling": self.scaling,
            "edits": self.edits,
            "idle": self.idle,
            "start": self.start,
            "memory": self.memory,
        }

    def busy(self) -> None:
        """The embedder is the slowest stage: is it ever idle?"""
        for workers in (1, 4):
            steady = backlog.work_off(
                self._size.pages, EMBEDDER_SLOWEST, partial(_stream, workers=workers)
            )
            self._note(f"embedder busy, -w {workers}", steady.busy_percent)

    def slowest(self) -> None:
        """An output is the slowest stage: is it ever idle?"""
        for name, slow in SLOW.items():
            for launch, start in LAUNCHES.items():
                started = partial(start, **slow.settings)
                share = slowest.used_percent(slow, self._size.pages, started)
                self._note(f"used of {name}, {launch}", share)

    def peers(self) -> None:
        """The same, as a whole, beside other ways to do it."""
        pages = self._size.pages
        own = backlog.work_off_whole(pages, EMBEDDER_SLOWEST, _stream)
        self._note("speed, embedder slowest", own.pages_per_s)
        for name, start, share in (
            ("one page at a time", _one_by_one, 20),
            ("collect, map, sink", _collect, 2),
            ("asyncio by hand", _asyncio, 1),
        ):
            other = backlog.work_off_whole(pages // share, EMBEDDER_SLOWEST, start)
            self._note(f"speed of {name}", other.pages_per_s)
            self._note(f"times as fast as {name}", own.pages_per_s / other.pages_per_s)

    def free(self) -> None:
        """All services answer at once: what do the stream's own hands manage?"""
        for way in ("rest", "graphql"):
            for workers in (1, 4):
                steady = backlog.work_off(
                    2 * self._size.pages, FREE, partial(_stream, workers=workers, STARGATE_BULK=way)
                )
                self._note(f"speed, services free, {way}, -w {workers}", steady.pages_per_s)
                self._note(f"own CPU, {way}, -w {workers}", steady.cpu_ms_per_page)

    def scaling(self) -> None:
        """More embedders, workers and processes: where does it flatten?"""
        for embedders in scaling.EMBEDDERS:
            ideal = scaling.ideal_pages_per_s(embedders)
            for launch, start in LAUNCHES.items():
                speed = scaling.pages_per_s(embedders * self._size.pages // 2, embedders, start)
                self._note(_scaling_name(embedders, launch), speed)
                self._note(f"of the limit, {embedders} embedders, {launch}", 100 * speed / ideal)

    def edits(self) -> None:
        """Single edits on an idle stream."""
        timed = live_edits.make_edits(self._size.edits)
        self._note("live edit, freshness p50", live_edits.percentile(timed.freshness_ms, 50))
        self._note("live edit, overhead p50", live_edits.percentile(timed.overhead_ms, 50))
        self._note("live edit, overhead p99", live_edits.percentile(timed.overhead_ms, 99))

    def idle(self) -> None:
        """Nothing to do."""
        for workers in (1, 4):
            seen = idle.idle_cpu(self._size.idle_s, workers)
            self._note(f"idle CPU, -w {workers}", seen.stream_percent)
            self._note(f"idle CPU of an empty flow, -w {workers}", seen.empty_percent)
            self._note(f"idle CPU beyond an empty flow, -w {workers}", seen.difference)

    def start(self) -> None:
        """From nothing to the first page, and back."""
        seen = idle.start_and_stop()
        self._note("start to first page embedded", seen.first_page_s)
        self._note("stop while idle", seen.stop_s)

    def memory(self) -> None:
        """A backlog, and one of ten times the size."""
        if len(self._values.get("growth of it", ())) >= self._size.memory_runs:
            return
        small = memory.resident_mb(self._size.small_pages)
        large = memory.resident_mb(10 * self._size.small_pages)
        self._note(f"resident, {self._size.small_pages:,} pages", small)
        self._note(f"resident, {10 * self._size.small_pages:,} pages", large)
        self._note("growth of it", 100 * (large / small - 1))

    def draw(self, path: Path) -> None:
        """Draw how it scales, if that was measured."""
        numbers = scaling.EMBEDDERS
        if _scaling_name(numbers[0], next(iter(LAUNCHES))) not in self._values:
            return
        speeds = {
            launch: picture.medians(self._values, [_scaling_name(n, launch) for n in numbers])
            for launch in LAUNCHES
        }
        picture.draw(path, numbers, [scaling.ideal_pages_per_s(n) for n in numbers], speeds)

    def figures(self) -> list[Figure]:
        """What has been measured so far."""
        return [
            Figure(name, _unit(name), values, TARGETS.get(name))
            for name, values in self._values.items()
        ]

    def _note(self, name: str, value: float) -> None:
        self._values.setdefault(name, []).append(value)


SLOW = {
    "Stargate, rest": slowest.slow_rest(delay_s=0.04, at_once=10),
    "Stargate, graphql": slowest.slow_graphql(row_s=0.015, at_once=4),
    "the RAG service": slowest.slow_rag(delay_s=0.04, at_once=10),
}

TARGETS = {
    "embedder busy, -w 1": AT_LEAST(97),
    "embedder busy, -w 4": AT_LEAST(97),
    "live edit, overhead p50": Target(12),
    "growth of it": Target(5),
    "own CPU, rest, -w 1": Target(0.6),
    "own CPU, rest, -w 4": Target(0.6),
    "own CPU, graphql, -w 1": Target(0.4),
    "own CPU, graphql, -w 4": Target(0.4),
    "speed, services free, rest, -w 1": AT_LEAST(2000),
    "idle CPU beyond an empty flow, -w 1": Target(1),
    "idle CPU beyond an empty flow, -w 4": Target(1),
    "start to first page embedded": Target(1.5),
    "stop while idle": Target(1),
}

UNITS = {
    "used of": "% of its capacity",
    "of the limit": "%",
    "embedder busy": "%",
    "speed": "pages/s",
    "times as fast": "factor",
    "own CPU": "ms a page",
    "live edit": "ms",
    "idle CPU": "% of a core",
    "start": "s",
    "stop": "s",
    "resident": "MB",
    "growth": "%",
}


def _scaling_name(embedders: int, launch: str) -> str:
    return f"speed, {embedders} embedders, {launch}"


def _unit(name: str) -> str:
    return next(unit for beginning, unit in UNITS.items() if name.startswith(beginning))


def _stream(rig: Rig, workers: int = 1, **more: str) -> Program:
    return stream(rig.settings(**more), workers=workers)


def _cluster(rig: Rig, processes: int, workers: int, **more: str) -> Processes:
    return cluster(rig.settings(**more), processes=processes, workers=workers)


LAUNCHES: dict[str, Callable[..., Program | Processes]] = {
    "-w 1": partial(_stream, workers=1),
    "-w 4": partial(_stream, workers=4),
    "2 x 2": partial(_cluster, processes=2, workers=2),
}


def _one_by_one(rig: Rig) -> Program:
    return peer("one_by_one", rig.settings())


def _collect(rig: Rig) -> Program:
    return peer_flow("collect_flow", rig.settings())


def _asyncio(rig: Rig) -> Program:
    return peer("asyncio_loop", rig.settings())
