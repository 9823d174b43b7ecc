"""The HTTP request that a fake receives and the reply that it sends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote

import orjson

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """A complete HTTP request.

    Attributes:
        method: `GET`, `PUT`, …
        target: Path and query as received, percent-encoded.
        headers: Header fields; look-up ignores case.
        body: The complete body.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """The percent-encoded path without the query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        """The query parameters; a repeated name has its last value."""
        return {
            name: values[-1] for name, values in parse_qs(self.target.partition("?")[2]).items()
        }

    def json(self) -> object:
        """Return the body's JSON value.

        Raises:
            orjson.JSONDecodeError: The body is not JSON.
        """
        return orjson.loads(self.body)

    def bearer(self) -> str | None:
        """Return the Bearer token, or None if the request has none."""
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        return token if scheme.lower() == "bearer" else None

    def mentions(self, text: str) -> bool:
        """Whether the body or the decoded target contains `text`."""
        return (
            text.encode() in self.body
            or orjson.dumps(text)[1:-1] in self.body
            or text in unquote(self.target)
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP reply.

    Attributes:
        status: HTTP status.
        body: The complete body.
        content_type: Media type of the body.
        headers: Additional header fields.
        takes_s: Seconds that the request takes in addition to the fake's delay.
    """

    status: int = 200
    body: bytes = b""
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    takes_s: float = 0.0


def json_reply(value: object, status: int = 200) -> Reply:
    """Return a JSON reply; `orjson.Fragment` passes encoded bytes through."""
    return Reply(status, orjson.dumps(value))


def text_reply(text: str, status: int = 200) -> Reply:
    """Return a plain text reply."""
    return Reply(status, text.encode(), TEXT)
