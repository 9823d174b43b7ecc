"""A fake in a process of its own, and its counters."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any

import httpx

from gibsey_embedder.fakes.process import FakeProcess


@dataclass(frozen=True, slots=True)
class Counts:
    """The counters of a fake at one time.

    Attributes:
        at: The time on the clock that all processes of this machine share.
        requests: Completed requests.
        items: Texts embedded, rows written or notifications accepted.
        held_s: Seconds for which slots were held, summed over all slots.
        cpu_s: CPU seconds of the process.
    """

    at: float
    requests: int
    items: int
    held_s: float
    cpu_s: float


class Service:
    """A fake in a process of its own; one connection reads its counters, to save CPU.

    Args:
        kind: The module in `gibsey_embedder.fakes`.
        options: Command-line options of the fake.

    Attributes:
        url: The URL of the fake.
    """

    def __init__(self, kind: str, **options: str | float | bool) -> None:
        self._process = FakeProcess(kind, **options)
        self.url = self._process.url
        self._http = httpx.Client(base_url=self.url)

    def counts(self) -> Counts:
        """Return the current counters."""
        stats: dict[str, Any] = self._http.get("/__stats__").json()
        names = ("at", "completed", "items", "slots_s", "process_cpu_s")
        return Counts(*(stats[name] for name in names))

    def __enter__(self) -> Service:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()
        self._process.stop()
