"""The texts that wait for an embedder, and the windows that are made of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from connectors.embedders.batching.jobs import EmbedJob, Part
from connectors.embedders.batching.throughput import cost_chars
from connectors.embedders.endpoint_pool import Endpoint, Provider

_FEWEST_TO_SWEEP = 4096


@dataclass(frozen=True, slots=True)
class WindowLimits:
    """The most that one window holds.

    Attributes:
        pages: Texts.
        chars: Characters.
        wait_s: How long a window may wait for company while an embedder is free.
    """

    pages: int = 32
    chars: int = 100_000
    wait_s: float = 0.0


class WaitingTexts:
    """A queue of texts, all prepared for one provider, by its rules; used on the I/O loop only.

    Args:
        provider: Who is to embed them.

    Attributes:
        provider: The same; `switch` changes it.
    """

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self._parts: deque[Part] = deque()
        self._held: list[EmbedJob] = []
        self._sweep_at = _FEWEST_TO_SWEEP

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def oldest(self) -> EmbedJob:
        """The page whose text is at the head."""
        return self._parts[0].job

    @property
    def begins_with_suspect(self) -> bool:
        """Whether the text at the head may make the server fail: it goes with no other."""
        return self._parts[0].is_suspect

    @property
    def held(self) -> int:
        """Pages that wait for another provider than the present one."""
        return len(self._held)

    def add(self, job: EmbedJob) -> None:
        """Take a page, behind the others."""
        self._parts.extend(self.provider.parts_of(job))

    def put_back(self, provider: Provider, parts: Sequence[Part], *, last: bool = False) -> None:
        """Take texts back that a provider was asked for, at the head, or behind the others.

        Where another one has taken over meanwhile, or the rules have changed, their pages are
        prepared anew.
        """
        parts = [part for part in parts if part.is_open]
        is_same = provider is self.provider
        if not is_same or any(part.rules is not provider.rules for part in parts):
            jobs = dict.fromkeys(part.job for part in parts)
            parts = [part for job in jobs for part in self.provider.parts_of(job)]
        if last:
            self._parts.extend(parts)
        else:
            self._parts.extendleft(reversed(parts))

    def hold(self, provider: Provider, job: EmbedJob) -> None:
        """Keep a page that a provider refuses for the other one."""
        job.parts = []
        job.sent = False
        if provider is self.provider:
            self._held.append(job)
        else:
            self.add(job)

    def switch(self, provider: Provider) -> list[EmbedJob]:
        """Let another provider embed; returns what has waited, each page once and in order."""
        jobs = dict.fromkeys([*self._held, *(part.job for part in self._parts)])
        self._held.clear()
        self._parts.clear()
        self.provider = provider
        return [job for job in jobs if not job.dropped and job.refused is None]

    def sweep(self) -> None:
        """Let go of texts that nobody wants any more, once they may be half of what waits.

        While an embedder is away, a page that changes all the time leaves one with each change.
        """
        if len(self._parts) < self._sweep_at:
            return
        self._parts = deque(part for part in self._parts if not part.job.dropped)
        self._held = [job for job in self._held if not job.dropped]
        self._sweep_at = max(2 * len(self._parts), _FEWEST_TO_SWEEP)

    def close_window(self, endpoint: Endpoint, limits: WindowLimits) -> list[Part]:
        """Take a window for an endpoint: empty where nobody wants what is left."""
        window: list[Part] = []
        chars, cost = 0, 0
        # after a fault one text is risked: it may hang for as long as the time-out allows
        most = 1 if endpoint.faults else min(limits.pages, endpoint.client.max_texts)
        while self._parts and len(window) < most:
            part = self._parts[0]
            if part.job.dropped or part.job.refused is not None:
                self._parts.popleft()
                continue
            if part.is_suspect and (window or endpoint.in_flight):
                break
            chars += len(part.text)
            cost += cost_chars(part.text)
            full = chars > limits.chars or cost > endpoint.pace.window_chars
            if window and full:
                break
            window.append(self._parts.popleft())
            if part.is_suspect:
                break
        return window
