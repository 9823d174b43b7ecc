"""From librdkafka's message to the stream's record."""

from __future__ import annotations

from confluent_kafka import Message

from connectors.core.records import Record, parse_origin

REPLAY_HEADER = "gibsey-replay-of"
"""Header of a replayed dead letter: the origin (`topic:partition:offset`) of its record."""
TIMESTAMP_HEADER = "gibsey-timestamp"
"""Header of dead letters and of replayed ones: the timestamp of the original in milliseconds."""


def record_of(message: Message, topic: str, era: int) -> Record:
    """Return a message as a record, with its key, value and timestamp.

    Args:
        message: A message without an error.
        topic: Its topic.
        era: The era of its partition's offsets.
    """
    kind, timestamp_ms = message.timestamp()
    replay_of = None
    if message.headers():
        headers = headers_of(message)
        if parse_origin(origin := headers.get(REPLAY_HEADER, "")):
            replay_of = origin
            # the broker may set another timestamp on the copy (LogAppendTime)
            kind, timestamp_ms = kind or 1, timestamp_of(headers) or timestamp_ms
    return Record(
        topic,
        message.partition() or 0,
        message.offset() or 0,
        timestamp_ms if kind else 0,
        bytes_of(message.key()),
        bytes_of(message.value()),
        era,
        replay_of,
    )


def headers_of(message: Message) -> dict[str, str]:
    """Return the headers of a message by name; of several with one name, the last."""
    headers = message.headers() or ()
    pairs = headers.items() if isinstance(headers, dict) else headers
    return {name: (bytes_of(value) or b"").decode(errors="replace") for name, value in pairs}


def timestamp_of(headers: dict[str, str]) -> int:
    """Return `TIMESTAMP_HEADER` (milliseconds since 1970); 0 if it is missing or invalid."""
    text = headers.get(TIMESTAMP_HEADER, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else 0


def bytes_of(data: str | bytes | None) -> bytes | None:
    """Return a key or a value as bytes; confluent-kafka's types allow text, too."""
    return data.encode() if isinstance(data, str) else data
