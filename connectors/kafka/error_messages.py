"""The message for each error of librdkafka: what happened, and which setting to change.

The patterns were recorded from a real broker (tests/connectors/kafka/error_texts.py has the
texts). librdkafka does not report every cause as an error: for a plaintext client at a TLS port,
the only trace is a log line about a closed connection.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from confluent_kafka import KafkaError

from connectors.kafka.config import KafkaConfig

Certainty = Literal["certain", "transient", "hint"]
"""How certain the cause of an error is.

`certain`: it is reported at once. `transient`: a restarting broker causes it too, so the remedy is
reported only if the error lasts. `hint`: the end of an idle connection looks the same, so it counts
only if it repeats without a response in between.
"""


@dataclass(frozen=True, slots=True)
class ErrorMessage:
    """An error as a person reads it.

    Attributes:
        reason: What happened.
        remedy: What to do; empty where waiting may be enough.
        certainty: How certain the cause is.
        repeats: How often a transient error or a hint must occur before it is reported.
    """

    reason: str
    remedy: str = ""
    certainty: Certainty = "certain"
    repeats: int = 3


@dataclass(frozen=True, slots=True)
class ErrorRule:
    """One cause of an error.

    Templates have the fields {broker}, {authorities}, {ca_file}, {username}, {mechanism}, {match}
    (the pattern's first group) and {text} (the error itself).

    Attributes:
        pattern: The regular expression that librdkafka's text matches.
        reason: What happened (template).
        remedy: What to do (template).
        certainty: How certain the cause is.
        repeats: How often it must occur before it is reported.
        login: Whether the rule is only for clients with (True) or without (False) a login.
    """

    pattern: str
    reason: str
    remedy: str = ""
    certainty: Certainty = "certain"
    repeats: int = 3
    login: bool | None = None


RULES = (
    # the client's configuration
    ErrorRule(
        pattern=r"ssl\.ca\.location failed",
        reason="the certificate file {ca_file} is missing or holds no certificate",
        remedy="set KAFKA_CA_FILE to a readable PEM file",
    ),
    ErrorRule(
        pattern=r'No such configuration property: "([^"]*)"',
        reason="librdkafka has no property '{match}'",
        remedy="correct or remove it in KAFKA_OPTIONS",
    ),
    ErrorRule(
        pattern=r'Invalid value .*for configuration property "([^"]*)"',
        reason="librdkafka refuses the value of '{match}'",
        remedy="correct it in KAFKA_OPTIONS",
    ),
    ErrorRule(
        pattern=r"No provider for SASL mechanism (\S+?):",
        reason="this build of librdkafka cannot log in with {match}",
        remedy="set KAFKA_SASL_MECHANISM to PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER",
    ),
    ErrorRule(
        pattern=r"sasl\.username and sasl\.password must be set",
        reason="the login mechanism {mechanism} needs a user and a password",
        remedy="set KAFKA_USERNAME and KAFKA_PASSWORD",
    ),
    # TLS
    ErrorRule(
        pattern=r"certificate verify failed",
        reason="the certificate of {broker} is not trusted: {authorities} did not sign it, "
        "or it is for another host name",
        remedy="set KAFKA_CA_FILE to the authority that signed it, and use the host name in the "
        "certificate in KAFKA_BROKER",
    ),
    ErrorRule(
        pattern=r"certificate required|handshake failure|bad certificate",
        reason="{broker} requires a client certificate",
        remedy='set it in KAFKA_OPTIONS: {{"ssl.certificate.location": …, "ssl.key.location": …}}',
    ),
    ErrorRule(
        pattern=r"connecting to a PLAINTEXT broker listener|wrong version number"
        r"|SSL connection closed by peer.*in state SSL_HANDSHAKE",
        reason="{broker} ends the TLS handshake: that port does not speak TLS",
        remedy="write KAFKA_BROKER without kafka+ssl://, or give the broker's TLS port",
    ),
    ErrorRule(
        pattern=r"SSL handshake failed",
        reason="TLS with {broker} failed: {text}",
        remedy="check kafka+ssl:// in KAFKA_BROKER, KAFKA_CA_FILE, and ssl.* in KAFKA_OPTIONS",
    ),
    # login
    ErrorRule(
        pattern=r"Unsupported SASL mechanism: broker's supported mechanisms: ?(.+?)(?: \(|$)",
        reason="{broker} does not support the login mechanism {mechanism}",
        remedy="set KAFKA_SASL_MECHANISM to what the broker supports: {match}",
    ),
    ErrorRule(
        pattern=r"Unsupported SASL mechanism",
        reason="{broker} does not support the login mechanism {mechanism}",
        remedy="set KAFKA_SASL_MECHANISM to what the broker supports (sasl.enabled.mechanisms)",
    ),
    ErrorRule(
        pattern=r"not valid in current SASL state",
        reason="{broker} does not accept a login: that port works without SASL",
        remedy="remove KAFKA_USERNAME, KAFKA_PASSWORD and KAFKA_SASL_MECHANISM, "
        "or give the port that requires a login in KAFKA_BROKER",
    ),
    ErrorRule(
        pattern=r"SASL authentication error|Authentication failed|invalid credentials",
        reason="{broker} refuses the login of user '{username}'",
        remedy="correct KAFKA_USERNAME and KAFKA_PASSWORD",
    ),
    # the connection
    ErrorRule(
        pattern=r"Invalid response size",
        reason="{broker} is not a Kafka broker: its response is invalid",
        remedy="give Kafka's own port in KAFKA_BROKER, with kafka+ssl:// if it speaks TLS",
    ),
    ErrorRule(
        pattern=r"Connection refused",
        reason="cannot connect to {broker}: connection refused",
        remedy="start Kafka, or correct KAFKA_BROKER",
        certainty="transient",
    ),
    ErrorRule(
        pattern=r"Failed to resolve '([^']*)'",
        reason="the host of {match} is not known here",
        remedy="correct KAFKA_BROKER; if the brokers advertise other addresses "
        "(advertised.listeners), this host must resolve them too",
        certainty="transient",
    ),
    ErrorRule(
        pattern=r"setup timed out|timed out in state CONNECT|Network is unreachable|No route",
        reason="cannot connect to {broker}: no response",
        remedy="check that the network reaches it, or correct KAFKA_BROKER",
        certainty="transient",
        repeats=1,  # each attempt takes 5 s
    ),
    ErrorRule(
        pattern=r"closed by peer.*in state APIVERSION_QUERY",
        reason="{broker} closes the connection before Kafka's first response: that port speaks "
        "TLS, and this client does not",
        remedy="write KAFKA_BROKER=kafka+ssl://host:port, or give the broker's plaintext port",
        certainty="hint",
    ),
    ErrorRule(
        pattern=r"(?:closed by peer|Broken pipe|reset by peer).*in state UP",
        login=True,
        reason="{broker} closes the connection",
        certainty="hint",
    ),
    ErrorRule(
        pattern=r"(?:closed by peer|Broken pipe|reset by peer).*in state UP",
        login=False,
        reason="{broker} closes the connection at the first request: that port requires a login",
        remedy="set KAFKA_USERNAME, KAFKA_PASSWORD and KAFKA_SASL_MECHANISM, "
        "or give a port without SASL in KAFKA_BROKER",
        certainty="hint",
    ),
    # anything else that a constructor reports
    ErrorRule(
        pattern=r"Failed to (?:create|set) \w+: (.*)",
        reason="librdkafka refuses its configuration: {match}",
        remedy="check KAFKA_OPTIONS, KAFKA_SASL_MECHANISM and KAFKA_CA_FILE",
    ),
)
"""The causes; the first rule that matches counts."""


def explain(text: str, config: KafkaConfig) -> ErrorMessage | None:
    """Return the message for the text of an error or of a log line.

    Args:
        text: The text that librdkafka wrote.
        config: How to connect to Kafka, for the remedy.

    Returns:
        The message; None if no rule matches.
    """
    for rule in RULES:
        if rule.login not in (None, config.uses_login):
            continue
        if match := re.search(rule.pattern, text):
            return _filled_in(rule, match, config)
    return None


def _filled_in(rule: ErrorRule, match: re.Match[str], config: KafkaConfig) -> ErrorMessage:
    fields = {
        "broker": _broker_in(match.string) or config.brokers,
        "authorities": config.ca_file or "the system's certificate authorities",
        "ca_file": config.ca_file,
        "username": config.username,
        "mechanism": config.sasl_mechanism,
        "match": match[1] if match.re.groups else "",
        "text": plain(match.string),
    }
    reason, remedy = rule.reason.format(**fields), rule.remedy.format(**fields)
    return ErrorMessage(reason, remedy, rule.certainty, rule.repeats)


def of_code(code: int, config: KafkaConfig) -> tuple[str, ErrorMessage] | None:
    """Return the message for a broker's error about the topic or the group.

    Returns:
        The kind of problem (`topic` or `group`) and the message; None for other errors.
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
"""Codes of a topic that does not exist."""


def plain(text: str) -> str:
    """Return a text of librdkafka as one line, without the names of its threads and states."""
    return " ".join(_TRAILING.sub("", _LEADING.sub("", text)).split())[:300]


def _broker_in(text: str) -> str | None:
    match = _BROKER.search(text)
    return match[1] if match else None


_BROKER = re.compile(r"(?:^|[\s/])((?:\[[0-9a-fA-F:.]+\]|[^\s/\[\]]+):\d+)/")
_LEADING = re.compile(r"^(?:\[thrd:[^]]*\]+: )?(?:\S+/\w+: )?")
_TRAILING = re.compile(r"\s*\(after \d+ms in state \w+\).*$")
