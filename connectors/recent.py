"""The latest warnings, errors and dead letters, kept for the status page."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

KEPT = 100
"""How many are kept; the log has them all."""
LONGEST_TEXT = 300
LONGEST_FACT = 160
MOST_FACTS = 12
DEAD_LETTER = "dead letter"
"""What the log calls a dead letter; its line has `reason`, `detail` and `origin`."""
_BARE = ("event", "level", "timestamp", "logger", "exc_info", "exception", "trace")


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that a person who looks at the status page wants to have seen.

    Attributes:
        number: Counts up from 1, so that a page can tell what it has shown already.
        at: When (seconds since 1970).
        level: `warning`, `error` or `dead-letter`.
        source: What spoke, `stream`, `kafka`, `embedder`, …; of a dead letter, its reason.
        text: What happened, on one line, without secrets and without texts of pages.
        facts: More of it by name, each on one line and shortened.
    """

    number: int
    at: float
    level: str
    source: str
    text: str
    facts: Mapping[str, str]


class Recent:
    """A ring of happenings; may be written and read from any thread.

    Args:
        kept: How many it holds.
        clock: Seconds since 1970.
    """

    def __init__(self, kept: int = KEPT, clock: Callable[[], float] = time.time) -> None:
        self._ring: deque[Happening] = deque(maxlen=kept)
        self._clock = clock
        self._lock = threading.Lock()
        self._number = 0

    def add(self, level: str, source: str, text: str, /, **facts: object) -> None:
        """Note a happening; texts are brought to one line and shortened."""
        short = {name: _shown(value, LONGEST_FACT) for name, value in facts.items()}
        kept = dict(list(short.items())[:MOST_FACTS])
        line = _shown(text, LONGEST_TEXT)
        with self._lock:
            self._number += 1
            self._ring.append(Happening(self._number, self._clock(), level, source, line, kept))

    def note_line(self, line: Mapping[str, object]) -> None:
        """Note a log line if it is a warning or worse; secrets must be struck out already."""
        level = str(line.get("level", ""))
        if level not in ("warning", "error", "critical"):
            return
        facts = {name: value for name, value in line.items() if name not in _BARE}
        source = str(line.get("logger", "stream"))
        text = str(line.get("event", ""))
        if text == DEAD_LETTER:
            level, source = "dead-letter", str(facts.pop("reason", source))
            text = str(facts.pop("detail", "")) or text
        self.add("error" if level == "critical" else level, source, text, **facts)

    def latest(self) -> list[Happening]:
        """What is held, newest first."""
        with self._lock:
            return list(reversed(self._ring))


def _shown(value: object, longest: int) -> str:
    """A value on one printable line of at most `longest` characters."""
    if isinstance(value, float):
        return f"{value:.4g}"
    raw = str(value)
    text = raw[: longest + 1]
    if not text.isprintable():
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(raw) <= longest and len(text) <= longest else text[: longest - 1] + "…"
