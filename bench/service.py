"""A stand-in in a process of its own, and what it has counted."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any

import httpx

from gibsey_embedder.fakes.process import FakeProcess


@dataclass(frozen=True, slots=True)
class Counts:
    """What a stand-in had counted at a moment.

    Attributes:
        at: The moment, by the clock that all processes of this machine share.
        requests: Requests that it has carried out.
        items: Texts embedded, rows written or notifications taken.
        taken_s: Seconds that its slots were taken, summed.
        cpu_s: CPU of its process.
    """

    at: float
    requests: int
    items: int
    taken_s: float
    cpu_s: float


class Service:
    """A stand-in's process, asked through one connection: a new one each time would cost more.

    Args:
        kind: Its module in `demo`.
        options: Its command-line options.

    Attributes:
        url: Where it listens.
    """

    def __init__(self, kind: str, **options: str | float | bool) -> None:
        self._process = FakeProcess(kind, **options)
        self.url = self._process.url
        self._http = httpx.Client(base_url=self.url)

    def counts(self) -> Counts:
        """What it has counted until now."""
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
