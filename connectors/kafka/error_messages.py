"""What librdkafka's errors and log lines mean, in words that name the setting to change.

Learned from a real broker, row by row (tests/connectors/kafka/test_error_monitor.py holds the texts
as they were recorded). Some causes are never told through an error: of a plaintext client at a TLS
port the only trace is a log line about a closed connection.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from confluent_kafka import KafkaError

from connectors.kafka.config import KafkaConfig

_BROKER = re.compile(r"(?:^|[\s/])((?:\[[0-9a-fA-F:.]+\]|[^\s/\[\]]+):\d+)/")
_LEADING = re.compile(r"^(?:\[thrd:[^]]*\]+: )?(?:\S+/\w+: )?")
_TRAILING = re.compile(r"\s*\(after \d+ms in state \w+\).*$")


@dataclass(frozen=True, slots=True)
class ErrorMessage:
    """A fault as a person reads it.

    Attributes:
        reason: What happened.
        remedy: What to change, or empty where waiting may be all.
        weight: `sure`: told at once. `passing`: a broker that restarts shows it too, so its remedy
            is told when it lasts. `hint`: an idle connection's end looks the same, so it counts
            for nothing until it repeats without an answer in between.
        repeats: How often it must come for that.
    """

    reason: str
    remedy: str = ""
    weight: Literal["sure", "passing", "hint"] = "sure"
    repeats: int = 3


def explain(text: str, config: KafkaConfig) -> ErrorMessage | None:
    """Put an error's or a log line's text into words.

    Args:
        text: As librdkafka wrote it.
        config: What the settings say, for the remedy.

    Returns:
        The words, or None where the text tells nothing about a cause.
    """
    where = _where(text, config)
    for pattern, make in _RULES:
        if match := re.search(pattern, text):
            return make(where, match, config)
    return None


def of_code(code: int, config: KafkaConfig) -> tuple[str, ErrorMessage] | None:
    """Put an error of the broker about the topic or the group into words.

    Returns:
        The kind of problem (`topic` or `group`) and the words, or None for other errors.
    """
    if code in MISSING:
        remedy = "create it, or correct KAFKA_TOPIC (Debezium: prefix.keyspace.table)"
        return "topic", ErrorMessage(f"there is no topic {config.topic}", remedy)
    if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        remedy = "allow it Read and Describe there, or correct KAFKA_USERNAME or KAFKA_TOPIC"
        return "topic", ErrorMessage(f"the login may not read the topic {config.topic}", remedy)
    if code == KafkaError.GROUP_AUTHORIZATION_FAILED:
        remedy = "allow it Read there, or correct KAFKA_GROUP"
        return "group", ErrorMessage(f"the login may not use the group {config.group}", remedy)
    return None


MISSING = (
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
)
"""Codes of a topic that is not there."""


def _where(text: str, config: KafkaConfig) -> str:
    match = _BROKER.search(text)
    return match[1] if match else config.brokers


def plain(text: str) -> str:
    """A text of librdkafka without the names of its threads and states, as one line."""
    return " ".join(_TRAILING.sub("", _LEADING.sub("", text)).split())[:300]


def _not_tls(where: str, match: re.Match[str], config: KafkaConfig) -> ErrorMessage:
    del match, config
    return ErrorMessage(
        f"{where} ends the TLS handshake: that port does not speak TLS",
        "write KAFKA_BROKER without kafka+ssl://, or give the broker's TLS port",
    )


def _untrusted(where: str, match: re.Match[str], config: KafkaConfig) -> ErrorMessage:
    del match
    trusted = f"{config.ca_file} does" if config.ca_file else "the system's authorities do"
    return ErrorMessage(
        f"the certificate of {where} is not trusted: {trusted} not vouch for it, "
        "or it names another host",
        "set KAFKA_CA_FILE to the authority that signed it, and in KAFKA_BROKER use the host name "
        "that the certificate has",
    )


def _client_certificate(where: str, match: re.Match[str], config: KafkaConfig) -> ErrorMessage:
    del match, config
    return ErrorMessage(
        f"{where} wants a certificate of the client",
        'give it in KAFKA_OPTIONS: {"ssl.certificate.location": …, "ssl.key.location": …}',
    )


def _tls_failed(where: str, match: re.Match[str], config: KafkaConfig) -> ErrorMessage:
    del config
    return ErrorMessage(
        f"TLS with {where} does not come about: {plain(match.string)}",
        "check kafka+ssl:// in KAFKA_BROKER, KAFKA_CA_FILE, and ssl.* in KAFKA_OPTIONS",
    )


def _wrong_password(where: str, match: re.Match[str], config: KafkaConfig) -> ErrorMessage:
    del match
    return ErrorMessage(
        f"{where} refuses the login of user {config.username!r}",
        "correct KAFKA_USERNAME and KAFKA_PASSWORD",
    )


def _mechanism(where: str, match: re.Match[str], config: KafkaConfig) -> ErrorMessage:
    return ErrorMessage(
        f"{where} does not know the login mechanism {config.sasl_mechanism}",
        f"set KAFKA_SASL_MECHANISM to what the broker supports: {match[1] or 'ask its operator'}",
    )


def _no_login_there(where: str, match: re.Match[str], config: KafkaConfig) -> ErrorMessage:
    del match, config
    return ErrorMessage(
        f"{where} takes no login: that port works without SASL",
        "remove KAFKA_USERNAME, KAFKA_PASSWORD and KAFKA_SASL_MECHANISM, "
        "or give in KAFKA_BROKER the port that wants a login",
    )


def _wants_tls(where: str, match: re.Match[str], config: KafkaConfig) -> ErrorMessage:
    del match, config
    return ErrorMessage(
        f"{where} closes the connection before Kafka's first answer: that port speaks TLS, "
        "and we do not",
        "write KAFKA_BROKER=kafka+ssl://host:port, or give the broker's plaintext port",
        weight="hint",
    )


def _wants_login(where: str, match: re.Match[str], config: KafkaConfig) -> ErrorMessage:
    del match
    if config.uses_login:
        return ErrorMessage(f"{where} closes the connection", weight="hint")
    return ErrorMessage(
        f"{where} closes the connection at the first question: that port wants a login",
        "set KAFKA_USERNAME, KAFKA_PASSWORD and KAFKA_SASL_MECHANISM, "
        "or give in KAFKA_BROKER a port without SASL",
        weight="hint",
    )


def _not_kafka(where: str, match: re.Match[str], config: KafkaConfig) -> ErrorMessage:
    del match
    tls = "" if config.uses_tls else ", or kafka+ssl://host:port if it speaks TLS"
    return ErrorMessage(
        f"what listens at {where} does not answer like Kafka",
        f"give Kafka's own port in KAFKA_BROKER{tls}",
    )


def _refused(where: str, match: re.Match[str], config: KafkaConfig) -> ErrorMessage:
    del match, config
    return ErrorMessage(
        f"cannot connect to {where}: connection refused",
        "start Kafka, or correct KAFKA_BROKER",
        weight="passing",
    )


def _unreachable(where: str, match: re.Match[str], config: KafkaConfig) -> ErrorMessage:
    del match, config
    return ErrorMessage(
        f"cannot connect to {where}: no answer",
        "check that the network reaches it, or correct KAFKA_BROKER",
        weight="passing",
        repeats=1,  # each takes 5 s
    )


def _unknown_host(where: str, match: re.Match[str], config: KafkaConfig) -> ErrorMessage:
    del where, config
    return ErrorMessage(
        f"the host of {match[1]} is not known here",
        "correct KAFKA_BROKER; where brokers give other addresses (advertised.listeners), "
        "those must be known here too",
        weight="passing",
    )


def _ca_file(where: str, match: re.Match[str], config: KafkaConfig) -> ErrorMessage:
    del where, match
    return ErrorMessage(
        f"the certificate file {config.ca_file} is missing or holds no certificate",
        "set KAFKA_CA_FILE to a readable PEM file",
    )


def _no_provider(where: str, match: re.Match[str], config: KafkaConfig) -> ErrorMessage:
    del where, config
    return ErrorMessage(
        f"this build of librdkafka cannot log in with {match[1]}",
        "set KAFKA_SASL_MECHANISM to PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER",
    )


def _no_user(where: str, match: re.Match[str], config: KafkaConfig) -> ErrorMessage:
    del where, match
    return ErrorMessage(
        f"the login mechanism {config.sasl_mechanism} needs a user and a password",
        "set KAFKA_USERNAME and KAFKA_PASSWORD",
    )


def _unknown_option(where: str, match: re.Match[str], config: KafkaConfig) -> ErrorMessage:
    del where, config
    return ErrorMessage(
        f"librdkafka has no property {match[1]!r}", "correct or remove it in KAFKA_OPTIONS"
    )


def _bad_option(where: str, match: re.Match[str], config: KafkaConfig) -> ErrorMessage:
    del where, config
    return ErrorMessage(
        f"librdkafka refuses the value of {match[1]!r}", "correct it in KAFKA_OPTIONS"
    )


def _bad_configuration(where: str, match: re.Match[str], config: KafkaConfig) -> ErrorMessage:
    del where, config
    return ErrorMessage(
        f"librdkafka refuses its configuration: {match[1]}",
        "check KAFKA_OPTIONS, KAFKA_SASL_MECHANISM and KAFKA_CA_FILE",
    )


_RULES = (
    (r"ssl\.ca\.location failed", _ca_file),
    (r'No such configuration property: "([^"]*)"', _unknown_option),
    (r'Invalid value .*for configuration property "([^"]*)"', _bad_option),
    (r"No provider for SASL mechanism (\S+?):", _no_provider),
    (r"sasl\.username and sasl\.password must be set", _no_user),
    (r"certificate verify failed", _untrusted),
    (r"certificate required|handshake failure|bad certificate", _client_certificate),
    (r"connecting to a PLAINTEXT broker listener|wrong version number", _not_tls),
    (r"SSL connection closed by peer.*in state SSL_HANDSHAKE", _not_tls),
    (r"SSL handshake failed", _tls_failed),
    (
        r"Unsupported SASL mechanism(?:: broker's supported mechanisms: ?(.*?))?(?: \(|$)",
        _mechanism,
    ),
    (r"not valid in current SASL state", _no_login_there),
    (r"SASL authentication error|Authentication failed|invalid credentials", _wrong_password),
    (r"Invalid response size", _not_kafka),
    (r"Connection refused", _refused),
    (r"Failed to resolve '([^']*)'", _unknown_host),
    (r"setup timed out|timed out in state CONNECT|Network is unreachable|No route", _unreachable),
    (r"closed by peer.*in state APIVERSION_QUERY", _wants_tls),
    (r"(?:closed by peer|Broken pipe|reset by peer).*in state UP", _wants_login),
    (r"Failed to (?:create|set) \w+: (.*)", _bad_configuration),
)
