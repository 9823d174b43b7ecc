"""What the answers of OpenAI's interface mean, told by their error code, then by status.

TransientError       rate limits, overload, any 5xx
ConfigurationError      key, quota, model, address
RejectedError     what else is refused as input
└── TextTooLongError
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from connectors.core.errors import ConfigurationError, RejectedError, ServiceError, TransientError
from connectors.embedders.base import TextTooLongError
from connectors.http.address import address_of
from connectors.http.response import Response

QUOTA_PAUSE_S = 60.0
"""How long an account without credit is left alone: it is mended by people."""

_QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_TOO_LONG = re.compile(
    r"context length|context_length|maximum context|max \d+ tokens|too long|too many tokens"
    r"|maximum (input|request|number of tokens)",
    re.IGNORECASE,
)
_SETUP = frozenset({"model", "dimensions", "encoding_format"})
_BUSY = frozenset({408, 409, 425, 429, 499})


@dataclass(frozen=True, slots=True)
class Complaint:
    """The error of an answer.

    Attributes:
        words: What it says, in one line.
        code: Its `code`, else its `type`; empty where it has none.
        param: The parameter of the request that it is about; empty where it names none.
    """

    words: str
    code: str = ""
    param: str = ""


def complaint_of(body: bytes) -> Complaint:
    """The error in an answer's body: OpenAI's form, a compatible server's, or any text."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        parsed = None
    error = parsed.get("error", parsed) if isinstance(parsed, dict) else None
    if not isinstance(error, dict):
        text = error if isinstance(error, str) else body[:1200].decode(errors="replace")
        return Complaint(_line(text))
    words = error.get("message") or error.get("detail") or body[:1200].decode(errors="replace")
    code = error.get("code") or error.get("type") or ""
    return Complaint(_line(str(words)), str(code), str(error.get("param") or ""))


def _line(text: str) -> str:
    return " ".join(text.split())[:300]


def meaning(
    answer: Response, without_key: Callable[[str], str], *, name: str, model: str
) -> ServiceError:
    """The failure that an answer stands for.

    Args:
        answer: An answer that is no success.
        without_key: Takes the key out of a server's words.
        name: The server, as people are shown it.
        model: The model that was asked for.
    """
    complaint = complaint_of(answer.body)
    said = f"{name} answered {answer.status}: {without_key(complaint.words)}"
    if complaint.code in _QUOTA:
        return _quota(said, answer.status)
    if answer.status in (400, 413, 422):
        return _about_input(answer, complaint, said)
    if answer.status in (404, 403) and "model" in (complaint.code + complaint.words).lower():
        remedy = f"set OPENAI_MODEL to a model that this account may use, not {model}"
        return ConfigurationError(said, remedy=remedy, status=answer.status)
    if answer.status in (401, 403, 407):
        # its words are not repeated: they quote a part of the key
        return ConfigurationError(
            f"{name} does not accept the key (status {answer.status})",
            remedy="set OPENAI_API_KEY to a valid key",
            status=answer.status,
        )
    if answer.status >= 500 or answer.status in _BUSY:
        return TransientError(said, retry_after_s=answer.retry_after_s, status=answer.status)
    return _wrong_address(answer, said, name)


def _about_input(answer: Response, complaint: Complaint, said: str) -> ServiceError:
    if answer.status == 413 or _TOO_LONG.search(f"{complaint.code} {complaint.words}"):
        return TextTooLongError(said)
    names_setting = "specifying dimensions" in complaint.words
    if complaint.param in _SETUP or complaint.code == "model_not_found" or names_setting:
        remedy = "set OPENAI_MODEL to a model that takes this, such as text-embedding-3-small"
        return ConfigurationError(said, remedy=remedy, status=answer.status)
    return RejectedError(said)


def _quota(said: str, status: int) -> ConfigurationError:
    remedy = "add credit to the account, or set OPENAI_API_KEY to another one's key"
    fault = ConfigurationError(said, remedy=remedy, status=status)
    fault.retry_after_s = QUOTA_PAUSE_S
    return fault


def _wrong_address(answer: Response, said: str, name: str) -> ConfigurationError:
    if 300 <= answer.status < 400:
        target = address_of(answer.headers.get("location", ""))
        said = f"{name} sends us on to {target} (status {answer.status})"
    remedy = "set OPENAI_URL to the server's root, such as https://api.openai.com"
    return ConfigurationError(said, remedy=remedy, status=answer.status)
