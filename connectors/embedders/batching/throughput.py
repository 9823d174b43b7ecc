"""The throughput of an embedder, measured from its responses."""

from __future__ import annotations

TARGET_S = 1.0
"""Seconds of the embedder's time that one window may take. On a CPU, a window of 32 full pages
takes 15 s, and every page that arrives meanwhile waits behind it."""

TEXT_COST_CHARS = 200
"""The cost of a text before its first character, in characters: a short text is not free."""

_DECAY = 0.7
"""Weight of the earlier responses at each new one. Ten responses later they hardly count."""

SLOWEST_START_S = 60.0
"""The timeout while no throughput is known, because a model may have to be loaded."""

MAX_TIMEOUT_FACTOR = 4.0
"""How far timeouts can grow: enough for one text that takes four minutes."""


def cost_chars(text: str) -> int:
    """Return what embedding a text costs, in characters."""
    return len(text) + TEXT_COST_CHARS


class Throughput:
    """Seconds per character of one endpoint, as an exponential mean over its responses.

    Args:
        target_s: Seconds that one window should take.
    """

    def __init__(self, target_s: float = TARGET_S) -> None:
        self._target_s = target_s
        self._seconds = 0.0
        self._chars = 0.0
        self._timeout_factor = 1.0

    def learn(self, chars: int, seconds: float) -> None:
        """Take a response into account: texts that cost `chars` took `seconds` to compute."""
        self._seconds = self._seconds * _DECAY + seconds
        self._chars = self._chars * _DECAY + chars
        self._timeout_factor = max(1.0, self._timeout_factor / 2)

    def timed_out(self) -> None:
        """Take a timeout into account: windows become smaller, and timeouts longer."""
        self._timeout_factor = min(self._timeout_factor * 2, MAX_TIMEOUT_FACTOR)

    @property
    def window_chars(self) -> float:
        """The cost of a window that takes `target_s`; infinite while no throughput is known."""
        if not self._seconds:
            return float("inf")
        return self._target_s * self._chars / self._seconds / self._timeout_factor

    def expected_s(self, chars: int) -> float:
        """Return how many seconds a window takes; 0 while no throughput is known."""
        return chars * self._seconds / self._chars if self._chars else 0.0

    def timeout_s(self, chars: int, ahead_chars: int) -> float:
        """Return the timeout of a window that waits behind others that cost `ahead_chars`."""
        expected = self.expected_s(chars + ahead_chars)
        return (SLOWEST_START_S + 5 * expected) * self._timeout_factor
