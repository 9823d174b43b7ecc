"""From librdkafka's message to the stream's record."""

from __future__ import annotations

from confluent_kafka import Message

from connectors.core.records import Record, parse_origin

REPLAY_HEADER = "gibsey-replay-of"
"""Header of a replayed dead letter: the origin (`topic:partition:offset`) of the record."""
TIMESTAMP_HEADER = "gibsey-timestamp"
"""Header of dead letters and of replayed ones: the original's own timestamp in milliseconds."""


def record_of(message: Message, topic: str, era: int) -> Record:
    """Take over key, value and time of a message as they are.

    Args:
        message: One without an error.
        topic: The topic it came from.
        era: The era of its partition's offsets.
    """
    kind, timestamp_ms = message.timestamp()
    replay_of = None
    if message.headers():
        headers = headers_of(message)
        if parse_origin(origin := headers.get(REPLAY_HEADER, "")):
            replay_of = origin
            # the broker may have given the copy a time of its own (LogAppendTime)
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
    """The headers of a message as texts by name; of doubled names the last one."""
    found = message.headers() or ()
    pairs = found.items() if isinstance(found, dict) else found
    return {name: (bytes_of(value) or b"").decode(errors="replace") for name, value in pairs}


def timestamp_of(headers: dict[str, str]) -> int:
    """What `TIMESTAMP_HEADER` says (milliseconds since 1970), 0 where it says nothing."""
    text = headers.get(TIMESTAMP_HEADER, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else 0


def bytes_of(data: str | bytes | None) -> bytes | None:
    """A key or a value as bytes; librdkafka's types allow texts, too."""
    return data.encode() if isinstance(data, str) else data
