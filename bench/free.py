"""Measures the stream's own speed and CPU with services that respond at once."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from bench.measurement import Measurement, Step, Target
from bench.program import peer
from bench.rig import FREE, Rig
from bench.scope import Scope
from bench.slowest import START_S
from bench.starts import STARTS
from bench.steady import Part, work_off

FIRST, LAST = 0.25, 0.75
"""Shares of the backlog between which embedding has a constant lead over the outputs."""

SPEED = {"rest": Target(2000, at_least=True)}
CPU = {"rest": Target(0.6), "graphql": Target(0.4)}


def steps(scope: Scope) -> list[Step]:
    """Return the steps for each API for rows, and for its lower bound."""
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
    for start_name in ("-w 1", "-w 4"):
        speed, cpu = speed_and_cpu(scope, way, start_name)
        speeds.append(speed.value)
        yield from (speed, cpu)
    yield Measurement(f"free services, {way}, -w 4 against -w 1", "times", speeds[1] / speeds[0])


def speed_and_cpu(scope: Scope, way: str, start_name: str) -> tuple[Measurement, Measurement]:
    """Process a backlog; return pages per second and CPU per page."""
    name, pages = f"{way}, {start_name}", scope.free_pages
    start = STARTS[start_name](checkout=scope.checkout, STARGATE_BULK=way)
    with Rig(FREE, scope.kafka) as rig:
        steady = work_off(rig, start, Part(FIRST * pages, LAST * pages, pages))
    speed, target = steady.pages_per_s, SPEED.get(way)
    return (
        Measurement(f"free services, {name}", "pages/s", speed, target, steady.utilisation),
        Measurement(f"own CPU, {name}", "ms a page", steady.cpu_ms_per_page, CPU[way]),
    )


def _floor(scope: Scope, way: str) -> Iterable[Measurement]:
    with Rig(FREE, scope.kafka) as rig:
        settings = rig.settings(STARGATE_BULK=way, PAGES=str(scope.free_pages))
        with peer("floor", settings) as program:
            output = program.wait()
        if (count := rig.delivered()) != scope.free_pages:
            raise RuntimeError(f"only {count:,} of {scope.free_pages:,} pages arrived: {output}")
    yield Measurement(f"own CPU, {way}, floor: a bare asyncio loop", "ms a page", float(output))
