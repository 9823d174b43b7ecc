"""Parses single values of the settings: brokers, URLs, JSON options, names and secrets.

Each function converts a text to a value, or raises `ValueError`. The message completes a sentence
that begins with the variable's name, and never repeats a secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, urlsplit, urlunsplit

from pydantic import BeforeValidator, SecretStr
from pydantic_settings import NoDecode

from connectors.embedders.ollama.urls import API_PATHS, root_of
from connectors.embedders.openai.urls import base_of
from connectors.kafka.fixed_properties import FIXED_PROPERTIES
from connectors.observability.redaction import MASK

Scalar = str | int | float | bool

_DEFAULT_KAFKA_PORT = 9092
_INVALID_HOST = "has an invalid host or port; give a port from 1 to 65535"

_SECRET_OPTION = re.compile(r"passw|secret|token|jaas|ssl\.key\.pem|sasl\.oauthbearer\.config|pem$")


def parse_brokers(text: str) -> tuple[tuple[str, ...], bool]:
    """Parse a list of brokers.

    Args:
        text: `host:port`, `kafka://host:port` or `kafka+ssl://host:port`, separated by commas.

    Returns:
        The brokers as `host:port`, and whether they use TLS.

    Raises:
        ValueError: An entry is invalid, or only some entries use TLS.
    """
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    if not entries:
        raise ValueError("is empty; give host:port, for example kafka:9092")
    schemes = {_broker_scheme(entry) for entry in entries}
    tls = "kafka+ssl" in schemes
    if tls and len(schemes) > 1:
        raise ValueError(
            "mixes brokers with and without TLS; write kafka+ssl:// before each of them, or none"
        )
    return tuple(_broker_address(entry) for entry in entries), tls


def _broker_scheme(entry: str) -> str:
    scheme, separator, _ = entry.partition("://")
    if not separator:
        return "kafka"
    if scheme.lower() not in ("kafka", "kafka+ssl"):
        raise ValueError(
            f"has the scheme {scheme}://; give host:port, kafka://host:port, "
            "or kafka+ssl://host:port for TLS"
        )
    return scheme.lower()


def _broker_address(entry: str) -> str:
    address = entry.partition("://")[2] or entry
    if "@" in address:
        raise ValueError(
            "contains a user name; remove it and use KAFKA_USERNAME and KAFKA_PASSWORD_FILE"
        )
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]?#]+)(?::([^/]*))?/?", address)
    if match is None:
        raise ValueError(f"has {entry!r}, which is not host:port; for example kafka:9092")
    host, port = match[1], match[2]
    if port is None:
        return f"{host}:{_DEFAULT_KAFKA_PORT}"
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise ValueError(f"has the port {port!r} in {entry!r}; give a number from 1 to 65535")
    return f"{host}:{int(port)}"


def check_brokers(text: str) -> str:
    """Return `text` if `parse_brokers` accepts it."""
    parse_brokers(text)
    return text


def parse_url(text: str) -> SplitResult:
    """Split an http or https URL with a host.

    Raises:
        ValueError: The URL is invalid; the message repeats neither credentials nor query.
    """
    url = text.strip()
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ValueError("has white space or control characters in the URL; remove them")
    try:
        parts = urlsplit(url)
        has_valid_port = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError(_INVALID_HOST) from None
    if parts.scheme.lower() not in ("http", "https"):
        raise ValueError("is not an http:// or https:// URL; write the full URL")
    if not parts.hostname or not has_valid_port:
        raise ValueError("has no host or the port 0; write it like http://host:port")
    if parts.fragment:
        raise ValueError("has a fragment (#...); remove it")
    return parts


def check_url(text: str) -> str:
    """Return a URL that the program uses unchanged."""
    return urlunsplit(parse_url(text))


def check_base_url(text: str) -> str:
    """Return a URL to which the program appends paths, without a final slash."""
    parts = parse_url(text)
    if parts.query:
        raise ValueError("has a query (?...), but the program appends paths to it; remove it")
    return urlunsplit(parts._replace(path=parts.path.rstrip("/")))


def check_stargate_url(text: str) -> str:
    """Return the base URL of a Stargate, without `/v2`."""
    return check_base_url(text).removesuffix("/v2").rstrip("/")


def check_auth_url(text: str) -> str:
    """Return the URL of Stargate's auth service; the default path is `/v1/auth`."""
    url = check_base_url(text)
    return url if urlsplit(url).path else f"{url}/v1/auth"


def check_openai_url(text: str) -> str:
    """Return the base URL of an OpenAI-compatible API, without `/embeddings`."""
    return base_of(check_base_url(text))


def parse_embed_urls(text: str) -> tuple[str, ...]:
    """Parse the list of Ollama servers.

    Args:
        text: URLs separated by commas. Each ends in `/api/embeddings` or `/api/embed`, or is a
            server's base URL, which may contain a proxy's path.

    Returns:
        The distinct base URLs in order, without a final slash.

    Raises:
        ValueError: A URL is invalid.
    """
    entries = [entry for entry in text.split(",") if entry.strip()]
    if not entries:
        raise ValueError("is empty; give for example http://ollama:11434/api/embeddings")
    return tuple(dict.fromkeys(_ollama_root(entry) for entry in entries))


def _ollama_root(entry: str) -> str:
    url = check_base_url(entry)
    path = urlsplit(url).path
    if not path.endswith(API_PATHS):
        if path.endswith("/embeddings"):
            raise ValueError(
                f"has the path {path} of an OpenAI-compatible server; "
                "set EMBED_PROVIDER=openai and OPENAI_URL for it"
            )
        if "/api/" in path:
            raise ValueError(f"has the path {path}; give /api/embeddings, /api/embed or none")
    try:
        return root_of(url)
    except ValueError:
        raise ValueError(_INVALID_HOST) from None


def check_embed_urls(text: str) -> str:
    """Return `text` if `parse_embed_urls` accepts it."""
    parse_embed_urls(text)
    return text


def parse_kafka_options(given: object) -> dict[str, Scalar]:
    """Parse librdkafka properties: a JSON object of strings, numbers and booleans."""
    options = _from_json(given) if isinstance(given, str) else given
    if not isinstance(options, Mapping):
        raise ValueError('is not a JSON object; for example {"fetch.wait.max.ms": 50}')
    for name, value in options.items():
        if not isinstance(value, str | int | float):
            raise ValueError(f"has {name!r}, which must be a string, a number or a boolean")
        if instead := FIXED_PROPERTIES.get(name):
            raise ValueError(f"has {name!r}, which cannot be set here: {instead}")
    return dict(options)


def _from_json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        position = f" (at character {error.pos})" if isinstance(error, json.JSONDecodeError) else ""
        raise ValueError(
            f'is not JSON{position}; for example {{"fetch.wait.max.ms": 50}}'
        ) from None


def check_topic(text: str) -> str:
    """Return `text` if Kafka allows it as the name of a topic."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", text) or text in (".", ".."):
        raise ValueError(
            f"is {text!r}; a topic has up to 249 letters, digits, dots, dashes and underscores"
        )
    return text


def check_identifier(text: str) -> str:
    """Return `text` if Cassandra allows it as the name of a keyspace, table or column."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,47}", text):
        raise ValueError(
            f"is {text!r}; a name has up to 48 letters, digits and underscores, and begins with a "
            "letter"
        )
    return text


def check_file(text: str) -> str:
    """Return the path of a file that exists."""
    if not Path(text).is_file():
        raise ValueError(f"is {text!r}, but this file does not exist; correct the path")
    return text


def check_secret(given: object) -> object:
    """Return a secret if it is on one line; the error message does not repeat it."""
    if isinstance(given, InvalidSecret):
        raise ValueError(given.reason)
    if isinstance(given, str) and re.search(r"[\x00-\x1f\x7f]", given):
        raise ValueError("contains line breaks or control characters; give it on one line")
    return given


class InvalidSecret:
    """The value of a secret that could not be read; `check_secret` reports it.

    Args:
        reason: What is wrong, and what to do.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason


def redact_url(url: str) -> str:
    """Return a URL with its credentials and its query masked."""
    parts = urlsplit(url.strip())
    user, at, host = parts.netloc.rpartition("@")
    netloc = f"{MASK}{at}{host}" if user else parts.netloc
    return urlunsplit(parts._replace(netloc=netloc, query=MASK if parts.query else ""))


def redact_option(name: str, value: Scalar) -> Scalar:
    """Return the value of a librdkafka property, or a mask if it is a secret."""
    return MASK if _SECRET_OPTION.search(name.lower()) else value


def lower(given: object) -> object:
    """Return a text in lower case, because choices are not case-sensitive."""
    return given.strip().lower() if isinstance(given, str) else given


def upper(given: object) -> object:
    """Return a text in upper case."""
    return given.strip().upper() if isinstance(given, str) else given


Brokers = Annotated[str, BeforeValidator(check_brokers)]
Url = Annotated[str, BeforeValidator(check_url)]
BaseUrl = Annotated[str, BeforeValidator(check_base_url)]
StargateUrl = Annotated[str, BeforeValidator(check_stargate_url)]
AuthUrl = Annotated[str, BeforeValidator(check_auth_url)]
OpenAIUrl = Annotated[str, BeforeValidator(check_openai_url)]
EmbedUrls = Annotated[str, BeforeValidator(check_embed_urls)]
KafkaOptions = Annotated[dict[str, Scalar], NoDecode, BeforeValidator(parse_kafka_options)]
Topic = Annotated[str, BeforeValidator(check_topic)]
Identifier = Annotated[str, BeforeValidator(check_identifier)]
ExistingFile = Annotated[str, BeforeValidator(check_file)]
Secret = Annotated[SecretStr, BeforeValidator(check_secret)]
