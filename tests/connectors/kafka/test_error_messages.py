from __future__ import annotations

from dataclasses import replace

import pytest
from confluent_kafka import KafkaError, KafkaException

from tests.connectors.kafka.error_texts import PLAIN, ROWS, SASL, TLS, Monitor


@pytest.mark.parametrize("row", ROWS)
def test_each_misconfiguration_is_reported_with_the_setting_to_change(row):
    config, text, code, reason, remedy = ROWS[row]
    monitor = Monitor(config)
    for _ in range(3):  # librdkafka tries again many times a second
        if code is None:
            monitor.log(text)
        else:
            monitor.error(code, text)
        monitor.error(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down")
    found_reason, found_remedy = monitor.problem
    assert reason in found_reason
    assert remedy in found_remedy
    assert "alice-secret" not in found_reason + found_remedy


CONSTRUCTORS = {
    "CA file missing": (
        TLS,
        (
            "Failed to create consumer: ssl.ca.location failed: error:05880020:x509 certificate "
            "routines::BIO lib"
        ),
        "/etc/ca.pem is missing",
        "KAFKA_CA_FILE",
    ),
    "unknown property": (
        PLAIN,
        'No such configuration property: "foo.bar"',
        "no property 'foo.bar'",
        "KAFKA_OPTIONS",
    ),
    "bad value": (
        PLAIN,
        'Invalid value for configuration property "fetch.wait.max.ms"',
        "the value of 'fetch.wait.max.ms'",
        "KAFKA_OPTIONS",
    ),
    "GSSAPI": (
        replace(SASL, sasl_mechanism="GSSAPI"),
        (
            "Failed to create consumer: No provider for SASL mechanism GSSAPI: recompile librdkafka "
            "with libsasl2 or openssl support. Current build options: PLAIN SASL_SCRAM OAUTHBEARER"
        ),
        "cannot log in with GSSAPI",
        "KAFKA_SASL_MECHANISM",
    ),
    "no user": (
        replace(SASL, username=None),
        "Failed to create consumer: sasl.username and sasl.password must be set",
        "needs a user and a password",
        "KAFKA_USERNAME and KAFKA_PASSWORD",
    ),
    "anything else": (
        PLAIN,
        "something new",
        "refuses its configuration: something new",
        "KAFKA_OPTIONS",
    ),
}


@pytest.mark.parametrize("case", CONSTRUCTORS)
def test_a_client_that_cannot_be_opened_is_reported_until_it_opens(case):
    config, text, reason, remedy = CONSTRUCTORS[case]
    monitor = Monitor(config)
    monitor.errors.client_failed(KafkaException(KafkaError(KafkaError._INVALID_ARG, text)))
    assert reason in monitor.problem[0]
    assert remedy in monitor.problem[1]
    monitor.errors.client_opened()
    assert monitor.problem == ("", "")
