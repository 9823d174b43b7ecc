"""The stream without work: its CPU beside an empty flow's, its start and its stop."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial

from bench.program import Program, peer_flow, stream
from bench.reading import Reading, Step, Target
from bench.rig import FREE, Rig, wait_until
from bench.scope import Scope

REAL_FETCH = '{"fetch.wait.max.ms": 500}'
"""librdkafka's own default: the 5 ms that suit the mock broker are 600 fetches a second."""
REST_S = 1.0


def steps(scope: Scope) -> list[Step]:
    """Idling with one worker and with several, and starting."""
    seconds = 5 + scope.settle_s + scope.idle_s
    return [
        *(Step("idle", f"idle, -w {n}", seconds, partial(_idle, scope, n)) for n in (1, 4)),
        Step("start", "start and stop", 5, partial(_start_and_stop, scope)),
    ]


def _idle(scope: Scope, workers: int) -> Iterable[Reading]:
    """Watch the stream, after one page, and an empty flow side by side."""
    with Rig(FREE, scope.kafka) as rig:
        rig.feed(1)
        with (
            stream(rig.settings(KAFKA_OPTIONS=REAL_FETCH), workers=workers) as program,
            peer_flow("empty_flow", {}, workers=workers) as empty,
        ):
            rig.wait_until_delivered(1, program)
            time.sleep(scope.settle_s)
            own, floor = _percent_of_a_core((program, empty), scope.idle_s)
    name, unit = f"-w {workers}", "% of a core"
    yield Reading(f"idle CPU, {name}", unit, own)
    yield Reading(f"idle CPU of an empty flow, {name}", unit, floor)
    yield Reading(f"idle CPU beyond an empty flow, {name}", unit, own - floor, Target(1))


def _start_and_stop(scope: Scope) -> Iterable[Reading]:
    """Start the stream with a page in the topic, and stop it once it is idle."""
    with Rig(FREE, scope.kafka) as rig:
        rig.feed(1)
        with stream(rig.settings()) as program:
            wait_until(lambda: rig.embedded() > 0, program, every_s=0.01)
            first_s = time.monotonic() - program.started_at
            yield Reading("start to first page embedded", "s", first_s, Target(1.5))
            rig.wait_until_delivered(1, program)
            time.sleep(REST_S)
            yield Reading("stop while idle", "s", program.stop(), Target(1))


def _percent_of_a_core(programs: tuple[Program, ...], seconds: float) -> list[float]:
    began = [program.cpu_s() for program in programs]
    time.sleep(seconds)
    return [
        100 * (program.cpu_s() - before) / seconds
        for program, before in zip(programs, began, strict=True)
    ]
