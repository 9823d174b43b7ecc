"""What a message may show of a URL."""

from __future__ import annotations

from yarl import URL


def address_of(url: str) -> str:
    """The scheme, host and port of a URL, without its login, path and query."""
    try:
        parsed = URL(url, encoded=True)
        address = f"{parsed.scheme}://{parsed.host}:{parsed.port}"
    except ValueError:  # the URL or its port is malformed
        return "the address"
    return address if parsed.host else "the address"
