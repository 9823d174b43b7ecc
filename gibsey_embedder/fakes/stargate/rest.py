"""Stargate's REST v2 on rows: ids in the path, columns in the body, pages of all rows."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import orjson

from gibsey_embedder.fakes.message import Reply, Request, json_answer
from gibsey_embedder.fakes.stargate.table import BadColumnError, Table, UnhealingError
from gibsey_embedder.fakes.stats import Stats

PAGE_SIZE = 100
NO_SUCH_FIELD = "Server error: null"
"""What `fields` gets that names a column which is none, as 500: by the source of 2.0.51."""
SPACE = "".join(map(chr, range(0x21)))
"""What Java's trim takes away at both ends."""


def split_path(path: str) -> list[str]:
    """A path's segments, still percent-encoded; literal `.` and `..` are folded away."""
    segments: list[str] = []
    for segment in path.split("/")[1:]:
        if segment == "..":
            del segments[-1:]
        elif segment != ".":
            segments.append(segment)
    return segments


def described(description: str, status: int) -> Reply:
    """An error as Stargate words it."""
    return json_answer({"description": description, "code": status}, status)


def not_found() -> Reply:
    """A path that is none."""
    return json_answer({"code": 404, "message": "HTTP 404 Not Found"}, 404)


def page_id_of(segment: str) -> str:
    """The id that a path segment means: decoded, trimmed, an outer pair of quotes taken off.

    Raises:
        BadColumnError: It holds a NUL or is no UTF-8.
        UnhealingError: It is one quote.
    """
    try:
        value = unquote_to_bytes(segment).decode()
    except UnicodeDecodeError as error:
        raise BadColumnError(str(error)) from error
    if "\0" in value:
        raise BadColumnError("Illegal character NUL")
    value = value.strip(SPACE)
    if value == "'":
        raise UnhealingError("Server error: begin 1, end 0, length 1")
    if value.startswith("'") and value.endswith("'"):
        value = value[1:-1].replace("''", "'")
    if not value:
        raise BadColumnError("Key may not be empty")
    return value


def answer_row(table: Table, request: Request, keys: list[str], stats: Stats) -> Reply:
    """Answers about one row; `keys` are the path's segments after the table."""
    if keys == [""]:
        return described("HTTP 405 Method Not Allowed", 405)
    if len(keys) > 1:
        return described("Number of keys provided is too many", 400)
    try:
        return _row(table, request, page_id_of(keys[0]), stats)
    except BadColumnError as error:
        return described(f"Bad request: {error}", 400)
    except UnhealingError as error:
        return described(str(error), 500)


def answer_insert(table: Table, request: Request, stats: Stats) -> Reply:
    """Answers a `POST` of a whole row."""
    if request.method != "POST":
        return described("HTTP 405 Method Not Allowed", 405)
    try:
        values = _columns(request)
        page_id = values.pop("page_id", None)
        if not isinstance(page_id, str) or not page_id:
            raise BadColumnError("Some partition key parts are missing: page_id")
        if values:
            table.check(values)
    except BadColumnError as error:
        return described(f"Bad request: {error}", 400)
    except UnhealingError as error:
        return described(str(error), 500)
    table.put(page_id, orjson.dumps(values))
    stats.carry_out()
    return json_answer({"page_id": page_id}, 201)


def answer_rows(table: Table, request: Request) -> Reply:
    """Answers a page of all rows, with the state for the next one."""
    query = request.query
    if _has_unknown(table, request):
        return described(NO_SUCH_FIELD, 500)
    try:
        size = int(query.get("page-size", PAGE_SIZE))
        ids, state = table.page(size, query.get("page-state"))
    except ValueError:
        return described("Bad request: invalid page-size or page-state", 400)
    rows = [row for page_id in ids if (row := table.read(page_id, _fields(request)))]
    return _rows(request, rows, state)


def describe(keyspace: str, table: Table) -> dict[str, object]:
    """A table as the schema endpoints show it."""
    columns = {"page_id": "text"} | table.columns
    return {
        "name": table.name,
        "keyspace": keyspace,
        "columnDefinitions": [
            {"name": name, "typeDefinition": cql, "static": False} for name, cql in columns.items()
        ],
        "primaryKey": {"partitionKey": ["page_id"], "clusteringKey": []},
        "tableOptions": {"defaultTimeToLive": 0, "clusteringExpression": []},
    }


def _row(table: Table, request: Request, page_id: str, stats: Stats) -> Reply:
    if request.method in ("PUT", "PATCH"):
        table.check(_columns(request))
        table.put(page_id, request.body)
        stats.carry_out()
        raw = request.query.get("raw") == "true"
        return Reply(200, request.body if raw else b'{"data":' + request.body + b"}")
    if request.method == "DELETE":
        table.delete(page_id)
        return Reply(204)
    if request.method == "GET":
        if _has_unknown(table, request):
            raise UnhealingError(NO_SUCH_FIELD)
        row = table.read(page_id, _fields(request))
        return _rows(request, [] if row is None else [row])
    return described("HTTP 405 Method Not Allowed", 405)


def _columns(request: Request) -> dict[str, object]:
    try:
        columns = orjson.loads(request.body)
    except orjson.JSONDecodeError as error:
        raise BadColumnError(str(error)) from error
    if not isinstance(columns, dict):
        raise BadColumnError("a JSON object is wanted")
    return columns


def _fields(request: Request) -> list[str]:
    return [name.strip() for name in request.query.get("fields", "").split(",") if name.strip()]


def _has_unknown(table: Table, request: Request) -> bool:
    return not set(_fields(request)) <= {"page_id", *table.columns}


def _rows(request: Request, rows: list[orjson.Fragment], state: str | None = None) -> Reply:
    if request.query.get("raw") == "true":
        return json_answer(rows)
    page_state = {} if state is None else {"pageState": state}
    return json_answer({"count": len(rows), **page_state, "data": rows})
