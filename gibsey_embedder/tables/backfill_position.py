"""Where a backfill is, on disk, so that the next one goes on there."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

import orjson

from dataflow.config.settings import Settings
from dataflow.wiring import text_rules

FILE = "backfill.json"
"""Its name in RECOVERY_DIR."""


@dataclass(slots=True)
class Position:
    """How far a backfill has come: everything up to here is confirmed by Kafka.

    Attributes:
        purpose: A digest of what it reads, where it sends, and how texts are embedded: a position
            of another purpose is none.
        written_us: The time that its changes count as written at (microseconds since 1970).
        state: Stargate's `pageState` of the next rows; None at the beginning.
        sent: Pages sent.
        blank: Pages without text, that need no vector.
        unsent: Pages that the topic does not take.
    """

    purpose: str
    written_us: int
    state: str | None = None
    sent: int = 0
    blank: int = 0
    unsent: int = 0


class PositionFile:
    """A position's file.

    Args:
        path: Where it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> Position | None:
        """The position, or None where there is none that can be read."""
        try:
            found = orjson.loads(self.path.read_bytes())
            position = Position(**found)
        except (FileNotFoundError, orjson.JSONDecodeError, TypeError):
            return None
        kinds = (str, int, str | None, int, int, int)
        fields = astuple(position)
        return position if all(map(isinstance, fields, kinds)) else None

    def save(self, position: Position) -> None:
        """Put it in the place of the one before, whole or not at all.

        Raises:
            OSError: It cannot be written.
        """
        self.path.parent.mkdir(0o700, parents=True, exist_ok=True)
        aside = self.path.with_name(self.path.name + ".new")
        aside.write_bytes(orjson.dumps(asdict(position)))
        aside.replace(self.path)

    def remove(self) -> None:
        """Forget it: the backfill is done."""
        self.path.unlink(missing_ok=True)


def purpose_of(settings: Settings) -> str:
    """The digest of everything that makes one backfill another than the next."""
    parts = (
        settings.stargate_url,
        settings.stargate_keyspace,
        settings.stargate_pages_table,
        settings.stargate_table,
        settings.brokers,
        settings.kafka_topic,
        settings.embed_lowercase,
        settings.embed_dimensions,
        *astuple(text_rules(settings)),
    )
    return hashlib.blake2b(orjson.dumps(parts), digest_size=16).hexdigest()
