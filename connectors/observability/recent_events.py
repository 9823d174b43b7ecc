"""The latest warnings, errors and dead letters, for the status page."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

MAX_EVENTS = 100
"""How many different events are kept. The log has all of them."""
MAX_TEXT_CHARS = 300
MAX_FACT_CHARS = 160
MAX_FACTS = 12

DEAD_LETTER = "dead letter"
"""The log event of a dead letter; its line has `reason`, `detail` and `origin`."""
MORE_DEAD_LETTERS = "more dead letters"
"""The log event of several dead letters without a line each; `reason` and `count`."""
WAITING = "waiting"
"""The log event of a stall; its line has `service`, `reason` and perhaps `remedy`."""

_NOT_FACTS = ("event", "level", "timestamp", "logger_name", "exc_info", "exception", "trace")


@dataclass(frozen=True, slots=True)
class RecentEvent:
    """A warning, an error or a dead letter.

    An event with the same level, source and text as an earlier one replaces it.

    Attributes:
        number: Counts up from 1, so that a page recognises what it has shown already.
        at: The last time that it occurred (seconds since 1970).
        since: The first time.
        times: How often it occurred.
        level: `warning`, `error` or `dead-letter`.
        source: The logger (`stream`, `kafka`, `embedder`, …), the service of a stall, or the reason
            of a dead letter.
        text: What happened, on one line, without secrets and without texts of pages.
        facts: The other fields by name, each on one line and shortened.
    """

    number: int
    at: float
    since: float
    times: int
    level: str
    source: str
    text: str
    facts: Mapping[str, str]


class RecentEvents:
    """The latest events. Any thread may read and write them.

    Args:
        max_events: How many different events it keeps.
        clock: Seconds since 1970.
    """

    def __init__(
        self, max_events: int = MAX_EVENTS, clock: Callable[[], float] = time.time
    ) -> None:
        self._max_events = max_events
        self._events: dict[tuple[str, str, str], RecentEvent] = {}  # the newest last
        self._clock = clock
        self._lock = threading.Lock()
        self._number = 0

    def add(self, level: str, source: str, text: str, /, **facts: object) -> None:
        """Add an event; its texts are shortened to one line."""
        short = {name: _one_line(value, MAX_FACT_CHARS) for name, value in facts.items()}
        kept = dict(list(short.items())[:MAX_FACTS])
        line = _one_line(text, MAX_TEXT_CHARS)
        with self._lock:
            self._number += 1
            now, same = self._clock(), self._events.pop((level, source, line), None)
            since, times = (same.since, same.times + 1) if same else (now, 1)
            event = RecentEvent(self._number, now, since, times, level, source, line, kept)
            self._events[level, source, line] = event
            if len(self._events) > self._max_events:
                del self._events[next(iter(self._events))]

    def add_log_line(self, line: Mapping[str, object]) -> None:
        """Add a log line if it is a warning or worse; secrets must already be redacted."""
        level = str(line.get("level", ""))
        if level not in ("warning", "error", "critical"):
            return
        facts = {name: value for name, value in line.items() if name not in _NOT_FACTS}
        source = str(line.get("logger_name", "stream"))
        text = str(line.get("event", ""))
        if text == DEAD_LETTER:
            level, source = "dead-letter", str(facts.pop("reason", source))
            text = str(facts.pop("detail", "")) or text
        elif text == MORE_DEAD_LETTERS:
            level, source = "dead-letter", str(facts.pop("reason", source))
        elif text == WAITING:
            facts.pop("since_s", None)
            source, reason = str(facts.pop("service", source)), facts.pop("reason", "")
            text = f"{text}: {reason}"
        self.add("error" if level == "critical" else level, source, text, **facts)

    def latest(self) -> list[RecentEvent]:
        """Return all events, newest first."""
        with self._lock:
            return list(reversed(self._events.values()))


def _one_line(value: object, max_chars: int) -> str:
    """Return a value on one printable line of at most `max_chars` characters."""
    if isinstance(value, float):
        return f"{value:.4g}"
    full = str(value)
    text = full[: max_chars + 1]
    if not text.isprintable():
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    fits = len(full) <= max_chars and len(text) <= max_chars
    return text if fits else text[: max_chars - 1] + "…"
