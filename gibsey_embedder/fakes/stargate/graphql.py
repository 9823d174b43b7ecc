"""The fake Stargate's GraphQL API: the `bulkInsert` mutation of a table."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping

import orjson

from gibsey_embedder.fakes.message import Reply, Request, json_reply
from gibsey_embedder.fakes.stargate.table import BadRequestError, InternalError, Table

BULK_INSERT = re.compile(r"\bbulkInsert(\w+)\s*\(\s*values\s*:\s*\$(\w+)")
MAX_KEY_BYTES = 65_535


def serve_graphql(tables: Mapping[str, Table], request: Request, order: random.Random) -> Reply:
    """Execute a bulk insert.

    A wrong column, type or null rejects the whole bulk. An empty or too long id rejects its own
    row. In both cases the reply is 200 with `errors` that name no index. If two rows have the same
    id, either of them wins.

    Args:
        tables: The keyspace's tables.
        request: `{"query", "variables"}`.
        order: Decides which of two rows with the same id wins.
    """
    try:
        body = orjson.loads(request.body)
        query, variables = str(body["query"]), body.get("variables") or {}
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return json_reply({"errors": ["Bad request"]}, 400)
    call = BULK_INSERT.search(query)
    table = tables.get(call[1]) if call else None
    if call is None or table is None:
        field = call[0].partition("(")[0] if call else query[:40]
        return _errors(f"Validation error (FieldUndefined) : Field '{field}' is undefined")
    rows = variables.get(call[2])
    if not isinstance(rows, list):
        return _errors(f"Variable '{call[2]}' has an invalid value")
    if (error := _input_error(table, call[2], rows)) is not None:
        return _errors(error)
    return _store(table, f"bulkInsert{table.name}", rows, order)


def _input_error(table: Table, variable: str, rows: list[object]) -> str | None:
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("page_id"), str):
            return f"Variable '{variable}' has an invalid value: page_id"
        values = {name: value for name, value in row.items() if name != "page_id"}
        if unknown := next((name for name in values if name not in table.columns), None):
            return (
                f"The variables input contains a field name '{unknown}' that is not defined "
                f"for input object type '{table.name}Input' "
            )
        try:
            table.check(values)
        except (BadRequestError, InternalError) as error:
            return f"Variable '{variable}' has an invalid value: {error}"
    return None


def _store(table: Table, field: str, rows: list[dict[str, object]], order: random.Random) -> Reply:
    good = [row for row in rows if 0 < len(str(row["page_id"]).encode()) <= MAX_KEY_BYTES]
    shuffled = order.sample(good, len(good)) if len(_ids(good)) < len(good) else good
    for row in shuffled:
        values = {name: value for name, value in row.items() if name != "page_id"}
        table.put(str(row["page_id"]), orjson.dumps(values))
    if len(good) < len(rows):
        return _errors(f"Exception while fetching data (/{field}) : Key may not be empty", field)
    done = [{"applied": True, "value": {"page_id": row["page_id"]}} for row in rows]
    return json_reply({"data": {field: done}})


def _ids(rows: list[dict[str, object]]) -> set[object]:
    return {row["page_id"] for row in rows}


def _errors(message: str, field: str | None = None) -> Reply:
    data = {"data": {field: None}} if field else {}
    return json_reply({"errors": [{"message": message}], **data})
