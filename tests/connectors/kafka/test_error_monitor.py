from __future__ import annotations

from dataclasses import replace

import pytest
from confluent_kafka import KafkaError

from connectors.kafka.error_monitor import FRESH_S, LASTING_S
from tests.connectors.kafka.error_texts import PLAIN, ROWS, Monitor


def test_the_end_of_an_idle_connection_is_not_a_problem():
    monitor = Monitor(PLAIN)
    monitor.errors.broker_responded()
    monitor.log(ROWS["plaintext client, SASL listener"][1], times=10)
    monitor.clock.now += FRESH_S + 1
    monitor.log(ROWS["plaintext client, SASL listener"][1])
    assert monitor.problem == ("", "")


def test_a_restarting_broker_is_reported_without_a_remedy():
    monitor = Monitor(PLAIN)
    monitor.errors.broker_responded()
    monitor.clock.now += FRESH_S + 1
    for _ in range(20):
        monitor.error(KafkaError._TRANSPORT, ROWS["broker down"][1])
    assert monitor.problem == ("cannot connect to kafka:9092: connection refused", "")
    monitor.errors.broker_responded()
    assert monitor.problem == ("", "")


def test_a_broker_that_stays_down_is_reported_with_a_remedy():
    monitor = Monitor(PLAIN)
    monitor.errors.broker_responded()
    monitor.clock.now += LASTING_S + 1
    for _ in range(3):
        monitor.error(KafkaError._TRANSPORT, ROWS["broker down"][1])
    assert "KAFKA_BROKER" in monitor.problem[1]


def test_one_broker_of_several_that_is_down_is_not_a_problem_while_the_others_respond():
    monitor = Monitor(replace(PLAIN, brokers="one:9092,two:9092"))
    for _ in range(60):
        monitor.clock.now += 1
        monitor.errors.broker_responded()
        monitor.error(
            KafkaError._TRANSPORT,
            "two:9092/2: Connect to ipv4#10.0.0.2:9092 failed: Connection refused (after 1ms in state CONNECT)",
        )
    assert monitor.problem == ("", "")


def test_all_brokers_down_alone_is_reported_without_a_cause():
    monitor = Monitor(PLAIN)
    monitor.error(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down")
    assert monitor.problem == ("no broker of kafka:9092 can be reached", "")


@pytest.mark.parametrize(
    ("code", "reason", "remedy"),
    [
        (KafkaError.UNKNOWN_TOPIC_OR_PART, "there is no topic cdc.pages", "KAFKA_TOPIC"),
        (KafkaError._UNKNOWN_PARTITION, "there is no topic cdc.pages", "KAFKA_TOPIC"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "may not read the topic", "Read and Describe"),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, "may not use the group", "KAFKA_GROUP"),
    ],
)
def test_a_refused_request_is_a_problem_although_the_broker_responds(code, reason, remedy):
    monitor = Monitor(PLAIN)
    monitor.error(code, "Broker: no")
    monitor.errors.broker_responded()
    assert reason in monitor.problem[0]
    assert remedy in monitor.problem[1]


def test_of_several_problems_the_one_that_causes_the_others_is_reported():
    monitor = Monitor(PLAIN)
    monitor.errors.report("group", "group")
    monitor.errors.report("connection", "connection")
    monitor.errors.repeat()
    assert monitor.problem[0] == "connection"
    monitor.errors.broker_responded()
    monitor.errors.repeat()
    assert monitor.problem[0] == "group"
    monitor.errors.resolve("group")
    assert monitor.problem == ("", "")


def test_an_ordinary_log_line_is_not_a_problem():
    monitor = Monitor(PLAIN)
    monitor.errors.log(
        20, "%s [%s] %s", "CONFWARN", "rdkafka#consumer-1", "Configuration property x"
    )
    assert monitor.problem == ("", "")
