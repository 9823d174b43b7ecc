"""What goes in and out of a stand-in: one HTTP request, one answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote

import orjson

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """A whole request.

    Attributes:
        method: `GET`, `PUT`, …
        target: Path and query exactly as they came, still percent-encoded.
        headers: Header fields; look-up ignores case.
        body: The whole body.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """The path, still percent-encoded, without the query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        """The query's last value of each name."""
        return {
            name: values[-1] for name, values in parse_qs(self.target.partition("?")[2]).items()
        }

    def json(self) -> object:
        """The body as JSON.

        Raises:
            orjson.JSONDecodeError: It is none.
        """
        return orjson.loads(self.body)

    def bearer(self) -> str | None:
        """The Bearer token, if one was sent."""
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        return token if scheme.lower() == "bearer" else None

    def mentions(self, text: str) -> bool:
        """Whether the body or the decoded path holds `text`."""
        return (
            text.encode() in self.body
            or orjson.dumps(text)[1:-1] in self.body
            or text in unquote(self.target)
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer.

    Attributes:
        status: HTTP status.
        body: The whole body.
        content_type: Its media type.
        headers: Further header fields.
        takes_s: Seconds that it takes beside the service's own delay.
    """

    status: int = 200
    body: bytes = b""
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    takes_s: float = 0.0


def json_answer(value: object, status: int = 200) -> Reply:
    """An answer of JSON; `orjson.Fragment` passes ready bytes through."""
    return Reply(status, orjson.dumps(value))


def text_answer(text: str, status: int = 200) -> Reply:
    """An answer of plain text."""
    return Reply(status, text.encode(), TEXT)
