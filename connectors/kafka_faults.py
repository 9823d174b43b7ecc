"""What is wrong with the way to Kafka, in words that name the setting to change.

librdkafka tells causes only through its error callback and its log, and for a plaintext client at
a TLS port only through an INFO line of that log (recorded: FACTS, the misconfiguration table).
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError

from connectors.kafka import KafkaAccess


@dataclass(frozen=True, slots=True)
class Fault:
    """A cause and what to do about it.

    Attributes:
        reason: What happens.
        remedy: Which setting to change; empty where waiting is all there is to do.
    """

    reason: str
    remedy: str = ""


_CLOSED_AT_ONCE = re.compile(r"Disconnected.*after POLLIN.*in state (\w+)", re.DOTALL)


class KafkaFaults:
    """Collects what clients tell, and says what it means; from any thread.

    Args:
        access: How Kafka is reached, which decides what an ambiguous sign means.
        on_trouble: Called when something was told, so that somebody looks at once.
    """

    def __init__(self, access: KafkaAccess, on_trouble: Callable[[], None] = lambda: None) -> None:
        self._access = access
        self._on_trouble = on_trouble
        self._lock = threading.Lock()
        self._latest: Fault | None = None
        self._hint: Fault | None = None

    def callbacks(self) -> dict[str, Any]:
        """What to add to a client's configuration."""
        logger = logging.Logger("librdkafka")  # noqa: LOG001 - private: its lines are not for people
        logger.addHandler(_Lines(self._on_line))
        return {"error_cb": self.on_error, "logger": logger}

    def latest(self) -> Fault | None:
        """The latest cause that was told, the most telling first."""
        with self._lock:
            return self._hint if self._is_vague(self._latest) and self._hint else self._latest

    def forget(self) -> None:
        """Everything is well again."""
        with self._lock:
            self._latest = self._hint = None

    def on_error(self, error: KafkaError) -> None:
        """Take an error from a client."""
        fault = explain(error.code(), error.str(), self._access)
        with self._lock:
            if self._latest is None or not self._is_vague(fault):
                self._latest = fault
        self._on_trouble()

    def _on_line(self, line: str) -> None:
        if (found := _CLOSED_AT_ONCE.search(line)) is None:
            return
        hint = _closed(found.group(1), self._access)
        if hint is not None:
            with self._lock:
                self._hint = hint
            self._on_trouble()

    @staticmethod
    def _is_vague(fault: Fault | None) -> bool:
        return fault is None or fault.reason.startswith("all brokers are down")


class _Lines(logging.Handler):
    """Hands log lines to a function."""

    def __init__(self, take: Callable[[str], None]) -> None:
        super().__init__()
        self._take = take

    def emit(self, record: logging.LogRecord) -> None:
        self._take(record.getMessage())


def _closed(state: str, access: KafkaAccess) -> Fault | None:
    """What it means that a broker closes a connection without a word."""
    if access.uses_login:
        return None
    if state == "APIVERSION_QUERY" and not access.uses_tls:
        return Fault(
            f"{access.brokers} closes every connection at once, as a TLS port does",
            "write KAFKA_BROKER=kafka+ssl://host:port, and KAFKA_CA_FILE for a private authority",
        )
    if state == "UP":
        return Fault(
            f"{access.brokers} closes every connection without a login",
            "set KAFKA_USERNAME, KAFKA_PASSWORD and KAFKA_SASL_MECHANISM",
        )
    return None


def explain(code: int, text: str, access: KafkaAccess) -> Fault:
    """Put one of librdkafka's errors into words.

    Args:
        code: Its error code.
        text: Its text.
        access: How Kafka is reached.
    """
    if "PLAINTEXT broker listener" in text or "wrong version number" in text:
        return Fault(
            f"{access.brokers} does not speak TLS", "write KAFKA_BROKER=kafka://host:port"
        )
    if code == KafkaError._SSL or "certificate verify failed" in text:
        return Fault(
            f"the certificate of {access.brokers} is not trusted ({_short(text)})",
            "set KAFKA_CA_FILE to the authority that signed it, and use the name it was made for",
        )
    if "ssl.ca.location" in text:
        return Fault(f"KAFKA_CA_FILE cannot be read ({_short(text)})", "correct KAFKA_CA_FILE")
    if code == KafkaError._AUTHENTICATION:
        return _login_fault(text)
    if code == KafkaError._RESOLVE:
        return Fault(f"the host is unknown: {_short(text)}", "correct KAFKA_BROKER")
    if code == KafkaError._ALL_BROKERS_DOWN:
        return Fault(f"all brokers are down ({access.brokers})")
    if code == KafkaError._INVALID_ARG:
        return Fault(f"Kafka's client refuses its options: {_short(text)}", "correct KAFKA_OPTIONS")
    return Fault(_short(text))


def _login_fault(text: str) -> Fault:
    if "Unsupported SASL mechanism" in text:
        return Fault(f"Kafka refuses the login: {_short(text)}", "set KAFKA_SASL_MECHANISM")
    if "not valid in current SASL state" in text or "Request not valid" in text:
        return Fault(
            "the Kafka port wants no login", "remove KAFKA_USERNAME and KAFKA_SASL_MECHANISM"
        )
    return Fault(
        f"Kafka refuses the login: {_short(text)}", "correct KAFKA_USERNAME and KAFKA_PASSWORD"
    )


def _short(text: str) -> str:
    """A librdkafka text without its inner address and timings."""
    text = re.sub(r"^[a-z_]+://\S+: ", "", text)
    text = re.sub(r" \(after \d+ms in state [^)]*\)", "", text)
    return " ".join(text.split())[:240]
