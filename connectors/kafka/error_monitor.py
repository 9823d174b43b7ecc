"""Collects the errors of all Kafka clients of the process into one stall.

librdkafka reports causes through `error_cb` and through its log, not where a call failed, and each
client reports the same cause again. They become the stall "kafka", with the setting to change.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from connectors.kafka import error_messages
from connectors.kafka.config import KafkaConfig
from connectors.kafka.error_messages import ErrorMessage
from connectors.kafka.service import SERVICE
from connectors.observability import logs
from connectors.observability.stalls import Stalls

FRESH_S = 3.0
"""Seconds after a response for which a lost connection to one broker is not reported: another
broker may lead the partition by now."""

LASTING_S = 30.0
"""Seconds for which a broker may restart; after that, the remedy is reported too."""

_ORDER = ("set-up", "connection", "topic", "reading", "events", "group")
"""Which of several problems is reported first: the others follow from it."""


class KafkaErrorMonitor:
    """Reports the errors of Kafka as one stall; all methods may be called from any thread.

    Problems have kinds, because each kind ends with another event: `set-up` when a client opens,
    `connection` when a broker responds, `topic` when the topic exists, `reading` when records
    arrive, `events` when they are page changes, `group` when a commit succeeds.

    Args:
        config: How to connect to Kafka, for the messages.
        stalls: Where the stall is reported.
        on_problem: Called when there is a new problem.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        config: KafkaConfig,
        stalls: Stalls,
        on_problem: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._stalls = stalls
        self._on_problem = on_problem
        self._clock = clock
        self._lock = threading.Lock()
        self._problems: dict[str, ErrorMessage] = {}
        self._counts: dict[str, int] = {}  # of transient errors since the last response
        self._responded_at = float("-inf")
        self._log = logs.get("kafka")

    def callbacks(self) -> dict[str, Any]:
        """Return the properties that make a client report its errors here."""
        return {"error_cb": self.on_error, "logger": self}

    def on_error(self, error: KafkaError) -> None:
        """Take an error of a client or of a consumer's poll."""
        problem = error_messages.of_code(error.code(), self._config)
        if problem is not None:
            self._report(*problem)
        elif error.fatal():
            self._report_without_remedy(f"librdkafka failed: {error_messages.plain(error.str())}")
        elif not self._explain_text(error.str()) and error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._all_down()

    def log(self, level: int, template: str, *args: object) -> None:
        """Take a line of a client's log, as a `logging.Logger` does."""
        del level
        facility, text = (args[0], str(args[-1])) if args else ("", template)
        if facility == "FAIL":
            self._explain_text(text)
        self._log.debug("librdkafka", facility=facility, line=text)

    def client_failed(self, error: KafkaException) -> None:
        """Report that a client did not open; the caller retries it."""
        text = text_of(error)
        message = error_messages.explain(text, self._config)
        if message is None:
            reason = f"librdkafka refuses its configuration: {error_messages.plain(text)}"
            message = ErrorMessage(reason, "check KAFKA_OPTIONS and KAFKA_SASL_MECHANISM")
        self._report("set-up", message)

    def client_opened(self) -> None:
        """Note that a client opened."""
        self.resolve("set-up")

    def broker_responded(self) -> None:
        """Note that a broker responded."""
        self._responded_at = self._clock()
        if self._counts:
            self._counts.clear()
        self.resolve("connection")

    def records_arrived(self) -> None:
        """Note that records, or the end of a partition, were read."""
        self.broker_responded()
        self.resolve("topic", "reading")

    def report(self, kind: str, reason: str, remedy: str = "") -> None:
        """Report a problem of one kind; it lasts until `resolve` is called with that kind."""
        self._report(kind, ErrorMessage(reason, remedy))

    def resolve(self, *kinds: str) -> None:
        """End the problems of these kinds."""
        if not self._problems:
            return
        with self._lock:
            resolved = [self._problems.pop(kind, None) for kind in kinds]
            is_well = not self._problems
        if is_well and any(resolved):
            self._stalls.cleared(SERVICE.name)

    def repeat(self) -> None:
        """Report a lasting problem again: a stall is logged again only if it is reported again."""
        first = self.current()
        if first is not None:
            self._stalls.waiting(SERVICE.name, first.reason, first.remedy)

    def current(self) -> ErrorMessage | None:
        """Return the current problem; of several, the one that the others follow from."""
        with self._lock:
            return next((self._problems[kind] for kind in _ORDER if kind in self._problems), None)

    def _report(self, kind: str, message: ErrorMessage) -> None:
        with self._lock:
            is_new = self._problems.get(kind) != message
            self._problems[kind] = message
        if is_new:
            self.repeat()
            self._on_problem()

    def _explain_text(self, text: str) -> bool:
        """Report the cause in an error's or a log line's text; return whether there is one."""
        message = error_messages.explain(text, self._config)
        if message is None:
            return False
        if message.certainty == "certain":
            self._report("connection", message)
        elif self._silent_s >= FRESH_S:
            self._count(message)
        return True

    def _count(self, message: ErrorMessage) -> None:
        """Report a transient error or a hint if it repeats."""
        count = self._counts[message.reason] = self._counts.get(message.reason, 0) + 1
        if count >= message.repeats and self._silent_s > LASTING_S:
            self._report("connection", message)
        elif message.certainty == "transient":
            self._report_without_remedy(message.reason)

    def _all_down(self) -> None:
        if self._silent_s > FRESH_S and "connection" not in self._problems:
            self.report("connection", f"no broker of {self._config.brokers} can be reached")

    def _report_without_remedy(self, reason: str) -> None:
        """Report a reason, unless a problem with a remedy is known."""
        known = self._problems.get("connection")
        if known is None or not known.remedy:
            self.report("connection", reason)

    @property
    def _silent_s(self) -> float:
        """Seconds since a broker responded."""
        return self._clock() - self._responded_at


def text_of(error: KafkaException) -> str:
    """Return the text of an exception of librdkafka."""
    cause = error.args[0] if error.args else error
    return cause.str() if isinstance(cause, KafkaError) else str(cause)


def code_of(error: KafkaException) -> int:
    """Return the error code of an exception of librdkafka."""
    cause = error.args[0] if error.args else None
    return cause.code() if isinstance(cause, KafkaError) else KafkaError._FAIL
