"""The properties of librdkafka that KAFKA_OPTIONS cannot change."""

from __future__ import annotations

FIXED_PROPERTIES = {
    "bootstrap.servers": "use KAFKA_BROKER",
    "metadata.broker.list": "use KAFKA_BROKER",
    "group.id": "use KAFKA_GROUP",
    "enable.auto.commit": "the program itself commits the offsets of settled events",
    "enable.auto.offset.store": "the program itself commits the offsets of settled events",
    "auto.offset.reset": "the program itself detects and reports a lost position",
    "enable.partition.eof": "",
    "enable.idempotence": "",
    "acks": "",
    "request.required.acks": "",
    "message.timeout.ms": "",
    "delivery.timeout.ms": "",
    "allow.auto.create.topics": "",
    "log_level": "",
    "log.queue": "",
    "log.connection.close": "",
}
"""Properties that the program's guarantees depend on, each with what to do instead. The settings
reject a property with such a text; a property without one is ignored, with a warning."""
