"""Resident memory over a backlog, sampled while it is worked off."""

from __future__ import annotations

import statistics
import threading
from contextlib import suppress

from bench.program import Program, stream
from bench.rig import FREE, Rig

SAMPLE_S = 0.1
MB = 1 << 20


def resident_mb(pages: int) -> float:
    """The median of the resident set (MB) over the last half of a backlog of new pages."""
    with Rig(FREE) as rig:
        feeding = rig.feed_in_portions(pages)
        with stream(rig.settings()) as program:
            sampler = Sampler(program)
            rig.wait_until_delivered(pages, program)
            feeding.join()
            samples = sampler.stop()
    return statistics.median(samples[len(samples) // 2 :]) / MB


class Sampler:
    """Reads a program's resident set now and then, from a thread."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._samples: list[int] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> list[int]:
        """End; returns bytes, in order of time."""
        self._ended.set()
        self._thread.join()
        return self._samples

    def _run(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            with suppress(OSError):  # it has ended
                self._samples.append(self._program.resident_bytes())
