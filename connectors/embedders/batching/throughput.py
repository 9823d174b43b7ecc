"""How fast an embedder is, learned from its answers."""

from __future__ import annotations

TARGET_S = 1.0
"""Seconds of the embedder's time that one window may take: on a CPU a batch of 32 full pages
takes 15 s, and all that arrives meanwhile waits behind it."""

PAGE_COST_CHARS = 200
"""What a text costs before its first character, in characters: a short text is not free."""

_MEMORY = 0.7
"""Weight of what was known, per answer: an embedder that changes is known after ten answers."""

SLOWEST_START_S = 60.0
"""Time-out while nothing is known: a model that is being loaded takes long."""

MAX_TIMEOUT_FACTOR = 4.0
"""How many times longer than expected an answer is waited for in the end: one text that takes
four minutes gets through, and a request that nobody will answer does not hold its page longer."""


def cost_chars(text: str) -> int:
    """What embedding a text costs, in characters."""
    return len(text) + PAGE_COST_CHARS


class Throughput:
    """Seconds per character of one endpoint; an exponential mean over its answers."""

    def __init__(self, target_s: float = TARGET_S) -> None:
        self._target_s = target_s
        self._seconds = 0.0
        self._chars = 0.0
        self._timeout_factor = 1.0

    def learn(self, chars: int, seconds: float) -> None:
        """Take an answer into account: `chars` of cost took `seconds` of computing."""
        self._seconds = self._seconds * _MEMORY + seconds
        self._chars = self._chars * _MEMORY + chars
        self._timeout_factor = max(1.0, self._timeout_factor / 2)

    def timed_out(self) -> None:
        """Take a time-out into account: smaller windows and more patience from now on."""
        self._timeout_factor = min(self._timeout_factor * 2, MAX_TIMEOUT_FACTOR)

    @property
    def window_chars(self) -> float:
        """Cost that the endpoint works off in `TARGET_S`; infinite while nothing is known."""
        if not self._seconds:
            return float("inf")
        return self._target_s * self._chars / self._seconds / self._timeout_factor

    def expected_s(self, chars: int) -> float:
        """Seconds that a window of this cost takes; 0 while nothing is known."""
        return chars * self._seconds / self._chars if self._chars else 0.0

    def timeout_s(self, chars: int, ahead_chars: int) -> float:
        """Time-out for a window behind others of cost `ahead_chars` at the same endpoint."""
        expected = self.expected_s(chars + ahead_chars)
        return (SLOWEST_START_S + 5 * expected) * self._timeout_factor
