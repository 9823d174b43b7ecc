"""All services answer at once: what do the stream's own hands manage, and what is the floor?"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from bench.launch import LAUNCHES
from bench.program import peer
from bench.reading import Measurement, Step, Target
from bench.rig import FREE, Rig
from bench.scope import Scope
from bench.slowest import START_S
from bench.steady import Part, work_off

FIRST, LAST = 0.25, 0.75
"""Shares of the backlog. Before the one, and after the other, embedding has a lead that changes."""

SPEED = {"rest": Target(2000, at_least=True)}
CPU = {"rest": Target(0.6), "graphql": Target(0.4)}


def steps(scope: Scope) -> list[Step]:
    """Each way to write rows, and the floor of it."""
    seconds = START_S + scope.free_pages / 1800
    return [
        *(
            Step("free", f"free services, {way}", 2 * seconds, partial(_measure, scope, way))
            for way in CPU
        ),
        *(Step("floor", f"floor, {way}", 6, partial(_floor, scope, way)) for way in CPU),
    ]


def _measure(scope: Scope, way: str) -> Iterable[Measurement]:
    speeds = []
    for launch in ("-w 1", "-w 4"):
        speed, cpu = speed_and_cpu(scope, way, launch)
        speeds.append(speed.value)
        yield from (speed, cpu)
    yield Measurement(f"free services, {way}, -w 4 against -w 1", "times", speeds[1] / speeds[0])


def speed_and_cpu(scope: Scope, way: str, launch: str) -> tuple[Measurement, Measurement]:
    """Work off a backlog: pages a second, and CPU for a page."""
    name, pages = f"{way}, {launch}", scope.free_pages
    start = LAUNCHES[launch](checkout=scope.checkout, STARGATE_BULK=way)
    with Rig(FREE, scope.kafka) as rig:
        steady = work_off(rig, start, Part(FIRST * pages, LAST * pages, pages))
    speed, target = steady.pages_per_s, SPEED.get(way)
    return (
        Measurement(f"free services, {name}", "pages/s", speed, target, steady.around),
        Measurement(f"own CPU, {name}", "ms a page", steady.cpu_ms_per_page, CPU[way]),
    )


def _floor(scope: Scope, way: str) -> Iterable[Measurement]:
    with Rig(FREE, scope.kafka) as rig:
        settings = rig.settings(STARGATE_BULK=way, PAGES=str(scope.free_pages))
        with peer("floor", settings) as program:
            said = program.wait()
        if (reached := rig.delivered()) != scope.free_pages:
            raise RuntimeError(f"only {reached:,} of {scope.free_pages:,} pages received: {said}")
    yield Measurement(f"own CPU, {way}, floor: a bare asyncio loop", "ms a page", float(said))
