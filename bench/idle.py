"""The stream without work: its CPU beside an empty flow's, its start and its stop."""

from __future__ import annotations

import time
from dataclasses import dataclass

from bench.program import Program, peer_flow, stream
from bench.rig import FREE, Rig, count, wait_until

SETTLE_S = 7.0
"""Past the time from which on a slot looks more rarely."""

REAL_FETCH = '{"fetch.wait.max.ms": 500}'
"""librdkafka's own default: the 5 ms that suit the mock broker are 600 fetches a second."""


@dataclass(frozen=True, slots=True)
class Idle:
    """CPU while nothing happens, both at the same time; percent of one core.

    Attributes:
        stream_percent: The stream's.
        empty_percent: An empty Bytewax flow's with as many workers.
    """

    stream_percent: float
    empty_percent: float

    @property
    def difference(self) -> float:
        """What the stream costs beyond Bytewax itself."""
        return self.stream_percent - self.empty_percent


@dataclass(frozen=True, slots=True)
class StartAndStop:
    """Seconds.

    Attributes:
        first_page_s: From the start of the process to the first page embedded.
        stop_s: From SIGTERM to the end of the process, while idle.
    """

    first_page_s: float
    stop_s: float


def idle_cpu(seconds: float, workers: int) -> Idle:
    """Watch the stream, after one page, and an empty flow side by side."""
    with Rig(FREE) as rig:
        rig.feed(1)
        with (
            stream(rig.settings(KAFKA_OPTIONS=REAL_FETCH), workers=workers) as program,
            peer_flow("empty_flow", {}, workers=workers) as empty,
        ):
            rig.wait_until_delivered(1, program)
            time.sleep(SETTLE_S)
            began = (program.cpu_s(), empty.cpu_s())
            time.sleep(seconds)
            return Idle(_percent(program, began[0], seconds), _percent(empty, began[1], seconds))


def start_and_stop() -> StartAndStop:
    """Start the stream with a page in the topic, and stop it once it is idle."""
    with Rig(FREE) as rig:
        rig.feed(1)
        with stream(rig.settings()) as program:
            wait_until(lambda: count(rig.ollama, "items") > 0, program, every_s=0.01)
            first_page_s = time.monotonic() - program.started_at
            rig.wait_until_delivered(1, program)
            time.sleep(1)
            return StartAndStop(first_page_s, program.stop())


def _percent(program: Program, began: float, seconds: float) -> float:
    return 100 * (program.cpu_s() - began) / seconds
