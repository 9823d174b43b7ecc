"""What answers to bulks mean: GraphQL's, which are 200 also for errors, and a custom service's."""

from __future__ import annotations

import re

import orjson

from connectors.core.errors import ConfigurationError, RejectedError, TransientError
from connectors.http.address import address_of
from connectors.http.response import Response
from connectors.stores.stargate.errors import (
    StargateTable,
    check_reached,
    check_words,
    is_401,
    is_busy,
    no_table,
)

_NO_RIGHTS = re.compile(
    r"unauthori[sz]ed|authentication required|not authori[sz]ed|has no MODIFY permission",
    re.IGNORECASE,
)


def is_unauthorised(answer: Response) -> bool:
    """Whether an answer of GraphQL is about the token: 401, or 200 with such an error."""
    if is_401(answer):
        return True
    return (
        answer.ok
        and b'"errors"' in answer.body
        and _NO_RIGHTS.search("; ".join(_errors(_document(answer)))) is not None
    )


def check_graphql(answer: Response, table: StargateTable, url: str, mutation: str) -> None:
    """Judge an answer to a bulk mutation.

    Raises:
        TransientError: Busy or away; with `status` 500 also where the errors speak of a time-out,
            since a bulk that times out for ever must not be sent for ever.
        ConfigurationError: The keyspace, the table, a column or GraphQL itself is not there.
        RejectedError: One of the rows cannot be stored; which one is not said.
    """
    if not answer.ok:
        raise _not_done(answer, table, url)
    document = _document(answer)
    if errors := _errors(document):
        words = "; ".join(errors)
        if is_busy(words):
            raise TransientError(
                f"{address_of(url)} answered with errors: {words[:300]}", status=500
            )
        check_words(words, table)
        raise RejectedError(f"Stargate's GraphQL answered: {words[:300]}")
    data = document.get("data") if isinstance(document, dict) else None
    stored = data.get(mutation) if isinstance(data, dict) else None
    if stored is None:
        raise TransientError(
            f"{address_of(url)} answered 200, but not as GraphQL: {answer.text(100)}"
        )
    if isinstance(stored, list) and any(_is_left_out(row) for row in stored):
        raise RejectedError("Stargate's GraphQL did not apply every row")


def check_custom(answer: Response, url: str) -> None:
    """Judge an answer of STARGATE_BULK_URL, of which only the status is agreed.

    Raises:
        TransientError: Busy or away, or a gateway's page.
        ConfigurationError: The service is not there.
        RejectedError: One of the rows, or all, cannot be stored.
    """
    if answer.ok:
        if answer.body[:200].lstrip().startswith(b"<"):
            raise TransientError(f"{address_of(url)} answered {answer.status} with a page of HTML")
        return
    check_reached(answer, url, "STARGATE_BULK_URL")
    said = f"{address_of(url)} answered {answer.status}: {answer.text()}"
    if answer.status in (404, 405):
        raise ConfigurationError(
            said, remedy="set STARGATE_BULK_URL to a service that takes PUT", status=answer.status
        )
    raise RejectedError(said)


def _not_done(answer: Response, table: StargateTable, url: str) -> Exception:
    check_reached(answer, url, "STARGATE_GRAPHQL_URL")
    words = answer.text(2000)
    if answer.status == 404 and "keyspace" in words.lower():
        return no_table(table, words)
    if answer.status in (404, 405):
        return ConfigurationError(
            f"{address_of(url)} has no GraphQL ({answer.status}: {answer.text(200)})",
            remedy="set STARGATE_GRAPHQL_URL to where it is: Stargate's own is "
            "http://stargate:8080/graphql",
            status=answer.status,
        )
    check_words(words, table)
    return RejectedError(f"Stargate's GraphQL answered {answer.status}: {answer.text()}")


def _document(answer: Response) -> object:
    try:
        document: object = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return None
    return document


def _errors(document: object) -> list[str]:
    """The messages of GraphQL errors; Stargate's authentication errors are plain strings."""
    errors = document.get("errors") if isinstance(document, dict) else None
    if not isinstance(errors, list):
        return []
    return [str(e.get("message", e)) if isinstance(e, dict) else str(e) for e in errors]


def _is_left_out(row: object) -> bool:
    return row is None or (isinstance(row, dict) and row.get("applied") is False)
