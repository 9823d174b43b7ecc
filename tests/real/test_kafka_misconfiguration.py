"""The message that a misconfiguration causes within 10 s, row by row, with a real broker.

Wanted: TEST_KAFKA_BROKER (plaintext), TEST_KAFKA_TLS_BROKER with TEST_KAFKA_CA_FILE,
TEST_KAFKA_SASL_BROKER (SASL without TLS, PLAIN) with TEST_KAFKA_SASL_USERNAME and
TEST_KAFKA_SASL_PASSWORD.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from connectors.kafka.source import Slot
from tests.connectors.kafka.slots import Process
from tests.flow.worker import free_port

NAMES = (
    "TEST_KAFKA_BROKER",
    "TEST_KAFKA_TLS_BROKER",
    "TEST_KAFKA_CA_FILE",
    "TEST_KAFKA_SASL_BROKER",
    "TEST_KAFKA_SASL_USERNAME",
    "TEST_KAFKA_SASL_PASSWORD",
)
VALUES = {name.removeprefix("TEST_KAFKA_"): os.environ.get(name, "") for name in NAMES}
MISSING = [name for name in NAMES if not os.environ.get(name)]

pytestmark = [
    pytest.mark.real,
    pytest.mark.kafka,
    pytest.mark.skipif(bool(MISSING), reason=f"not given: {', '.join(MISSING)}"),
]

BROKER, TLS_BROKER, CA_FILE, SASL_BROKER, USER, PASSWORD = VALUES.values()
TLS = {"tls": True, "ca_file": CA_FILE}
SASL = {"username": USER, "password": PASSWORD, "sasl_mechanism": "PLAIN"}


def other_name(broker: str) -> str:
    """The same address under a name that no certificate has."""
    return "127.1:" + broker.rpartition(":")[2]


ROWS: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "plaintext client, TLS listener": (TLS_BROKER, {}, "that port speaks TLS", "kafka+ssl://"),
    "TLS client, plaintext listener": (BROKER, TLS, "does not speak TLS", "KAFKA_BROKER"),
    "no CA": (TLS_BROKER, {"tls": True}, "is not trusted", "KAFKA_CA_FILE"),
    "another host name": (other_name(TLS_BROKER), TLS, "for another host name", "KAFKA_BROKER"),
    "CA file missing": (
        TLS_BROKER,
        {"tls": True, "ca_file": "/no/such/ca.pem"},
        "/no/such/ca.pem is missing",
        "KAFKA_CA_FILE",
    ),
    "wrong password": (
        SASL_BROKER,
        {**SASL, "password": "wrong"},
        "refuses the login",
        "KAFKA_PASSWORD",
    ),
    "wrong mechanism": (
        SASL_BROKER,
        {**SASL, "sasl_mechanism": "SCRAM-SHA-256"},
        "does not support the login mechanism SCRAM-SHA-256",
        "KAFKA_SASL_MECHANISM",
    ),
    "plaintext client, SASL listener": (SASL_BROKER, {}, "requires a login", "KAFKA_USERNAME"),
    "SASL client, plain listener": (
        BROKER,
        SASL,
        "does not accept a login",
        "remove KAFKA_USERNAME",
    ),
    "SASL client without TLS, TLS listener": (
        TLS_BROKER,
        SASL,
        "that port speaks TLS",
        "kafka+ssl://",
    ),
    "broker down": (f"127.0.0.1:{free_port()}", {}, "connection refused", "KAFKA_BROKER"),
    "unknown host": ("no-such-host.invalid:9092", {}, "is not known here", "KAFKA_BROKER"),
    "topic missing": (BROKER, {"topic": "no.such.topic"}, "no topic no.such.topic", "KAFKA_TOPIC"),
}


@pytest.mark.parametrize("row", ROWS)
def test_each_misconfiguration_is_reported_within_10_s(row):
    broker, config, reason, remedy = ROWS[row]
    with Process(broker, options={}, **config) as process:

        def reported():
            stall = process.stall()
            return stall if stall and stall.remedy else None

        stall = process.poll_until(reported, within_s=10)
        assert reason in stall.reason
        assert remedy in stall.remedy
        assert PASSWORD not in stall.reason + stall.remedy


@pytest.mark.parametrize(
    ("broker", "config"),
    [(BROKER, {}), (TLS_BROKER, TLS), (SASL_BROKER, SASL)],
    ids=["plaintext", "TLS", "SASL"],
)
def test_the_right_settings_read(broker, config):
    with Process(broker, options={}, topic="__consumer_offsets", **config) as process:
        process.poll_until(lambda: process.monitor.partitions > 0)
        process.poll_until(lambda: process.stall() is None)
        assert all(isinstance(slot, Slot) for slot in process.slots.values())
