"""Single edits on an idle stream: how long the stream itself adds to the services' times.

The stand-ins run on threads of this process here: nothing else happens on them, and each moment
is known exactly.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.program import Program, stream
from bench.rig import EMBEDDER_SLOWEST, TIMEOUT_S, send_page, service_settings, wait_until
from demo.kafka import MockKafka
from demo.ollama import Ollama
from demo.rag import Rag
from demo.stargate import Stargate

PAGES = 20
SPEED = EMBEDDER_SLOWEST


@dataclass(frozen=True, slots=True)
class Edits:
    """Milliseconds of each edit.

    Attributes:
        freshness_ms: From the producer's call to the last output.
        overhead_ms: The same without the embedder's, and the slower output's, own time.
    """

    freshness_ms: list[float]
    overhead_ms: list[float]


class _Services:
    """Broker and stand-ins of one run."""

    def __init__(self, kafka: MockKafka, ollama: Ollama, stargate: Stargate, rag: Rag) -> None:
        self.kafka, self.ollama, self.stargate, self.rag = kafka, ollama, stargate, rag

    def settings(self) -> dict[str, str]:
        urls = (self.ollama.url, self.stargate.url, self.rag.url)
        return service_settings(self.kafka.broker, *urls)

    def edit(self, number: int) -> tuple[float, float]:
        """Change a page; returns milliseconds until both outputs had it, and our part of them."""
        before = self._own_times()
        began = time.perf_counter()
        send_page(self.kafka, f"page-{number % PAGES}", number, "u")
        stored = self.stargate.vectors.wait_for_writes(number, TIMEOUT_S)
        if not (stored and self.rag.wait_for(number, TIMEOUT_S)):
            raise TimeoutError(f"edit {number} did not arrive")
        freshness = time.perf_counter() - began
        while self.stargate.stats.in_flight or self.rag.stats.in_flight:
            time.sleep(0.001)
        embed, store, notify = (b - a for a, b in zip(before, self._own_times(), strict=True))
        return 1000 * freshness, 1000 * (freshness - embed - max(store, notify))

    def _own_times(self) -> tuple[float, ...]:
        return tuple(s.stats.busy_s for s in (self.ollama, self.stargate, self.rag))


def make_edits(edits: int, workers: int = 1) -> Edits:
    """Change one page after the other, with pauses, and time each change."""
    with (
        MockKafka() as kafka,
        Ollama(request_s=SPEED.request_s, text_s=SPEED.text_s, cheap=True) as ollama,
        Stargate(delay_s=SPEED.store_s) as stargate,
        Rag(delay_s=SPEED.notify_s, record=False) as rag,
    ):
        services = _Services(kafka, ollama, stargate, rag)
        with stream(services.settings(), workers=workers) as program:
            _warm_up(services, program)
            timed = [_after_a_pause(services, n) for n in range(PAGES + 1, PAGES + edits + 1)]
    return Edits([freshness for freshness, _ in timed], [overhead for _, overhead in timed])


def percentile(values: Sequence[float], percent: int) -> float:
    """A percentile by linear interpolation."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def _warm_up(services: _Services, program: Program) -> None:
    send_page(services.kafka, "page-1", 1)
    wait_until(lambda: services.rag.stats.items == 1, program)
    for number in range(2, PAGES + 1):
        services.edit(number)


def _after_a_pause(services: _Services, number: int) -> tuple[float, float]:
    time.sleep(random.Random(number).uniform(0.02, 0.06))  # so that no two cycles keep step
    return services.edit(number)
