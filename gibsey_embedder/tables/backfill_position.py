"""Saves the position of a backfill on disk, so that the next backfill continues there."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

import orjson

from connectors.stores.base import VectorStore
from dataflow.clients import text_rules
from dataflow.config.settings import Settings

FILE = "backfill.json"
"""The name of the file in RECOVERY_DIR."""


@dataclass(slots=True)
class Position:
    """The position of a backfill; Kafka has confirmed everything before it.

    Attributes:
        purpose: A digest of what the backfill reads, where it sends, and how texts are embedded. A
            position with another purpose is not used.
        written_us: The write time of its changes (microseconds since 1970).
        state: The store's position of the next rows; None at the beginning.
        sent: Pages sent.
        blank: Pages without text, which need no vector.
        unsent: Pages that the topic does not accept.
    """

    purpose: str
    written_us: int
    state: str | None = None
    sent: int = 0
    blank: int = 0
    unsent: int = 0


class PositionFile:
    """The file of a position.

    Args:
        path: The path of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> Position | None:
        """Return the position; None if there is no readable one."""
        try:
            document = orjson.loads(self.path.read_bytes())
            position = Position(**document)
        except (FileNotFoundError, orjson.JSONDecodeError, TypeError):
            return None
        types = (str, int, str | None, int, int, int)
        fields = astuple(position)
        return position if all(map(isinstance, fields, types)) else None

    def save(self, position: Position) -> None:
        """Replace the file atomically.

        Raises:
            OSError: The file cannot be written.
        """
        self.path.parent.mkdir(0o700, parents=True, exist_ok=True)
        new = self.path.with_name(self.path.name + ".new")
        new.write_bytes(orjson.dumps(asdict(position)))
        new.replace(self.path)

    def remove(self) -> None:
        """Remove the file: the backfill is complete."""
        self.path.unlink(missing_ok=True)


def purpose_of(settings: Settings, store: VectorStore) -> str:
    """Return a digest of everything that distinguishes one backfill from another."""
    parts = (
        *store.identity,
        settings.brokers,
        settings.kafka_topic,
        settings.embed_lowercase,
        settings.embed_dimensions,
        *astuple(text_rules(settings)),
    )
    return hashlib.blake2b(orjson.dumps(parts), digest_size=16).hexdigest()
