"""Samples the resident memory while the stream processes a backlog."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Iterable
from contextlib import suppress
from functools import partial

from bench.measurement import Measurement, Step, Target
from bench.program import Program, stream
from bench.rig import FREE, Rig
from bench.scope import Scope
from bench.slowest import START_S

SAMPLE_S = 0.1
MB = 1 << 20
SAME = Target(5)


def steps(scope: Scope) -> list[Step]:
    """Return one step for both backlogs, because their ratio is a figure."""
    seconds = 2 * START_S + sum(scope.memory_pages) / 1500
    return [Step("memory", "memory", seconds, partial(_measure, scope))]


def _measure(scope: Scope) -> Iterable[Measurement]:
    small, large = scope.memory_pages
    few, many = (_samples_mb(pages, scope) for pages in (small, large))
    yield _resident(small, few)
    yield _resident(large, many)
    growth = _second_half(many) / _second_half(few) - 1
    yield Measurement(f"resident, {large:,} pages beyond {small:,}", "%", 100 * growth, SAME)
    quarter = len(many) // 4
    later = statistics.median(many[3 * quarter :]) / statistics.median(many[quarter : 2 * quarter])
    yield Measurement(
        f"growth from the 2nd to the 4th quarter of {large:,}", "%", 100 * (later - 1)
    )


def resident(scope: Scope) -> Measurement:
    """Measure the resident set during the smaller backlog."""
    pages, _ = scope.memory_pages
    return _resident(pages, _samples_mb(pages, scope))


def _resident(pages: int, samples: list[float]) -> Measurement:
    return Measurement(f"resident, {pages:,} pages", "MB", _second_half(samples))


def _second_half(samples: list[float]) -> float:
    return statistics.median(samples[len(samples) // 2 :])


def _samples_mb(pages: int, scope: Scope) -> list[float]:
    """Return the resident set (MB) over time, during a backlog of new pages."""
    with Rig(FREE, scope.kafka) as rig:
        feeding = None if scope.kafka else rig.feed_in_portions(pages)
        if scope.kafka:
            rig.feed(pages)
        with stream(rig.settings(), checkout=scope.checkout) as program:
            sampler = Sampler(program)
            rig.wait_until_delivered(pages, program)
            samples = sampler.stop()
        if feeding is not None:
            feeding.join()
    return [sample / MB for sample in samples]


class Sampler:
    """Samples a program's resident set in a thread."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._samples: list[int] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> list[int]:
        """Stop; return the samples in bytes, in order of time."""
        self._ended.set()
        self._thread.join()
        return self._samples

    def _run(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            with suppress(OSError):  # the program has ended
                self._samples.append(self._program.resident_bytes())
