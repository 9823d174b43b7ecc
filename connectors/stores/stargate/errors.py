"""What responses of Stargate's REST API mean, as observed with Stargate 2.0.51.

Each `check_…` function returns if the row is stored and raises one of `connectors.core.errors`
if it is not.
"""

from __future__ import annotations

import re

import orjson

from connectors.core.errors import ConfigurationError, RejectedError, RetryableError, TransientError
from connectors.http.address import address_of
from connectors.http.response import Response
from connectors.stores.stargate.table import StargateTable

_BUSY = re.compile(
    r"timed? ?out|timeout|unavailable|overloaded|received only|no ?node|no ?host|bootstrapping"
    r"|connection|shutting down|too many|truncateexception",
    re.IGNORECASE,
)
"""Errors of the Cassandra cluster; a 500 with one of them is not about the row."""

_NO_COLUMN = re.compile(
    r"unknown field name '?\"?(\w+)"
    r"|field name '(\w+)' that is not defined"
    r"|(?:undefined|unknown) column(?: name)? '?\"?(\w+)",
    re.IGNORECASE,
)
_NO_TABLE = re.compile(
    r"(?:keyspace|table) '?\"?[\w.]+'?\"? (?:not found|does ?n[o']t exist|doesn't exist)"
    r"|(?:unknown|unconfigured|no such|missing) (?:keyspace|table)"
    r"|FieldUndefined"
    r"|unknown type '?\w+Input",
    re.IGNORECASE,
)
_REST_REMEDY = "set STARGATE_URL to the REST API v2; in Stargate's own images it is on port 8082"


class InvalidRowKeyError(RejectedError):
    """Stargate rejects a row for its id alone, whatever the setup."""


def check_stored(response: Response, table: StargateTable, page_id: str) -> None:
    """Check the response to a PUT or DELETE of one row.

    Raises:
        TransientError: Busy or unavailable: 408, 429, 5xx, or a response that is not Stargate's.
        ConfigurationError: The table, a column or the REST API does not exist.
        InvalidRowKeyError: The id is empty or too long.
        RejectedError: Any other 4xx; `connectors.stores.error_attribution` finds the cause.
    """
    if response.ok:
        check_is_json(response, table.url)
        return
    check_available(response, table.url, "STARGATE_URL")
    if response.status == 404:
        raise _not_found(response, table)
    if response.status == 405 and not page_id:
        raise InvalidRowKeyError("Stargate stores no row with an empty page_id")
    if response.status == 414:
        raise InvalidRowKeyError("the page_id is too long for Stargate (414)")
    check_schema_error(response.text(2000), table)
    raise RejectedError(f"Stargate answered {response.status}: {response.text()}")


def check_available(response: Response, url: str, setting: str) -> None:
    """Raise for the error responses that mean the same for every kind of request.

    Raises:
        TransientError: 408, 429 or 5xx; its `status` is 500 only if the row may be the cause.
        ConfigurationError: A redirect, or 403.
    """
    status = response.status
    if status in (408, 429) or status >= 500:
        is_cluster_error = status == 500 and is_busy(response.text(2000))
        raise TransientError(
            f"{address_of(url)} answered {status}: {response.text()}",
            retry_after_s=response.retry_after_s or None,
            status=503 if is_cluster_error else status,
        )
    if 300 <= status < 400:
        raise ConfigurationError(
            f"{address_of(url)} redirects to another address ({status})",
            remedy=f"set {setting} to the address it redirects to",
            status=status,
        )
    if status == 403:
        raise ConfigurationError(
            f"{address_of(url)} forbids it (403: {response.text(200)})",
            remedy=f"correct {setting}, or the permissions of the token",
            status=status,
        )


def is_busy(message: str) -> bool:
    """Return whether an error message is about the Cassandra cluster, which recovers by itself."""
    return _BUSY.search(message) is not None


def check_is_json(response: Response, url: str) -> None:
    """Make sure that a 2xx is Stargate's: a gateway may send its error page with a 200.

    Raises:
        TransientError: There is a body, and it is not JSON.
    """
    body = response.body
    if not body or (body.startswith(b'{"data":{') and body.endswith(b"}}")):
        return  # the hot path: parsing the 768 numbers would cost more than the request
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        raise TransientError(
            f"{address_of(url)} answered {response.status}, but not with JSON: {response.text(100)}"
        ) from None


def check_schema_error(message: str, table: StargateTable) -> None:
    """Raise if an error message is about a missing keyspace, table or column.

    Raises:
        ConfigurationError: The table, or a column that the stream writes, is missing.
    """
    if match := _NO_COLUMN.search(message):
        column = next(name for name in match.groups() if name)
        if column in ("vector", "page_id", table.model_column):
            raise ConfigurationError(
                f"the table {table.name} has no column {column}",
                remedy=f"run in cqlsh: {table.cql_of_column(column)}",
            )
    if _NO_TABLE.search(message):
        raise missing_table(table, message)


def missing_table(table: StargateTable, message: str) -> ConfigurationError:
    """Return the error of a missing keyspace or table.

    Args:
        table: The table.
        message: Stargate's error message, which shows which of the two is missing.
    """
    text = message.lower()
    missing = "keyspace" if "keyspace" in text and "table" not in text else "table"
    name = table.keyspace if missing == "keyspace" else table.name
    create_keyspace = (
        f"CREATE KEYSPACE {table.keyspace} WITH replication = "
        "{'class': 'SimpleStrategy', 'replication_factor': 1}; "
        if missing == "keyspace"
        else ""
    )
    cql = create_keyspace + table.cql
    return ConfigurationError(
        f"Stargate has no {missing} {name}",
        remedy=f"correct STARGATE_KEYSPACE or STARGATE_TABLE, or run in cqlsh: {cql}",
        status=404,
    )


def missing_rest_api(url: str, response: Response) -> ConfigurationError:
    """Return the error of a port without the REST API v2."""
    return ConfigurationError(
        f"{address_of(url)} has no REST API v2 (404: {response.text(200)})",
        remedy=_REST_REMEDY,
        status=404,
    )


def is_missing_rest_api(response: Response) -> bool:
    """Return whether a 404 comes from a port without the REST API v2, such as GraphQL's 8080.

    Stargate answers `{"description":"Resource not found: table 'x' not found"}` for a missing
    table; a port without the REST API answers `{"code":404,"message":"HTTP 404 Not Found"}`.
    """
    return response.status == 404 and "HTTP 404" in response.text(2000)


def _not_found(response: Response, table: StargateTable) -> ConfigurationError:
    message = response.text(2000)
    if not is_missing_rest_api(response) and re.search("keyspace|table", message, re.IGNORECASE):
        return missing_table(table, message)
    return missing_rest_api(table.url, response)


def is_unauthorized(response: Response) -> bool:
    """Return whether a response rejects the token."""
    return response.status == 401


def rejected_token(response: Response, url: str, remedy: str) -> RetryableError:
    """Return the error of a token that Stargate still rejects after a renewal.

    Stargate also answers 401 ("Operation timed out") when its permission check stalls, which
    recovers by itself.
    """
    message = response.text(200)
    if is_busy(message):
        return TransientError(
            f"{address_of(url)} could not check the permissions: {message}", status=401
        )
    return ConfigurationError(
        f"{address_of(url)} refuses the token, or its role lacks MODIFY on the table: {message}",
        remedy=remedy,
        status=401,
    )
