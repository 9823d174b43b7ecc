"""Checks the RAG service: connection, path, token and, with `--send-test`, a notification."""

from __future__ import annotations

import orjson

from connectors.core.errors import ServiceError
from connectors.core.findings import Finding, bad, from_error, good, warning
from connectors.http.address import address_of
from connectors.http.client import HttpClient
from connectors.rag.errors import check_response
from connectors.rag.request import request_body, request_headers
from dataflow.config.settings import Settings

TIMEOUT_S = 5.0
PAGE_ID = "gibsey-embedder-doctor"

_START = "start the RAG service, or correct RAG_REFRESH_URL"
_PATH = "set RAG_REFRESH_URL to the URL that accepts POST {page_id, vector}"
_LOG = "see the RAG service's log"
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
        return bad("rag", f"{found}: {response.text(100)}", _LOG)
    if response.status == 404:
        return bad("rag", f"{found}: the path does not exist", _PATH)
    if response.status in (401, 403):
        remedy = f"{_TOKEN}; test it with --send-test"
        return warning("rag", f"{found}: it may reject the token", remedy)
    return good("rag", f"{address_of(url)} responds (--send-test sends a notification)")


async def _send(settings: Settings, http: HttpClient) -> Finding:
    url = settings.rag_refresh_url
    body = request_body(PAGE_ID, orjson.dumps([1.0] + [0.0] * (settings.embed_dimensions - 1)))
    response = await http.exchange(
        "POST", url, body=body, headers=_headers(settings), timeout_s=settings.rag_timeout
    )
    try:
        check_response(response, address_of(url))
    except ServiceError as error:
        # A service that returns 200 with a page of HTML is not the RAG service.
        return from_error("rag", error, _PATH if response.ok else _LOG)
    return good("rag", f"{address_of(url)} accepted a notification of the page {PAGE_ID}")


def _headers(settings: Settings) -> dict[str, str]:
    token = settings.rag_auth_token
    return request_headers(token.get_secret_value() if token else None)
