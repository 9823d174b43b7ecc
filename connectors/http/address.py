"""What a message may show of a URL."""

from __future__ import annotations

from yarl import URL


def address_of(url: str) -> str:
    """Return the scheme, host and port of a URL, as a URL without login, path and query."""
    try:
        parsed = URL(url, encoded=True)
        host = f"[{parsed.host}]" if ":" in (parsed.host or "") else parsed.host  # IPv6
        address = f"{parsed.scheme}://{host}:{parsed.port}"
    except ValueError:  # the URL or its port is malformed
        return "the address"
    return address if parsed.host else "the address"
