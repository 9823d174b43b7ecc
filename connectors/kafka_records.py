"""From librdkafka's message to the stream's record."""

from __future__ import annotations

from confluent_kafka import Message

from connectors.records import Record

REPLAY_HEADER = "gibsey-replay-of"
"""Header of a replayed dead letter: the origin (`topic:partition:offset`) of the record."""


def record_of(message: Message, topic: str, era: int) -> Record:
    """Take over key, value and time of a message as they are.

    Args:
        message: One without an error.
        topic: The topic it came from.
        era: The era of its partition's offsets.
    """
    kind, timestamp_ms = message.timestamp()
    return Record(
        topic,
        message.partition() or 0,
        message.offset() or 0,
        timestamp_ms if kind else 0,
        _bytes(message.key()),
        _bytes(message.value()),
        era,
        _replay_of(message),
    )


def _bytes(data: str | bytes | None) -> bytes | None:
    return data.encode() if isinstance(data, str) else data


def _replay_of(message: Message) -> str | None:
    headers = message.headers()
    if not headers:
        return None
    for name, value in headers.items() if isinstance(headers, dict) else headers:
        if name == REPLAY_HEADER and value is not None:
            text = (_bytes(value) or b"").decode(errors="replace")
            return text if _is_origin(text) else None
    return None


def _is_origin(text: str) -> bool:
    """Whether this is `topic:partition:offset`."""
    parts = text.rsplit(":", 2)
    return len(parts) == 3 and all(part.isdecimal() and part.isascii() for part in parts[1:])
