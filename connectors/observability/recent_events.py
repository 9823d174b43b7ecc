"""The latest warnings, errors and dead letters, kept for the status page."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

KEPT = 100
"""How many different ones are kept; the log has them all."""
LONGEST_TEXT = 300
LONGEST_FACT = 160
MOST_FACTS = 12
DEAD_LETTER = "dead letter"
"""What the log calls a dead letter; its line has `reason`, `detail` and `origin`."""
MORE_LETTERS = "more dead letters"
"""What it says of those that had no line of their own; `reason` and `count`."""
WAITING = "waiting"
"""What the log says of a stall; its line has `service`, `reason` and perhaps `remedy`."""
_BARE = ("event", "level", "timestamp", "logger_name", "exc_info", "exception", "trace")


@dataclass(frozen=True, slots=True)
class RecentEvent:
    """Something that a person who looks at the status page wants to have seen.

    What happens again with the same words is one event, that has moved to the top.

    Attributes:
        number: Counts up from 1, so that a page can tell what it has shown already.
        at: When, the last time (seconds since 1970).
        since: When, the first time.
        times: How often.
        level: `warning`, `error` or `dead-letter`.
        source: What spoke, `stream`, `kafka`, `embedder`, …; of a stall, the service; of a dead
            letter, its reason.
        text: What happened, on one line, without secrets and without texts of pages.
        facts: More of it by name, each on one line and shortened.
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
    """The latest happenings; may be written and read from any thread.

    Args:
        kept: How many different ones it holds.
        clock: Seconds since 1970.
    """

    def __init__(self, kept: int = KEPT, clock: Callable[[], float] = time.time) -> None:
        self._kept = kept
        self._held: dict[tuple[str, str, str], RecentEvent] = {}  # the newest last
        self._clock = clock
        self._lock = threading.Lock()
        self._number = 0

    def add(self, level: str, source: str, text: str, /, **facts: object) -> None:
        """Note a event; texts are brought to one line and shortened."""
        short = {name: _shown(value, LONGEST_FACT) for name, value in facts.items()}
        kept = dict(list(short.items())[:MOST_FACTS])
        line = _shown(text, LONGEST_TEXT)
        with self._lock:
            self._number += 1
            now, same = self._clock(), self._held.pop((level, source, line), None)
            since, times = (same.since, same.times + 1) if same else (now, 1)
            event = RecentEvent(self._number, now, since, times, level, source, line, kept)
            self._held[level, source, line] = event
            if len(self._held) > self._kept:
                del self._held[next(iter(self._held))]

    def note_line(self, line: Mapping[str, object]) -> None:
        """Note a log line if it is a warning or worse; secrets must be struck out already."""
        level = str(line.get("level", ""))
        if level not in ("warning", "error", "critical"):
            return
        facts = {name: value for name, value in line.items() if name not in _BARE}
        source = str(line.get("logger_name", "stream"))
        text = str(line.get("event", ""))
        if text == DEAD_LETTER:
            level, source = "dead-letter", str(facts.pop("reason", source))
            text = str(facts.pop("detail", "")) or text
        elif text == MORE_LETTERS:
            level, source = "dead-letter", str(facts.pop("reason", source))
        elif text == WAITING:
            facts.pop("since_s", None)
            source, reason = str(facts.pop("service", source)), facts.pop("reason", "")
            text = f"{text}: {reason}"
        self.add("error" if level == "critical" else level, source, text, **facts)

    def latest(self) -> list[RecentEvent]:
        """What is held, newest first."""
        with self._lock:
            return list(reversed(self._held.values()))


def _shown(value: object, longest: int) -> str:
    """A value on one printable line of at most `longest` characters."""
    if isinstance(value, float):
        return f"{value:.4g}"
    raw = str(value)
    text = raw[: longest + 1]
    if not text.isprintable():
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(raw) <= longest and len(text) <= longest else text[: longest - 1] + "…"
