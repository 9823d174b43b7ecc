"""The URLs of OpenAI's embedding API, and of a compatible server."""

from __future__ import annotations

import re

from yarl import URL

_VERSION = re.compile(r"/v\d+$")


def base_of(url: str) -> str:
    """Return a URL without a final slash and without the endpoint's `/embeddings`."""
    return url.rstrip("/").removesuffix("/embeddings").rstrip("/")


def endpoint_of(url: str) -> str:
    """Return the URL of the embeddings endpoint, from any URL that people set.

    Args:
        url: `https://api.openai.com`, or with `/v1`, or the full URL, or a proxy's prefix.
    """
    parsed = URL(base_of(url))
    path = parsed.raw_path.rstrip("/")
    path += "/embeddings" if _VERSION.search(path) else "/v1/embeddings"
    return str(parsed.with_path(path, encoded=True))
