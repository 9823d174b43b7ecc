"""The RAG service: reachable, the path there, and on request a notification taken."""

from __future__ import annotations

import orjson

from connectors.core.errors import ServiceError
from connectors.http.address import address_of
from connectors.http.client import HttpClient
from dataflow.config.settings import Settings
from gibsey_embedder.doctor.findings import Finding, bad, from_error, good, warning

ASK_S = 5.0
PAGE_ID = "gibsey-embedder-doctor"

_START = "start the RAG service, or correct RAG_REFRESH_URL"
_PATH = "set RAG_REFRESH_URL to the address that accepts POST {page_id, vector}"
_TOKEN = "correct RAG_AUTH_TOKEN"  # noqa: S105 - a sentence


async def check_rag(settings: Settings, http: HttpClient, *, send: bool) -> list[Finding]:
    """Ask the RAG service.

    Args:
        settings: The settings in force.
        http: The HTTP client.
        send: Whether to send a notification of a page that does not exist. Without it only
            OPTIONS is asked, which changes nothing anywhere.
    """
    try:
        return [await (_send(settings, http) if send else _ask(settings, http))]
    except ServiceError as error:
        return [from_error("rag", error, _START)]


async def _ask(settings: Settings, http: HttpClient) -> Finding:
    url = settings.rag_refresh_url
    answer = await http.exchange("OPTIONS", url, headers=_headers(settings), timeout_s=ASK_S)
    said = f"{address_of(url)} answered {answer.status}"
    if answer.status >= 500:
        return bad("rag", f"{said}: {answer.text(100)}", "see the RAG service's log")
    if answer.status == 404:
        return bad("rag", f"{said}: the path is not there", _PATH)
    if answer.status in (401, 403):
        return warning("rag", f"{said}: the token may be refused", f"{_TOKEN}; try --send-test")
    return good("rag", f"{address_of(url)} answers (--send-test sends a notification)")


async def _send(settings: Settings, http: HttpClient) -> Finding:
    url = settings.rag_refresh_url
    vector = [1.0] + [0.0] * (settings.embed_dimensions - 1)
    body = orjson.dumps({"page_id": PAGE_ID, "vector": vector})
    answer = await http.exchange(
        "POST", url, body=body, headers=_headers(settings), timeout_s=settings.rag_timeout
    )
    if answer.ok and not answer.body.lstrip().startswith(b"<"):
        return good("rag", f"{address_of(url)} took a notification of the page {PAGE_ID}")
    said = f"{address_of(url)} answered {answer.status}: {answer.text(100)}"
    if answer.status in (401, 403):
        return bad("rag", said, _TOKEN)
    if answer.ok or answer.status in (301, 302, 303, 307, 308, 404, 405):
        return bad("rag", said, _PATH)
    return bad("rag", said, "see the RAG service's log")


def _headers(settings: Settings) -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    if settings.rag_auth_token:
        headers["Authorization"] = f"Bearer {settings.rag_auth_token.get_secret_value()}"
    return headers
