"""Asking Kafka as a command does: for as long as it is worth, and with the cause where it fails.

librdkafka raises the same error for nearly everything, and tells causes on the side: to a callback
and in its log.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException

from connectors.kafka import error_messages
from connectors.kafka.config import KafkaConfig
from connectors.kafka.error_messages import ErrorMessage

T = TypeVar("T")

TRIES_S = (1.5, 1.5, 3.0)
"""How long a broker may take to answer at all; the causes that are sure come within the first."""
_SERVE_S = 0.3
_WEIGHTS = ("sure", "passing", "hint")


class ErrorListener:
    """Takes what a client tells through its callbacks, and knows the likeliest cause.

    Args:
        config: What the settings say, for the words.
    """

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._heard: list[ErrorMessage] = []

    def callbacks(self) -> dict[str, Any]:
        """What to add to a client's configuration, so that it is heard."""
        return {"error_cb": self._on_error, "logger": self}

    def _on_error(self, error: KafkaError) -> None:
        self.take(error.str())

    def log(self, _level: int, _template: str, *args: object) -> None:
        """Take a line of its log, as a `logging.Logger` would."""
        self.take(str(args[-1]) if args else "")

    def take(self, text: str) -> None:
        """Take any text that may tell a cause."""
        words = error_messages.explain(text, self._config)
        if words and words not in self._heard:
            self._heard.append(words)

    def forget(self) -> None:
        """Forget it all: a broker answered."""
        self._heard.clear()

    def cause(self) -> ErrorMessage | None:
        """The likeliest cause: the surest, and of those the first that has a remedy."""
        ranked = sorted(self._heard, key=lambda w: (_WEIGHTS.index(w.weight), not w.remedy))
        return ranked[0] if ranked else None


def ask(question: Callable[[float], T], consumer: Consumer, hearing: ErrorListener) -> T:
    """Ask until there is an answer, or it is plain why there is none; blocks for up to 7 s.

    Args:
        question: Asks through the consumer; takes its timeout in seconds.
        consumer: Serves the callbacks, which know the cause.
        hearing: What the consumer tells goes there.

    Raises:
        KafkaException: No broker answered.
    """
    for number, timeout_s in enumerate(TRIES_S, start=1):
        try:
            answer = question(timeout_s)
        except KafkaException:
            consumer.poll(_SERVE_S)
            if number == len(TRIES_S) or _is_plain(hearing.cause(), number):
                raise
        else:
            hearing.forget()
            return answer
    raise AssertionError("the last try returns or raises")


def _is_plain(cause: ErrorMessage | None, tries: int) -> bool:
    """Whether another try would tell nothing new; a broker that refuses may be one of several."""
    if cause is None or cause.weight == "hint":
        return False
    return cause.weight == "sure" or tries > 1
