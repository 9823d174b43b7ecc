"""What responses to bulk requests mean; GraphQL answers 200 even with an error."""

from __future__ import annotations

import re

import orjson

from connectors.core.errors import ConfigurationError, RejectedError, ServiceError, TransientError
from connectors.http.address import address_of
from connectors.http.response import Response
from connectors.stores.stargate.errors import (
    check_available,
    check_schema_error,
    is_busy,
    is_unauthorized,
    missing_table,
)
from connectors.stores.stargate.table import StargateTable

_NO_PERMISSION = re.compile(
    r"unauthori[sz]ed|authentication required|not authori[sz]ed|has no MODIFY permission",
    re.IGNORECASE,
)


def is_graphql_unauthorized(response: Response) -> bool:
    """Return whether a response of GraphQL rejects the token: 401, or 200 with such an error."""
    if is_unauthorized(response):
        return True
    return (
        response.ok
        and b'"errors"' in response.body
        and _NO_PERMISSION.search("; ".join(_errors(_document(response)))) is not None
    )


def check_graphql(response: Response, table: StargateTable, url: str, mutation: str) -> None:
    """Check the response to a bulk mutation.

    Raises:
        TransientError: Busy or unavailable. A timeout has the status 500 here, so that a bulk
            that always times out is sent row by row in the end.
        ConfigurationError: The keyspace, the table, a column or GraphQL itself does not exist.
        RejectedError: One of the rows cannot be stored; the response does not show which one.
    """
    if not response.ok:
        raise _error_of(response, table, url)
    document = _document(response)
    if errors := _errors(document):
        message = "; ".join(errors)
        if is_busy(message):
            raise TransientError(
                f"{address_of(url)} answered with errors: {message[:300]}", status=500
            )
        check_schema_error(message, table)
        raise RejectedError(f"Stargate's GraphQL answered: {message[:300]}")
    data = document.get("data") if isinstance(document, dict) else None
    stored = data.get(mutation) if isinstance(data, dict) else None
    if stored is None:
        raise TransientError(
            f"{address_of(url)} answered 200, but not as GraphQL: {response.text(100)}"
        )
    if isinstance(stored, list) and any(_is_not_applied(row) for row in stored):
        raise RejectedError("Stargate's GraphQL did not apply every row")


def check_custom(response: Response, url: str) -> None:
    """Check a response of STARGATE_BULK_URL, of which only the status is specified.

    Raises:
        TransientError: Busy or unavailable, or a gateway's page.
        ConfigurationError: The service does not exist.
        RejectedError: One of the rows, or all of them, cannot be stored.
    """
    if response.ok:
        if response.body[:200].lstrip().startswith(b"<"):
            raise TransientError(
                f"{address_of(url)} answered {response.status} with a page of HTML"
            )
        return
    check_available(response, url, "STARGATE_BULK_URL")
    detail = f"{address_of(url)} answered {response.status}: {response.text()}"
    if response.status in (404, 405):
        raise ConfigurationError(
            detail,
            remedy="set STARGATE_BULK_URL to a service that takes PUT",
            status=response.status,
        )
    raise RejectedError(detail)


def _error_of(response: Response, table: StargateTable, url: str) -> ServiceError:
    check_available(response, url, "STARGATE_GRAPHQL_URL")
    message = response.text(2000)
    if response.status == 404 and "keyspace" in message.lower():
        return missing_table(table, message)
    if response.status in (404, 405):
        return ConfigurationError(
            f"{address_of(url)} has no GraphQL ({response.status}: {response.text(200)})",
            remedy="set STARGATE_GRAPHQL_URL to Stargate's GraphQL API, by default "
            "http://stargate:8080/graphql",
            status=response.status,
        )
    check_schema_error(message, table)
    return RejectedError(f"Stargate's GraphQL answered {response.status}: {response.text()}")


def _document(response: Response) -> object:
    try:
        document: object = orjson.loads(response.body)
    except orjson.JSONDecodeError:
        return None
    return document


def _errors(document: object) -> list[str]:
    """Return the messages of GraphQL errors; Stargate's authentication errors are plain strings."""
    errors = document.get("errors") if isinstance(document, dict) else None
    if not isinstance(errors, list):
        return []
    return [str(e.get("message", e)) if isinstance(e, dict) else str(e) for e in errors]


def _is_not_applied(row: object) -> bool:
    return row is None or (isinstance(row, dict) and row.get("applied") is False)
