"""The request that notifies the RAG service: `POST RAG_REFRESH_URL {"page_id", "vector"}`."""

from __future__ import annotations

import orjson


def request_headers(token: str | None) -> dict[str, str]:
    """Return the header fields of a request; `token` is RAG_AUTH_TOKEN, or None."""
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return headers


def request_body(page_id: str, vector: bytes) -> bytes:
    """Return the body of a notification.

    Args:
        page_id: The page id.
        vector: The vector, as a JSON array.

    Raises:
        TypeError: The page id contains a lone surrogate, which JSON cannot represent.
    """
    return b'{"page_id":' + orjson.dumps(page_id) + b',"vector":' + vector + b"}"
