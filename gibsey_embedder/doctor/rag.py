"""Checks the RAG service: connection, path, token and, with `--send-test`, a notification."""

from __future__ import annotations

import orjson

from connectors.core.errors import ServiceError
from connectors.core.findings import Finding, bad, from_error, good, warning
from connectors.http.address import address_of
from connectors.http.client import HttpClient
from dataflow.config.settings import Settings

TIMEOUT_S = 5.0
PAGE_ID = "gibsey-embedder-doctor"

_START = "start the RAG service, or correct RAG_REFRESH_URL"
_PATH = "set RAG_REFRESH_URL to the URL that accepts POST {page_id, vector}"
_TOKEN = "correct RAG_AUTH_TOKEN"  # noqa: S105 - a remedy, not a token


async def check_rag(settings: Settings, http: HttpClient, *, send: bool) -> list[Finding]:
    """Check the RAG service.

    Args:
        settings: The settings.
        http: The HTTP client.
        send: Whether to send a notification of a page that does not exist. Otherwise the request
            is OPTIONS, which changes nothing.
    """
    try:
        return [await (_send(settings, http) if send else _request_options(settings, http))]
    except ServiceError as error:
        return [from_error("rag", error, _START)]


async def _request_options(settings: Settings, http: HttpClient) -> Finding:
    url = settings.rag_refresh_url
    response = await http.exchange("OPTIONS", url, headers=_headers(settings), timeout_s=TIMEOUT_S)
    found = f"{address_of(url)} responded {response.status}"
    if response.status >= 500:
        return bad("rag", f"{found}: {response.text(100)}", "see the RAG service's log")
    if response.status == 404:
        return bad("rag", f"{found}: the path does not exist", _PATH)
    if response.status in (401, 403):
        remedy = f"{_TOKEN}; test it with --send-test"
        return warning("rag", f"{found}: it may reject the token", remedy)
    return good("rag", f"{address_of(url)} responds (--send-test sends a notification)")


async def _send(settings: Settings, http: HttpClient) -> Finding:
    url = settings.rag_refresh_url
    vector = [1.0] + [0.0] * (settings.embed_dimensions - 1)
    body = orjson.dumps({"page_id": PAGE_ID, "vector": vector})
    response = await http.exchange(
        "POST", url, body=body, headers=_headers(settings), timeout_s=settings.rag_timeout
    )
    if response.ok and not response.body.lstrip().startswith(b"<"):
        return good("rag", f"{address_of(url)} accepted a notification of the page {PAGE_ID}")
    found = f"{address_of(url)} responded {response.status}: {response.text(100)}"
    if response.status in (401, 403):
        return bad("rag", found, _TOKEN)
    if response.ok or response.status in (301, 302, 303, 307, 308, 404, 405):
        return bad("rag", found, _PATH)
    return bad("rag", found, "see the RAG service's log")


def _headers(settings: Settings) -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    if settings.rag_auth_token:
        headers["Authorization"] = f"Bearer {settings.rag_auth_token.get_secret_value()}"
    return headers
