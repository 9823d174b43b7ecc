"""Measures the idle stream: its CPU compared with an empty flow's, its start and its stop."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from bench.measurement import Measurement, Step, Target
from bench.program import Program, peer_flow, stream
from bench.rig import FREE, Rig, wait_until
from bench.scope import Scope

REAL_FETCH = '{"fetch.wait.max.ms": 500}'
"""librdkafka's default; the mock broker's 5 ms would mean 600 fetches per second."""
REST_S = 1.0
UNIT = "% of a core"


def steps(scope: Scope) -> list[Step]:
    """Return the steps for idling with one and several workers, and for starting."""
    seconds = 5 + scope.settle_s + scope.idle_s
    return [
        *(Step("idle", f"idle, -w {n}", seconds, partial(_idle, scope, n)) for n in (1, 4)),
        Step("start", "start and stop", 5, partial(_start_and_stop, scope)),
    ]


def _idle(scope: Scope, workers: int) -> Iterable[Measurement]:
    """Measure the stream after one page and an empty flow at the same time."""
    with (
        peer_flow("empty_flow", {}, workers=workers) as empty,
        _settled(scope, workers) as program,
    ):
        own, floor = _percent_of_a_core((program, empty), scope.idle_s)
    yield _idle_cpu(workers, own)
    yield Measurement(f"idle CPU of an empty flow, -w {workers}", UNIT, floor)
    yield Measurement(f"idle CPU beyond an empty flow, -w {workers}", UNIT, own - floor, Target(1))


def idle_cpu(scope: Scope, workers: int) -> Measurement:
    """Measure the stream after one page, without the empty flow."""
    with _settled(scope, workers) as program:
        (own,) = _percent_of_a_core((program,), scope.idle_s)
    return _idle_cpu(workers, own)


def _idle_cpu(workers: int, percent: float) -> Measurement:
    return Measurement(f"idle CPU, -w {workers}", UNIT, percent)


@contextmanager
def _settled(scope: Scope, workers: int) -> Iterator[Program]:
    """Run the stream, and wait some seconds after one page."""
    with Rig(FREE, scope.kafka) as rig:
        rig.feed(1)
        settings = rig.settings(KAFKA_OPTIONS=REAL_FETCH)
        with stream(settings, workers=workers, checkout=scope.checkout) as program:
            rig.wait_until_delivered(1, program)
            time.sleep(scope.settle_s)
            yield program


def _start_and_stop(scope: Scope) -> Iterable[Measurement]:
    """Start the stream with a page in the topic, and stop it once it is idle."""
    with _started(scope) as (program, started):
        yield started
        time.sleep(REST_S)
        yield Measurement("stop while idle", "s", program.stop(), Target(1))


def start(scope: Scope) -> Measurement:
    """Start the stream with a page in the topic."""
    with _started(scope) as (_, started):
        return started


@contextmanager
def _started(scope: Scope) -> Iterator[tuple[Program, Measurement]]:
    """Run the stream, and measure the time until its first page is embedded."""
    with Rig(FREE, scope.kafka) as rig:
        rig.feed(1)
        with stream(rig.settings(), checkout=scope.checkout) as program:
            wait_until(lambda: rig.embedded() > 0, program, interval_s=0.01)
            first_s = time.monotonic() - program.started_at
            rig.wait_until_delivered(1, program)
            yield program, Measurement("start to first page embedded", "s", first_s, Target(1.5))


def _percent_of_a_core(programs: tuple[Program, ...], seconds: float) -> list[float]:
    began = [program.cpu_s() for program in programs]
    time.sleep(seconds)
    return [
        100 * (program.cpu_s() - before) / seconds
        for program, before in zip(programs, began, strict=True)
    ]
