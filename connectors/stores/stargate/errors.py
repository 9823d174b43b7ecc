"""What Stargate's answers mean, as seen by running 2.0.51 (REST v2 and GraphQL).

Each function returns for a row that is stored and raises one of `connectors.core.errors` for one
that is not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import orjson

from connectors.core.errors import ConfigurationError, RejectedError, RetryableError, TransientError
from connectors.http.address import address_of
from connectors.http.response import Response
from connectors.stores.stargate.row_keys import path_segment

_BUSY = re.compile(
    r"timed? ?out|timeout|unavailable|overloaded|received only|no ?node|no ?host|bootstrapping"
    r"|connection|shutting down|too many|truncateexception",
    re.IGNORECASE,
)
"""ErrorMessage of Cassandra's own troubles; a 500 with them says nothing about the row."""

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


@dataclass(frozen=True, slots=True)
class StargateTable:
    """The table of the vectors and where its rows are.

    Attributes:
        url: Base URL of the REST API v2, without a slash at its end.
        keyspace: The keyspace.
        table: The table.
        model_column: A text column that says which model made the vector; None: not written.
    """

    url: str
    keyspace: str
    table: str
    model_column: str | None = None

    def row_url(self, page_id: str) -> str:
        """The URL of one row.

        Raises:
            UnicodeEncodeError: The id holds a lone surrogate.
        """
        return f"{self.url}/v2/keyspaces/{self.keyspace}/{self.table}/{path_segment(page_id)}"

    @property
    def cql(self) -> str:
        """The statement that makes the table."""
        more = f", {self.model_column} text" if self.model_column else ""
        return (
            f"CREATE TABLE {self.keyspace}.{self.table} "
            f"(page_id text PRIMARY KEY, vector frozen<list<float>>{more});"
        )

    def cql_of_column(self, column: str) -> str:
        """The statement that adds a missing column."""
        kind = "frozen<list<float>>" if column == "vector" else "text"
        return f"ALTER TABLE {self.keyspace}.{self.table} ADD {column} {kind};"


class InvalidRowKeyError(RejectedError):
    """A page that is refused for its id alone, whatever the set-up."""


def check_stored(answer: Response, table: StargateTable, page_id: str) -> None:
    """Judge an answer to PUT or DELETE of one row.

    Raises:
        TransientError: Busy or away: 408, 429, 5xx, or not an answer of Stargate's.
        ConfigurationError: The table, a column or the REST API is not there.
        InvalidRowKeyError: The id is empty or too long.
        RejectedError: 400 and the like; `connectors.stores.error_attribution` finds the cause.
    """
    if answer.ok:
        check_is_json(answer, table.url)
        return
    check_reached(answer, table.url, "STARGATE_URL")
    if answer.status == 404:
        raise _not_found(answer, table)
    if answer.status == 405 and not page_id:
        raise InvalidRowKeyError("Stargate stores no row with an empty page_id")
    if answer.status == 414:
        raise InvalidRowKeyError("the page_id is too long for Stargate (414)")
    check_words(answer.text(2000), table)
    raise RejectedError(f"Stargate answered {answer.status}: {answer.text()}")


def check_reached(answer: Response, url: str, setting: str) -> None:
    """Raise for the answers that mean the same on every way to Stargate.

    Raises:
        TransientError: 408, 429 or 5xx; `status` tells a 500 that may be the row's.
        ConfigurationError: A redirect, or forbidden.
    """
    status = answer.status
    if status in (408, 429) or status >= 500:
        words = answer.text(2000)
        raise TransientError(
            f"{address_of(url)} answered {status}: {answer.text()}",
            retry_after_s=answer.retry_after_s or None,
            status=503 if status == 500 and is_busy(words) else status,
        )
    if 300 <= status < 400:
        raise ConfigurationError(
            f"{address_of(url)} redirects to another address ({status})",
            remedy=f"set {setting} to the address it redirects to",
            status=status,
        )
    if status == 403:
        raise ConfigurationError(
            f"{address_of(url)} forbids it (403: {answer.text(200)})",
            remedy=f"correct {setting}, or the rights of the token",
            status=status,
        )


def is_busy(words: str) -> bool:
    """Whether an error is one of Cassandra's own troubles, which pass."""
    return _BUSY.search(words) is not None


def check_is_json(answer: Response, url: str) -> None:
    """Make sure that a 2xx is Stargate's: a gateway's error page may be a 200 too.

    Raises:
        TransientError: The body is there but is no JSON.
    """
    body = answer.body
    if not body or (body.startswith(b'{"data":{') and body.endswith(b"}}")):
        return  # the hot path: 768 numbers are not parsed again to see that they are numbers
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        raise TransientError(
            f"{address_of(url)} answered {answer.status}, but not with JSON: {answer.text(100)}"
        ) from None


def check_words(words: str, table: StargateTable) -> None:
    """Raise for the words of a refusal that name a fault of the set-up.

    Raises:
        ConfigurationError: The table or one of our columns is missing.
    """
    if match := _NO_COLUMN.search(words):
        column = next(name for name in match.groups() if name)
        if column in ("vector", "page_id", table.model_column):
            raise ConfigurationError(
                f"the table {table.keyspace}.{table.table} has no column {column}",
                remedy=f"run in cqlsh: {table.cql_of_column(column)}",
            )
    if _NO_TABLE.search(words):
        raise no_table(table, words)


def no_table(table: StargateTable, words: str) -> ConfigurationError:
    """The fault of a missing keyspace or table."""
    said = words.lower()
    missing = "keyspace" if "keyspace" in said and "table" not in said else "table"
    name = table.keyspace if missing == "keyspace" else f"{table.keyspace}.{table.table}"
    first = (
        f"CREATE KEYSPACE {table.keyspace} WITH replication = "
        "{'class': 'SimpleStrategy', 'replication_factor': 1}; "
        if missing == "keyspace"
        else ""
    )
    return ConfigurationError(
        f"Stargate has no {missing} {name}",
        remedy=f"correct STARGATE_KEYSPACE or STARGATE_TABLE, or run in cqlsh: {first}{table.cql}",
        status=404,
    )


def _not_found(answer: Response, table: StargateTable) -> ConfigurationError:
    """Tell a missing table from a port on which there is no REST API v2.

    Stargate says of a table `{"description":"Resource not found: table 'x' not found"}`; a port
    without REST (GraphQL's 8080) `{"code":404,"message":"HTTP 404 Not Found"}`.
    """
    words = answer.text(2000)
    if "HTTP 404" not in words and re.search(r"keyspace|table", words, re.IGNORECASE):
        return no_table(table, words)
    return ConfigurationError(
        f"{address_of(table.url)} has no REST API v2 (404: {answer.text(200)})",
        remedy="set STARGATE_URL to where it is: Stargate's own port for it is 8082",
        status=404,
    )


def is_401(answer: Response) -> bool:
    """Whether an answer is about the token."""
    return answer.status == 401


def token_refused(answer: Response, url: str, remedy: str) -> RetryableError:
    """The error of a token that stays refused.

    A stalled permission check is answered 401 too ("Operation timed out"), and passes.
    """
    words = answer.text(200)
    if is_busy(words):
        return TransientError(f"{address_of(url)} could not check the rights: {words}", status=401)
    return ConfigurationError(
        f"{address_of(url)} refuses the token, or its role lacks MODIFY on the table: {words}",
        remedy=remedy,
        status=401,
    )
