"""What stands between the stream and Kafka, gathered from all clients of the process.

librdkafka tells causes in two places, `error_cb` and its log, never where a call failed; and each
client tells them anew. Here they become one stall, "kafka", with the setting to change.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from connectors import kafka_words, logs
from connectors.kafka import KafkaAccess
from connectors.kafka_words import Words
from connectors.stalls import Stalls

SERVICE = "kafka"

REPEATS = 3
"""A fault that healthy set-ups show too is believed to be the set-up's when seen so often."""

FRESH_S = 3.0
"""While answers come, one broker's ended connection is no news: another may lead by now."""

LASTING_S = 30.0
"""What has worked until just now is a broker that restarts; after this time it needs a person."""

_ORDER = ("set-up", "connection", "topic", "reading", "events", "group")
"""Which of several troubles is told: the one that the others follow from."""

_TROUBLES = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: (
        "topic",
        "the login may not read the topic {topic}",
        "allow it READ and DESCRIBE on the topic, or correct KAFKA_USERNAME or KAFKA_TOPIC",
    ),
    KafkaError.GROUP_AUTHORIZATION_FAILED: (
        "group",
        "the login may not use the consumer group {group}",
        "allow it READ on the group, or correct KAFKA_GROUP",
    ),
    KafkaError.UNKNOWN_TOPIC_OR_PART: (
        "topic",
        "there is no topic {topic}",
        "create it, or correct KAFKA_TOPIC",
    ),
}
_SAME = {
    KafkaError._UNKNOWN_TOPIC: KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_PARTITION: KafkaError.UNKNOWN_TOPIC_OR_PART,
}


class KafkaFaults:
    """Turns what librdkafka reports into the stall "kafka"; may be called from any thread.

    Args:
        access: What the settings say, for the words.
        stalls: Where the stall is told.
        service: Its name.
        clock: Monotonic seconds, for tests.
    """

    def __init__(
        self,
        access: KafkaAccess,
        stalls: Stalls,
        service: str = SERVICE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._access = access
        self._stalls = stalls
        self._service = service
        self._lock = threading.Lock()
        self._troubles: dict[str, Words] = {}
        self._seen: dict[str, int] = {}  # how often each passing fault came since the last answer
        self._clock = clock
        self._answered_at = float("-inf")
        self._log = logs.get("kafka")

    def callbacks(self) -> dict[str, Any]:
        """What to add to a client's configuration, so that its faults arrive here."""
        return {"error_cb": self.on_error, "logger": self}

    def on_error(self, error: KafkaError) -> None:
        """Take an error of a client or of a consumer's poll."""
        code = _SAME.get(error.code(), error.code())
        if code in _TROUBLES:
            kind, reason, remedy = _TROUBLES[code]
            names = {"topic": self._access.topic, "group": self._access.group}
            self.trouble(kind, reason.format(**names), remedy)
            return
        self._heard(error.str())
        if error.fatal():
            self._unless_known(f"librdkafka gave up: {kafka_words.plain(error.str())}")
        elif code == KafkaError._ALL_BROKERS_DOWN and self._silent_s > FRESH_S:
            if "connection" not in self._troubles:
                self.trouble("connection", f"no broker of {self._access.brokers} can be reached")

    def log(self, level: int, template: str, *args: object) -> None:
        """Take a line of a client's log; librdkafka calls this as a `logging.Logger`."""
        line = template % args if args else template
        if "[FAIL]" in line or "FAIL" in args or level >= logging.ERROR:
            self._heard(str(args[-1]) if args else line)
        self._log.debug("librdkafka", line=line)

    def unusable(self, error: KafkaException) -> None:
        """Take what a client's constructor raised; it is tried again."""
        text = error.args[0].str() if error.args and isinstance(error.args[0], KafkaError) else ""
        words = kafka_words.explain(text, self._access)
        if words is None:
            words = Words(
                f"librdkafka refuses its configuration: {text or error}", "check KAFKA_OPTIONS"
            )
        self.trouble("set-up", words.reason, words.remedy)

    def usable(self) -> None:
        """Note that a client could be made."""
        self.over("set-up")

    def answered(self) -> None:
        """Note that a broker answered a question about the topic."""
        self._answered_at = self._clock()
        if self._seen:
            self._seen.clear()
        self.over("connection", "topic")

    def reading(self) -> None:
        """Note that records (or the end of a partition) were read."""
        self._answered_at = self._clock()
        if self._troubles:
            self.over("connection", "topic", "reading")

    def trouble(self, kind: str, reason: str, remedy: str = "") -> None:
        """Tell a trouble of one kind; it lasts until `over` is called with that kind."""
        with self._lock:
            self._troubles[kind] = Words(reason, remedy)
            first = self._first()
        if first is not None:
            self._stalls.waiting(self._service, first.reason, first.remedy)

    def over(self, *kinds: str) -> None:
        """Tell that troubles of these kinds have passed."""
        if not self._troubles:
            return
        with self._lock:
            gone = [self._troubles.pop(kind, None) for kind in kinds]
            well = not self._troubles
        if well and any(gone):
            self._stalls.cleared(self._service)

    @property
    def any(self) -> bool:
        """Whether something is wrong at this moment."""
        return bool(self._troubles)

    @property
    def _silent_s(self) -> float:
        return self._clock() - self._answered_at

    def _first(self) -> Words | None:
        return next((self._troubles[kind] for kind in _ORDER if kind in self._troubles), None)

    def _heard(self, text: str) -> None:
        words = kafka_words.explain(text, self._access)
        if words is None:
            return
        if words.weight == "sure":
            self.trouble("connection", words.reason, words.remedy)
            return
        silent_s = self._silent_s
        if silent_s < FRESH_S:
            return
        seen = self._seen[words.reason] = self._seen.get(words.reason, 0) + 1
        if seen >= REPEATS and silent_s > LASTING_S:
            self.trouble("connection", words.reason, words.remedy)
        elif words.weight == "passing":
            self._unless_known(words.reason)

    def _unless_known(self, reason: str) -> None:
        known = self._troubles.get("connection")
        if known is None or not known.remedy:
            self.trouble("connection", reason)
