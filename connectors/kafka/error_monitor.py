"""What stands between the stream and Kafka, gathered from all clients of the process.

librdkafka tells causes in two places, `error_cb` and its log, never where a call failed; and each
client tells them anew. Here they become one stall, "kafka", with the setting to change.
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
from connectors.observability import logs
from connectors.observability.stalls import Stalls

SERVICE = "kafka"

FRESH_S = 3.0
"""While answers come, one broker's ended connection is no news: another may lead by now."""

LASTING_S = 30.0
"""What has worked until just now is a broker that restarts; after this time it needs a person."""

_ORDER = ("set-up", "connection", "topic", "reading", "events", "group")
"""Which of several problems is told: the one that the others follow from."""


class KafkaErrorMonitor:
    """Turns what librdkafka reports into the stall "kafka"; may be called from any thread.

    Troubles have kinds, because each ends with another event: `set-up` when a client could be
    made, `connection` when a broker answers, `topic` when it is there, `reading` when records
    come, `events` when they are page changes, `group` when a commit worked.

    Args:
        config: What the settings say, for the words.
        stalls: Where the stall is told.
        on_problem: Called when something new is wrong, so that somebody looks at once.
        clock: Monotonic seconds, for tests.
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
        self._seen: dict[str, int] = {}  # how often each passing fault came since the last answer
        self._answered_at = float("-inf")
        self._log = logs.get("kafka")

    def callbacks(self) -> dict[str, Any]:
        """What to add to a client's configuration, so that its errors arrive here."""
        return {"error_cb": self.on_error, "logger": self}

    def on_error(self, error: KafkaError) -> None:
        """Take an error of a client or of a consumer's poll."""
        told = error_messages.of_code(error.code(), self._config)
        if told is not None:
            kind, words = told
            self._report(kind, words)
        elif error.fatal():
            self._unless_known(f"librdkafka gave up: {error_messages.plain(error.str())}")
        elif not self._explain_text(error.str()) and error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._all_down()

    def log(self, level: int, template: str, *args: object) -> None:
        """Take a line of a client's log; librdkafka calls this as it would a `logging.Logger`."""
        del level
        facility, text = (args[0], str(args[-1])) if args else ("", template)
        if facility == "FAIL":
            self._explain_text(text)
        self._log.debug("librdkafka", facility=facility, line=text)

    def client_failed(self, error: KafkaException) -> None:
        """Take what a client's constructor raised; it is tried again."""
        text = text_of(error)
        words = error_messages.explain(text, self._config)
        if words is None:
            reason = f"librdkafka refuses its configuration: {error_messages.plain(text)}"
            words = ErrorMessage(reason, "check KAFKA_OPTIONS and KAFKA_SASL_MECHANISM")
        self._report("set-up", words)

    def client_opened(self) -> None:
        """Note that a client could be made."""
        self.resolve("set-up")

    def broker_answered(self) -> None:
        """Note that a broker answered."""
        self._answered_at = self._clock()
        if self._seen:
            self._seen.clear()
        self.resolve("connection")

    def records_arrived(self) -> None:
        """Note that records were read, or the end of a partition."""
        self.broker_answered()
        self.resolve("topic", "reading")

    def report(self, kind: str, reason: str, remedy: str = "") -> None:
        """Tell a problem of one kind; it lasts until `over` is called with that kind."""
        self._report(kind, ErrorMessage(reason, remedy))

    def resolve(self, *kinds: str) -> None:
        """Tell that problems of these kinds have passed."""
        if not self._problems:
            return
        with self._lock:
            gone = [self._problems.pop(kind, None) for kind in kinds]
            well = not self._problems
        if well and any(gone):
            self._stalls.cleared(SERVICE)

    def repeat(self) -> None:
        """Tell a problem that lasts once more; a stall that nobody mentions is not logged again."""
        first = self.current()
        if first is not None:
            self._stalls.waiting(SERVICE, first.reason, first.remedy)

    def current(self) -> ErrorMessage | None:
        """What is wrong now, of several the problem that the others follow from."""
        with self._lock:
            return next((self._problems[kind] for kind in _ORDER if kind in self._problems), None)

    def _report(self, kind: str, words: ErrorMessage) -> None:
        with self._lock:
            new = self._problems.get(kind) != words
            self._problems[kind] = words
        if new:
            self.repeat()
            self._on_problem()

    def _explain_text(self, text: str) -> bool:
        """Take a text that may tell why a connection failed; whether it did."""
        words = error_messages.explain(text, self._config)
        if words is None:
            return False
        if words.weight == "sure":
            self._report("connection", words)
            return True
        if self._silent_s < FRESH_S:
            return True
        seen = self._seen[words.reason] = self._seen.get(words.reason, 0) + 1
        if seen >= words.repeats and self._silent_s > LASTING_S:
            self._report("connection", words)
        elif words.weight == "passing":
            self._unless_known(words.reason)
        return True

    def _all_down(self) -> None:
        if self._silent_s > FRESH_S and "connection" not in self._problems:
            self.report("connection", f"no broker of {self._config.brokers} can be reached")

    def _unless_known(self, reason: str) -> None:
        known = self._problems.get("connection")
        if known is None or not known.remedy:
            self.report("connection", reason)

    @property
    def _silent_s(self) -> float:
        return self._clock() - self._answered_at


def text_of(error: KafkaException) -> str:
    """The text of an exception of librdkafka."""
    cause = error.args[0] if error.args else error
    return cause.str() if isinstance(cause, KafkaError) else str(cause)


def code_of(error: KafkaException) -> int:
    """The error code of an exception of librdkafka."""
    cause = error.args[0] if error.args else None
    return cause.code() if isinstance(cause, KafkaError) else KafkaError._FAIL
