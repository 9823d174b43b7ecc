"""How Kafka is reached: the properties of every client that this program opens.

One object holds what the settings say; sources, dead letters and commands ask it for the
configuration of a consumer, a producer or an admin client, so that security and time-outs are the
same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from connectors.observability import logs

Property = str | int | float | bool

DEPENDED_ON = (
    "bootstrap.servers",
    "metadata.broker.list",
    "group.id",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "enable.partition.eof",
    "enable.idempotence",
    "acks",
    "request.required.acks",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "allow.auto.create.topics",
    "log_level",
    "log.queue",
    "log.connection.close",
)
"""Properties that the program's promises stand on: KAFKA_OPTIONS cannot change them."""

QUEUE_KB = 512
FETCH_KB = 256
"""Records that one consumer has ready, and that it asks for at once for a partition. With 4 MB and
1 MB a long backlog took 20 MB more than a short one, and was no faster; the default is 64 MB."""


@dataclass(frozen=True, slots=True)
class KafkaConfig:
    """Where Kafka is, how to log in, and what is read there.

    Attributes:
        brokers: `host:port`, several with commas.
        tls: Whether the brokers speak TLS.
        ca_file: A PEM file with the authorities to trust; None: the system's.
        username: The SASL user, if a login is wanted.
        password: Its password; never in `repr`.
        sasl_mechanism: `PLAIN`, `SCRAM-SHA-256`, …; None: no login.
        options: More librdkafka properties; they win over ours except `DEPENDED_ON`.
        topic: The topic with the changes of pages.
        group: The consumer group under which positions are committed.
    """

    brokers: str
    topic: str = "cdc.pages"
    group: str = "gibsey-embedder"
    tls: bool = False
    ca_file: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sasl_mechanism: str | None = None
    options: Mapping[str, Property] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        ignored = [name for name in self.options if name in DEPENDED_ON]
        if ignored:
            logs.get("kafka").warning(
                "KAFKA_OPTIONS cannot change these, the stream depends on them",
                ignored=", ".join(ignored),
            )

    @property
    def uses_login(self) -> bool:
        """Whether the clients log in (SASL)."""
        return bool(self.sasl_mechanism) or "sasl" in self._protocol

    @property
    def uses_tls(self) -> bool:
        """Whether the clients speak TLS."""
        return "ssl" in self._protocol

    @property
    def _protocol(self) -> str:
        ours = ("sasl_" if self.sasl_mechanism else "") + ("ssl" if self.tls else "plaintext")
        return str(self.options.get("security.protocol", ours)).lower()

    def consumer_config(self) -> dict[str, Property]:
        """Properties of a consumer that reads what it is told and commits nothing by itself."""
        config = self._with_options(
            {
                "group.id": self.group,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                # A lost position is an error that we hear of; by default it jumps in silence.
                "auto.offset.reset": "error",
                # Tells the position past records that nobody sees (transaction markers).
                "enable.partition.eof": True,
                "allow.auto.create.topics": False,
                "queued.max.messages.kbytes": QUEUE_KB,
                "fetch.max.bytes": 1024 * 1024,
                "fetch.message.max.bytes": FETCH_KB * 1024,
                # How soon a queue that was full is filled again; the default of 1 s leaves gaps.
                "fetch.queue.backoff.ms": 20,
                "fetch.wait.max.ms": 500,
            }
        )
        config.pop("message.max.bytes", None)  # a producer's; no fetch may be bounded below it
        return config

    def producer_config(self) -> dict[str, Property]:
        """Properties of a producer that delivers every message once, however long it takes."""
        return self._with_options(
            {
                "enable.idempotence": True,
                "acks": "all",
                "message.timeout.ms": 0,
                # Originals may be as large as their topic allows; the broker is the judge.
                "message.max.bytes": 16 * 1024 * 1024,
                "topic.metadata.propagation.max.ms": 5000,
                "linger.ms": 5,
            }
        )

    def admin_config(self) -> dict[str, Property]:
        """Properties of a client that asks about topics and makes them."""
        return self._with_options({})

    def _with_options(self, own: Mapping[str, Property]) -> dict[str, Property]:
        wished = {name: v for name, v in self.options.items() if name not in DEPENDED_ON}
        config = {**self._common(), **own, **wished}
        return {name: _as_text(value) for name, value in config.items()}

    def _common(self) -> dict[str, Property]:
        found: dict[str, Property | None] = {
            "bootstrap.servers": self.brokers,
            "client.id": "gibsey-embedder",
            "security.protocol": self._protocol,
            "ssl.ca.location": self.ca_file,
            "sasl.mechanism": self.sasl_mechanism,
            "sasl.username": self.username,
            "sasl.password": self.password,
            "statistics.interval.ms": 0,
            # A broker that comes back is noticed within 2 s; the default is 10 s.
            "reconnect.backoff.ms": 100,
            "reconnect.backoff.max.ms": 2000,
            "socket.connection.setup.timeout.ms": 5000,
            "socket.keepalive.enable": True,
            # The one trace of a plaintext client at a TLS port is a line of this log.
            "log_level": 6,
            "log.connection.close": True,
        }
        return {name: value for name, value in found.items() if value is not None}


def _as_text(value: Property) -> Property:
    """A value as librdkafka reads it: `true`, not Python's `True`."""
    return str(value).lower() if isinstance(value, bool) else value
