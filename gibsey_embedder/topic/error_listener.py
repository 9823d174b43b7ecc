"""Collects the causes of Kafka errors, and retries a command's requests.

librdkafka raises the same error for most failures. It reports the causes only to a callback and in
its log.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException

from connectors.kafka import error_messages
from connectors.kafka.config import KafkaConfig
from connectors.kafka.error_messages import ErrorMessage

T = TypeVar("T")

TIMEOUTS_S = (1.5, 1.5, 3.0)
"""Timeouts of the attempts; a cause of certainty `certain` is final after the first attempt."""
_CALLBACK_S = 0.3
_WEIGHTS = ("certain", "transient", "hint")


class ErrorListener:
    """Collects the errors that a Kafka client reports, and selects the most likely cause.

    Args:
        config: The access to Kafka, for the error messages.
        timeouts_s: The timeout of each attempt of `request`.
    """

    def __init__(self, config: KafkaConfig, timeouts_s: tuple[float, ...] = TIMEOUTS_S) -> None:
        self._config = config
        self._timeouts_s = timeouts_s
        self._messages: list[ErrorMessage] = []

    def callbacks(self) -> dict[str, Any]:
        """Return the properties that connect a Kafka client to this listener."""
        return {"error_cb": self._on_error, "logger": self}

    def _on_error(self, error: KafkaError) -> None:
        self.add(error.str())

    def log(self, _level: int, _template: str, *args: object) -> None:
        """Add a line of the client's log; the signature is that of `logging.Logger`."""
        self.add(str(args[-1]) if args else "")

    def add(self, text: str) -> None:
        """Add an error text, if it has a known cause."""
        message = error_messages.explain(text, self._config)
        if message and message not in self._messages:
            self._messages.append(message)

    def cause(self) -> ErrorMessage | None:
        """Return the most certain cause, if possible one with a remedy."""
        ranked = sorted(self._messages, key=lambda m: (_WEIGHTS.index(m.certainty), not m.remedy))
        return ranked[0] if ranked else None

    def request(self, send: Callable[[float], T], consumer: Consumer) -> T:
        """Send a request until a broker responds, or until the cause of the failure is clear.

        Args:
            send: Sends the request through the consumer; its argument is the timeout in seconds.
            consumer: The consumer, whose callbacks report the cause.

        Raises:
            KafkaException: No broker responded.
        """
        for number, timeout_s in enumerate(self._timeouts_s, start=1):
            try:
                response = send(timeout_s)
            except KafkaException:
                consumer.poll(_CALLBACK_S)
                if number == len(self._timeouts_s) or self._is_clear(number):
                    raise
            else:
                self._messages.clear()
                return response
        raise AssertionError("the last attempt returns or raises")

    def _is_clear(self, attempts: int) -> bool:
        """Whether another attempt is useless; one of several brokers may refuse connections."""
        cause = self.cause()
        if cause is None or cause.certainty == "hint":
            return False
        return cause.certainty == "certain" or attempts > 1
