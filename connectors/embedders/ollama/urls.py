"""The URLs of an Ollama server."""

from __future__ import annotations

from yarl import URL

API_PATHS = ("/api/embeddings", "/api/embed", "/api")
"""The paths of Ollama's own API that people write into its URL."""
_PATHS = (*API_PATHS, "/v1/embeddings", "/v1")


def root_of(url: str) -> str:
    """Return the root of Ollama's paths, from any URL that people set.

    Args:
        url: `http://host:11434`, or with `/api/embeddings`, `/api/embed`, a proxy's prefix, ….
    """
    parsed = URL(url)
    path = parsed.raw_path.rstrip("/")
    for suffix in _PATHS:
        if path.endswith(suffix):
            path = path.removesuffix(suffix)
            break
    return str(parsed.with_path(path or "/", encoded=True)).rstrip("/")
