from __future__ import annotations

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from connectors.kafka.config import KafkaConfig
from connectors.kafka.fixed_properties import FIXED_PROPERTIES

SECURE = KafkaConfig(
    "kafka:9093",
    tls=True,
    username="alice",
    password="alice-secret",
    sasl_mechanism="SCRAM-SHA-512",
    options={"fetch.wait.max.ms": 5, "linger.ms": 0, "ssl.key.password": "key-secret"},
)


def test_librdkafka_accepts_every_configuration():
    quiet = {"log_level": 0}
    Consumer({**SECURE.consumer_config(), **quiet}).close()
    Producer({**SECURE.producer_config(), **quiet})
    AdminClient({**SECURE.admin_config(), **quiet})


def test_security_follows_from_tls_and_login():
    def protocol(**kafka):
        return KafkaConfig("k:1", **kafka).consumer_config()["security.protocol"]

    assert protocol() == "plaintext"
    assert protocol(tls=True) == "ssl"
    assert protocol(sasl_mechanism="PLAIN") == "sasl_plaintext"
    assert protocol(tls=True, sasl_mechanism="PLAIN") == "sasl_ssl"
    assert protocol(options={"security.protocol": "SASL_SSL"}) == "SASL_SSL"


def test_options_replace_properties_except_those_that_the_stream_depends_on(capsys):
    kafka = KafkaConfig("k:1", options={"auto.offset.reset": "latest", "fetch.wait.max.ms": 5})
    config = kafka.consumer_config()
    assert config["fetch.wait.max.ms"] == 5
    assert config["auto.offset.reset"] == "error"
    output = capsys.readouterr()
    assert "auto.offset.reset" in output.out + output.err


def test_a_producer_s_limit_of_messages_leaves_consumers_as_they_are():
    kafka = KafkaConfig("k:1", options={"message.max.bytes": 20_000_000})
    assert kafka.producer_config()["message.max.bytes"] == 20_000_000
    Consumer(kafka.consumer_config()).close()


def test_options_cannot_change_what_the_guarantees_depend_on():
    kafka = KafkaConfig("k:1", options=dict.fromkeys(FIXED_PROPERTIES, "changed"))
    for config in (kafka.consumer_config(), kafka.producer_config(), kafka.admin_config()):
        assert "changed" not in config.values()


def test_booleans_are_written_as_librdkafka_reads_them():
    kafka = KafkaConfig("k:1", options={"socket.nagle.disable": True})
    assert kafka.admin_config()["socket.nagle.disable"] == "true"


def test_no_secret_is_shown():
    assert "secret" not in repr(SECURE)
