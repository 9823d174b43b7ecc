"""Checks the settings, and describes each problem in a sentence that contains no secret."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

SettingProblem = tuple[str, str]
"""The name of a variable, and the predicate that completes the sentence."""


class SettingsError(Exception):
    """The settings are invalid; `str()` lists the problems, one per line.

    Args:
        problems: The problems.

    Attributes:
        problems: The problems, in the order of the settings.
    """

    def __init__(self, problems: Iterable[SettingProblem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        title = "A setting is wrong:" if count == 1 else f"{count} settings are wrong:"
        lines = (f"  {name} {text}" for name, text in self.problems)
        super().__init__("\n".join([title, *lines]))


def field_problems(error: ValidationError, fields: Mapping[str, FieldInfo]) -> list[SettingProblem]:
    """Convert pydantic's errors to problems, at most one per setting."""
    problems: dict[str, str] = {}
    for details in error.errors(include_url=False):
        name = str(details["loc"][0])
        if details["type"] == "default_factory_not_called":
            continue  # the setting from which the default is computed has its own problem
        if details["type"] == "value_error":
            sentence = str(details["ctx"]["error"])
        else:
            is_secret = "Secret" in str(fields[name].annotation)
            value = "wrong" if is_secret else repr(details["input"])
            sentence = f"is {value}; give {expected(fields[name])}"
        problems.setdefault(name.upper(), sentence)
    return list(problems.items())


def quoted_problems(
    given: Mapping[str, Any], fields: Mapping[str, FieldInfo]
) -> list[SettingProblem]:
    """Find values in quotes, which `.env` removes but `docker run --env-file` keeps.

    Secrets are not checked, because a password may contain such quotes.
    """
    return [
        (name.upper(), "begins and ends with a quote; remove both, because `--env-file` keeps them")
        for name, value in given.items()
        if name in fields and "Secret" not in str(fields[name].annotation) and _is_quoted(value)
    ]


def _is_quoted(value: object) -> bool:
    return isinstance(value, str) and value[:1] in ("'", '"') and value[1:].endswith(value[0])


def expected(field: FieldInfo) -> str:
    """Describe the valid values of a field: `a whole number from 1 to 100`, `on or off`."""
    kind = _without_none(field.annotation)
    if get_origin(kind) is Literal:
        *others, last = map(str, get_args(kind))
        return f"{', '.join(others)} or {last}"
    if kind not in (int, float):
        return "a non-empty string"
    return ("a whole number" if kind is int else "a number") + _bounds(field)


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, UnionType):
        return next(kind for kind in get_args(annotation) if kind is not NoneType)
    return annotation


def _bounds(field: FieldInfo) -> str:
    bounds = {
        name: getattr(limit, name)
        for limit in field.metadata
        for name in ("ge", "gt", "le")
        if hasattr(limit, name)
    }
    if "gt" in bounds:
        return f" greater than {bounds['gt']}" + (f", up to {bounds['le']}" * ("le" in bounds))
    if "le" in bounds:
        return f" from {bounds['ge']} to {bounds['le']}"
    return f" of {bounds['ge']} or more" if "ge" in bounds else ""


def cross_problems(
    given: Mapping[str, Any], fields: Mapping[str, FieldInfo]
) -> list[SettingProblem]:
    """Check the settings against each other.

    Args:
        given: The given values by field; they may be invalid themselves.
        fields: All fields, for the defaults; a computed default counts as None.

    Returns:
        The problems that involve several settings.
    """
    values = {
        name: given.get(name, None if field.default is PydanticUndefined else field.default)
        for name, field in fields.items()
    }
    checks = (
        _kafka_login,
        _kafka_ca,
        _dead_letters,
        _openai,
        _fallback,
        _stargate_login,
        _stargate_bulk,
    )
    return [problem for check in checks for problem in check(values)]


def _kafka_login(values: Mapping[str, Any]) -> Iterable[SettingProblem]:
    options = str(values["kafka_options"] or "")
    if values["kafka_username"] and not values["kafka_password"] and "sasl." not in options:
        yield "KAFKA_PASSWORD", "is missing, but KAFKA_USERNAME is set; set both or neither"
    if values["kafka_password"] and not values["kafka_username"] and "sasl." not in options:
        yield "KAFKA_USERNAME", "is missing, but KAFKA_PASSWORD is set; set both or neither"
    mechanism = str(values["kafka_sasl_mechanism"] or "").upper()
    if mechanism.startswith(("PLAIN", "SCRAM")) and not (
        values["kafka_username"] or values["kafka_password"] or "sasl." in options
    ):
        yield "KAFKA_SASL_MECHANISM", "needs KAFKA_USERNAME and KAFKA_PASSWORD; set them"


def _kafka_ca(values: Mapping[str, Any]) -> Iterable[SettingProblem]:
    tls = "kafka+ssl://" in str(values["kafka_broker"]).lower()
    if values["kafka_ca_file"] and not tls and "ssl" not in str(values["kafka_options"]).lower():
        yield (
            "KAFKA_CA_FILE",
            "is for TLS, but KAFKA_BROKER does not use TLS; write kafka+ssl://host:port there",
        )


def _dead_letters(values: Mapping[str, Any]) -> Iterable[SettingProblem]:
    if values["dead_letter_topic"] == values["kafka_topic"]:
        yield (
            "DEAD_LETTER_TOPIC",
            "is also KAFKA_TOPIC, so the stream would read dead letters again; give another topic",
        )


def _openai(values: Mapping[str, Any]) -> Iterable[SettingProblem]:
    users = [
        f"{name.upper()}=openai"
        for name in ("embed_provider", "embed_fallback")
        if _chosen(values, name, "openai")
    ]
    if users and not values["openai_api_key"] and _is_openai_itself(str(values["openai_url"])):
        yield (
            "OPENAI_API_KEY",
            (
                f"is missing, but {' and '.join(users)} needs it; "
                "set it, or set OPENAI_URL to a server without a key"
            ),
        )


def _fallback(values: Mapping[str, Any]) -> Iterable[SettingProblem]:
    if not _chosen(values, "embed_fallback", "openai"):
        return
    if _chosen(values, "embed_provider", "openai"):
        yield (
            "EMBED_FALLBACK",
            (
                "is openai, but EMBED_PROVIDER is openai too, and a provider cannot be its own "
                "fallback; set it to none, or set EMBED_PROVIDER=ollama"
            ),
        )
    elif _host_and_port(values["openai_url"]) in map(
        _host_and_port, str(values["embed_url"]).split(",")
    ):
        yield (
            "OPENAI_URL",
            (
                "is a server of EMBED_URL, so the fallback would fail together with it; "
                "give the URL of another server"
            ),
        )


def _chosen(values: Mapping[str, Any], name: str, choice: str) -> bool:
    return str(values[name]).strip().lower() == choice


def _host_and_port(url: object) -> tuple[str | None, int | None] | None:
    """Return the host and port of a URL, or None for an invalid URL, which has its own problem."""
    try:
        parts = urlsplit(str(url).strip())
        return parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None


def _is_openai_itself(url: str) -> bool:
    try:
        host = urlsplit(url.strip()).hostname
    except ValueError:
        return False
    return host is not None and (host == "openai.com" or host.endswith(".openai.com"))


def _stargate_login(values: Mapping[str, Any]) -> Iterable[SettingProblem]:
    parts = ("stargate_username", "stargate_password", "stargate_auth_url")
    given = [name.upper() for name in parts if values[name]]
    missing = [name.upper() for name in parts if not values[name]]
    if given and missing:
        verb = "is" if len(given) == 1 else "are"
        for name in missing:
            yield (
                name,
                (
                    f"is missing, but {' and '.join(given)} {verb} set; set all three, "
                    "or only STARGATE_AUTH_TOKEN"
                ),
            )


def _stargate_bulk(values: Mapping[str, Any]) -> Iterable[SettingProblem]:
    if _chosen(values, "stargate_bulk", "custom") and not values["stargate_bulk_url"]:
        yield (
            "STARGATE_BULK_URL",
            "is missing, but STARGATE_BULK=custom needs it; set it to the URL that accepts rows",
        )
