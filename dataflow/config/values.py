"""How single values of the settings are read: brokers, URLs, JSON options, names, secrets.

Each function takes the text that was given and returns the value, or raises `ValueError` with a
sentence that fits after the variable's name and never repeats a secret.
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

from connectors.observability.redaction import MASK

Scalar = str | int | float | bool

_DEFAULT_KAFKA_PORT = 9092

_OLLAMA_PATHS = ("/api/embeddings", "/api/embed", "/api")

_SECRET_OPTION = re.compile(r"passw|secret|token|jaas|ssl\.key\.pem|sasl\.oauthbearer\.config|pem$")

_RESERVED_OPTIONS = {
    "bootstrap.servers": "use KAFKA_BROKER",
    "metadata.broker.list": "use KAFKA_BROKER",
    "group.id": "use KAFKA_GROUP",
    "enable.auto.commit": "the program commits what is settled, by itself",
    "enable.auto.offset.store": "the program commits what is settled, by itself",
    "auto.offset.reset": "a lost position is noticed and reported by the program",
}


def parse_brokers(text: str) -> tuple[tuple[str, ...], bool]:
    """Read a list of brokers.

    Args:
        text: `host:port`, `kafka://host:port` or `kafka+ssl://host:port`, separated by commas.

    Returns:
        Every broker as `host:port`, and whether they speak TLS.

    Raises:
        ValueError: An entry that cannot be read, or entries with and without TLS together.
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
            "holds a user name; take it out and use KAFKA_USERNAME and KAFKA_PASSWORD_FILE"
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
    """Return `text` when `parse_brokers` can read it."""
    parse_brokers(text)
    return text


def parse_url(text: str) -> SplitResult:
    """Split one http or https URL with a host.

    Raises:
        ValueError: It is none; the message repeats neither credentials nor query.
    """
    url = text.strip()
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ValueError("has white space or control characters within the URL; take them out")
    try:
        parts = urlsplit(url)
        port_works = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError("has a host or port that cannot be read; ports go up to 65535") from None
    if parts.scheme.lower() not in ("http", "https"):
        raise ValueError("is not an http:// or https:// URL; write it in full")
    if not parts.hostname or not port_works:
        raise ValueError("names no host or the port 0; write it like http://host:port")
    if parts.fragment:
        raise ValueError("has a fragment (#...); take it out")
    return parts


def check_url(text: str) -> str:
    """Return a URL whose path and query are used as they are."""
    return urlunsplit(parse_url(text))


def check_base_url(text: str) -> str:
    """Return a URL below which paths are appended, without slashes at its end."""
    parts = parse_url(text)
    if parts.query:
        raise ValueError("has a query (?...), but paths are appended to it; take it out")
    return urlunsplit(parts._replace(path=parts.path.rstrip("/")))


def check_stargate_url(text: str) -> str:
    """Return the base URL of a Stargate; a `/v2` at its end is dropped."""
    return check_base_url(text).removesuffix("/v2").rstrip("/")


def check_auth_url(text: str) -> str:
    """Return the URL that gives tokens: `/v1/auth` where no path was given."""
    url = check_base_url(text)
    return url if urlsplit(url).path else f"{url}/v1/auth"


def check_openai_url(text: str) -> str:
    """Return the base URL of an OpenAI-like API; `/embeddings` at its end is dropped."""
    return check_base_url(text).removesuffix("/embeddings").rstrip("/")


def parse_embed_urls(text: str) -> tuple[str, ...]:
    """Read the list of Ollama servers.

    Args:
        text: URLs separated by commas; each ends in `/api/embeddings`, in `/api/embed`, or is the
            server's root, also one below a proxy's path.

    Returns:
        Each server's root once, in order, without a slash at its end.

    Raises:
        ValueError: One of them is not such a URL.
    """
    entries = [entry for entry in text.split(",") if entry.strip()]
    if not entries:
        raise ValueError("is empty; give for example http://ollama:11434/api/embeddings")
    return tuple(dict.fromkeys(_ollama_root(entry) for entry in entries))


def _ollama_root(entry: str) -> str:
    url = check_base_url(entry)
    for path in _OLLAMA_PATHS:
        if url.endswith(path):
            return url.removesuffix(path).rstrip("/")
    path = urlsplit(url).path
    if path.endswith("/embeddings"):
        raise ValueError(
            f"has the path {path} of an OpenAI-like server; "
            "set EMBED_PROVIDER=openai and OPENAI_URL for it"
        )
    if "/api/" in path:
        raise ValueError(f"has the path {path}; give /api/embeddings, /api/embed or none")
    return url


def check_embed_urls(text: str) -> str:
    """Return `text` when `parse_embed_urls` can read it."""
    parse_embed_urls(text)
    return text


def parse_kafka_options(given: object) -> dict[str, Scalar]:
    """Read librdkafka properties: a JSON object whose values are text, numbers or booleans."""
    options = _from_json(given) if isinstance(given, str) else given
    if not isinstance(options, Mapping):
        raise ValueError('is not a JSON object; for example {"fetch.wait.max.ms": 50}')
    for name, value in options.items():
        if not isinstance(value, str | int | float):
            raise ValueError(f"has {name!r} that is neither text nor number nor true/false")
        if name in _RESERVED_OPTIONS:
            raise ValueError(f"has {name!r}, which cannot be set here: {_RESERVED_OPTIONS[name]}")
    return dict(options)


def _from_json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f" (at character {error.pos})" if isinstance(error, json.JSONDecodeError) else ""
        raise ValueError(f'is not JSON{where}; for example {{"fetch.wait.max.ms": 50}}') from None


def check_topic(text: str) -> str:
    """Return a name that Kafka allows for topics."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", text) or text in (".", ".."):
        raise ValueError(
            f"is {text!r}; topics are up to 249 letters, digits, dots, dashes and underscores"
        )
    return text


def check_identifier(text: str) -> str:
    """Return a name that Cassandra allows for keyspaces, tables and columns."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,47}", text):
        raise ValueError(
            f"is {text!r}; a name is up to 48 letters, digits and underscores, a letter first"
        )
    return text


def check_file(text: str) -> str:
    """Return the path of a file that is there."""
    if not Path(text).is_file():
        raise ValueError(f"names {text!r}, but no such file is there; correct the path")
    return text


def check_secret(given: object) -> object:
    """Return a secret that fits on one line; its text is never repeated."""
    if isinstance(given, SecretFault):
        raise ValueError(given.sentence)
    if isinstance(given, str) and re.search(r"[\x00-\x1f\x7f]", given):
        raise ValueError("has line breaks or control characters within; give it on one line")
    return given


class SecretFault:
    """Stands in the place of a secret that could not be read; `check_secret` reports it.

    Args:
        sentence: What is wrong, and what to do.
    """

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence


def redact_url(url: str) -> str:
    """Return a URL without its password and the values of its query."""
    parts = urlsplit(url.strip())
    user, at, host = parts.netloc.rpartition("@")
    netloc = f"{MASK}{at}{host}" if user else parts.netloc
    return urlunsplit(parts._replace(netloc=netloc, query=MASK if parts.query else ""))


def redact_option(name: str, value: Scalar) -> Scalar:
    """Return a librdkafka property's value as it may be shown."""
    return MASK if _SECRET_OPTION.search(name.lower()) else value


def lower(given: object) -> object:
    """Return text in small letters: choices are told apart without regard to case."""
    return given.strip().lower() if isinstance(given, str) else given


def upper(given: object) -> object:
    """Return text in capitals."""
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
