"""How to connect to Kafka: the properties of every client that this program opens.

The source, the dead letters and the commands get the configuration of their clients here, so that
security and timeouts are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from connectors.kafka.fixed_properties import FIXED_PROPERTIES
from connectors.observability import logs

Property = str | int | float | bool

QUEUE_KB = 512
FETCH_KB = 256
"""Kilobytes of records that one consumer keeps ready, and that it requests at a time for a
partition. With 4 MB and 1 MB a long backlog takes 20 MB more memory and is no faster."""


@dataclass(frozen=True, slots=True)
class KafkaConfig:
    """Where Kafka is, how to log in, and what to read.

    Attributes:
        brokers: `host:port`, several with commas.
        topic: The topic with the changes of pages.
        group: The consumer group that offsets are committed to.
        tls: Whether the brokers use TLS.
        ca_file: A PEM file with the trusted authorities; None: the system's.
        username: The SASL user; None: no login.
        password: Its password; not in `repr`.
        sasl_mechanism: `PLAIN`, `SCRAM-SHA-256`, …; None: no login.
        options: More properties of librdkafka; they replace this program's, except
            `FIXED_PROPERTIES`.
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
        ignored = [name for name in self.options if name in FIXED_PROPERTIES]
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
        """Whether the clients use TLS."""
        return "ssl" in self._protocol

    @property
    def _protocol(self) -> str:
        default = ("sasl_" if self.sasl_mechanism else "") + ("ssl" if self.tls else "plaintext")
        return str(self.options.get("security.protocol", default)).lower()

    def consumer_config(self) -> dict[str, Property]:
        """Return the properties of a consumer without automatic commits and offset resets."""
        config = self._with_options(
            {
                "group.id": self.group,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                # Report a lost position as an error; by default the consumer jumps silently.
                "auto.offset.reset": "error",
                # Report the position behind records that are not visible (transaction markers).
                "enable.partition.eof": True,
                "allow.auto.create.topics": False,
                "queued.max.messages.kbytes": QUEUE_KB,
                "fetch.max.bytes": 1024 * 1024,
                "fetch.message.max.bytes": FETCH_KB * 1024,
                # Pause before a full queue is filled again; the default of 1 s leaves gaps.
                "fetch.queue.backoff.ms": 20,
                "fetch.wait.max.ms": 500,
            }
        )
        config.pop("message.max.bytes", None)  # the producer's; a smaller fetch limit is an error
        return config

    def producer_config(self) -> dict[str, Property]:
        """Return the properties of a producer that delivers each message exactly once."""
        return self._with_options(
            {
                "enable.idempotence": True,
                "acks": "all",
                "message.timeout.ms": 0,
                # An original may be as large as its topic allows; the broker decides.
                "message.max.bytes": 16 * 1024 * 1024,
                "topic.metadata.propagation.max.ms": 5000,
                "linger.ms": 5,
            }
        )

    def admin_config(self) -> dict[str, Property]:
        """Return the properties of an admin client."""
        return self._with_options({})

    def _with_options(self, own: Mapping[str, Property]) -> dict[str, Property]:
        allowed = {name: v for name, v in self.options.items() if name not in FIXED_PROPERTIES}
        config = {**self._common(), **own, **allowed}
        return {name: _as_text(value) for name, value in config.items()}

    def _common(self) -> dict[str, Property]:
        properties: dict[str, Property | None] = {
            "bootstrap.servers": self.brokers,
            "client.id": "gibsey-embedder",
            "security.protocol": self._protocol,
            "ssl.ca.location": self.ca_file,
            "sasl.mechanism": self.sasl_mechanism,
            "sasl.username": self.username,
            "sasl.password": self.password,
            "statistics.interval.ms": 0,
            # Reconnect to a restarted broker within 2 s; the default is 10 s.
            "reconnect.backoff.ms": 100,
            "reconnect.backoff.max.ms": 2000,
            "socket.connection.setup.timeout.ms": 5000,
            "socket.keepalive.enable": True,
            # The only trace of a plaintext client at a TLS port is a line of this log.
            "log_level": 6,
            "log.connection.close": True,
        }
        return {name: value for name, value in properties.items() if value is not None}


def _as_text(value: Property) -> Property:
    """Return a value in librdkafka's form: `true`, not Python's `True`."""
    return str(value).lower() if isinstance(value, bool) else value
