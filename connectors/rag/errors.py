"""Maps responses of the RAG service to errors, and errors to the reason of a dead letter."""

from __future__ import annotations

import orjson

from connectors.core.errors import (
    ConfigurationError,
    RejectedError,
    Rejection,
    RetryableError,
    TransientError,
)
from connectors.http.response import Response
from connectors.rag.service import REJECTED, UNREACHABLE

NOT_FOUND = 404
TOO_MANY_REQUESTS = 429


def rejection_of(error: RetryableError) -> Rejection:
    """Map an error to the rejection of a notification.

    The reason is `refused-by-rag` if the service answered (401, 404, …), else `rag-unreachable`.
    """
    answered = isinstance(error, ConfigurationError) and error.status is not None
    return Rejection(REJECTED if answered else UNREACHABLE, error.detail)


def check_response(response: Response, address: str) -> None:
    """Accept or reject a response. The contract with the service covers only the status.

    Raises:
        TransientError: The service is busy or down: 408, 429, 5xx, or a gateway's page.
        ConfigurationError: The token or the address is wrong.
        RejectedError: Any other 4xx.
    """
    if response.ok:
        _check_body(response, address)
        return
    status = response.status
    detail = f"{address} answered {status}: {response.text(200)}"
    if status in (408, TOO_MANY_REQUESTS) or status >= 500:
        raise TransientError(detail, retry_after_s=response.retry_after_s, status=status)
    if status in (401, 403):
        raise ConfigurationError(detail, remedy="correct RAG_AUTH_TOKEN", status=status)
    if status in (NOT_FOUND, 405) or status < 400:
        raise ConfigurationError(
            detail,
            remedy="set RAG_REFRESH_URL to the address that accepts POST {page_id, vector}",
            status=status,
        )
    raise RejectedError(detail)


def _check_body(response: Response, address: str) -> None:
    """Distinguish the service's own response from a gateway's page and from a part of one.

    Raises:
        TransientError: The body is HTML, or it is declared as JSON and is not JSON.
    """
    body = response.body
    content_type = response.headers.get("Content-Type", "")
    if not body:
        return
    if body[:200].lstrip().startswith(b"<") or "html" in content_type:
        raise TransientError(f"{address} answered {response.status} with an HTML page")
    if "json" in content_type:
        try:
            orjson.loads(body)
        except orjson.JSONDecodeError:
            raise TransientError(f"{address} answered {response.status} with broken JSON") from None
