"""Errors as librdkafka 2.16 reported them with a real broker (Kafka 4.1)."""

from __future__ import annotations

from dataclasses import replace

from confluent_kafka import KafkaError

from connectors.kafka.config import KafkaConfig
from connectors.kafka.error_monitor import KafkaErrorMonitor
from connectors.observability.metrics import Metrics
from connectors.observability.stalls import Stalls

PLAIN = KafkaConfig("kafka:9092")
TLS = replace(PLAIN, tls=True, ca_file="/etc/ca.pem")
SASL = replace(PLAIN, username="alice", password="alice-secret", sasl_mechanism="PLAIN")
SCRAM = replace(SASL, sasl_mechanism="SCRAM-SHA-256")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Monitor:
    """A monitor of errors, and the problem that it reports."""

    def __init__(self, config: KafkaConfig) -> None:
        self.clock = Clock()
        self.stalls = Stalls(Metrics(), clock=self.clock)
        self.errors = KafkaErrorMonitor(config, self.stalls, clock=self.clock)

    def log(self, text: str, times: int = 1) -> None:
        for _ in range(times):
            self.errors.log(20, "%s [%s] %s", "FAIL", "rdkafka#consumer-1", text)

    def error(self, code: int, text: str) -> None:
        self.errors.on_error(KafkaError(code, text))

    @property
    def problem(self) -> tuple[str, str]:
        stall = self.stalls._stalls.get("kafka")
        return (stall.reason, stall.remedy) if stall else ("", "")


AT = "(after 1ms in state"
LOGGED = "[thrd:kafka:9092/bootstrap]: kafka:9092/bootstrap: "
TLS_AT = "ssl://kafka:9093/bootstrap: "
SASL_AT = "sasl_plaintext://kafka:9094/bootstrap: "

ROWS = {
    "plaintext client, TLS listener": (
        PLAIN,
        LOGGED
        + f"Disconnected: connection closed by peer: receive 0 after POLLIN {AT} APIVERSION_QUERY)",
        None,
        "kafka:9092 closes the connection before Kafka's first response",
        "KAFKA_BROKER=kafka+ssl://",
    ),
    "SASL client without TLS, TLS listener": (
        SASL,
        "[thrd:x]: "
        + SASL_AT
        + f"Disconnected: connection closed by peer: receive 0 after POLLIN {AT} APIVERSION_QUERY)",
        None,
        "kafka:9094 closes the connection before Kafka's first response",
        "KAFKA_BROKER=kafka+ssl://",
    ),
    "TLS client, plaintext listener": (
        TLS,
        TLS_AT
        + "SSL handshake failed: Disconnected: SSL connection closed by peer: connecting to a "
        f"PLAINTEXT broker listener? {AT} SSL_HANDSHAKE)",
        KafkaError._TRANSPORT,
        "kafka:9093 ends the TLS handshake: that port does not speak TLS",
        "KAFKA_BROKER without kafka+ssl://",
    ),
    "no CA, or another host name": (
        TLS,
        TLS_AT
        + "SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker "
        "certificate could not be verified, verify that ssl.ca.location is correctly configured or "
        f"root CA certificates are installed (install ca-certificates package) {AT} SSL_HANDSHAKE)",
        KafkaError._SSL,
        "the certificate of kafka:9093 is not trusted: /etc/ca.pem did not sign it",
        "KAFKA_CA_FILE",
    ),
    "wrong password": (
        SASL,
        SASL_AT
        + f"SASL authentication error: Authentication failed: Invalid username or password {AT} AUTH_REQ)",
        KafkaError._AUTHENTICATION,
        "kafka:9094 refuses the login of user 'alice'",
        "KAFKA_USERNAME and KAFKA_PASSWORD",
    ),
    "wrong password with SCRAM": (
        SCRAM,
        SASL_AT
        + "SASL authentication error: Authentication failed during authentication due to invalid "
        f"credentials with SASL mechanism SCRAM-SHA-256 {AT} AUTH_REQ)",
        KafkaError._AUTHENTICATION,
        "refuses the login of user 'alice'",
        "KAFKA_PASSWORD",
    ),
    "wrong mechanism": (
        SCRAM,
        SASL_AT
        + "SASL SCRAM-SHA-256 mechanism handshake failed: Broker: Unsupported SASL mechanism: "
        f"broker's supported mechanisms: PLAIN {AT} AUTH_HANDSHAKE)",
        KafkaError._AUTHENTICATION,
        "kafka:9094 does not support the login mechanism SCRAM-SHA-256",
        "KAFKA_SASL_MECHANISM to what the broker supports: PLAIN",
    ),
    "plaintext client, SASL listener": (
        PLAIN,
        LOGGED + f"Disconnected: connection closed by peer: receive 0 after POLLIN {AT} UP)",
        None,
        "that port requires a login",
        "KAFKA_USERNAME, KAFKA_PASSWORD",
    ),
    "TLS client, SASL_SSL listener": (
        TLS,
        "[thrd:x]: " + TLS_AT + f"Disconnected: SSL connection closed by peer {AT} UP)",
        None,
        "kafka:9093 closes the connection at the first request: that port requires a login",
        "KAFKA_USERNAME, KAFKA_PASSWORD",
    ),
    "SASL client, plain listener": (
        SASL,
        SASL_AT
        + "SASL PLAIN mechanism handshake failed: Broker: Request not valid in current SASL state: "
        f"broker's supported mechanisms:  {AT} AUTH_HANDSHAKE)",
        KafkaError._AUTHENTICATION,
        "kafka:9094 does not accept a login",
        "remove KAFKA_USERNAME",
    ),
    "broker down": (
        PLAIN,
        f"kafka:9092/bootstrap: Connect to ipv4#10.0.0.7:9092 failed: Connection refused {AT} CONNECT)",
        KafkaError._TRANSPORT,
        "cannot connect to kafka:9092: connection refused",
        "KAFKA_BROKER",
    ),
    "unknown host": (
        PLAIN,
        f"kafka:9092/bootstrap: Failed to resolve 'kafka:9092': Name or service not known {AT} CONNECT)",
        KafkaError._RESOLVE,
        "the host of kafka:9092 is not known here",
        "KAFKA_BROKER",
    ),
    "host without a response": (
        PLAIN,
        (
            "[thrd:x]: kafka:9092/bootstrap: Connection setup timed out in state CONNECT "
            "(after 5003ms in state CONNECT)"
        ),
        None,
        "cannot connect to kafka:9092: no response",
        "KAFKA_BROKER",
    ),
    "a web server's port": (
        PLAIN,
        (
            "kafka:9092/bootstrap: Receive failed: Invalid response size 1213486160 (0..100000000): "
            f"increase receive.message.max.bytes {AT} APIVERSION_QUERY)"
        ),
        KafkaError._BAD_MSG,
        "kafka:9092 is not a Kafka broker: its response is invalid",
        "KAFKA_BROKER",
    ),
}
