"""The fake Stargate's REST v2 API for rows: ids in the path, columns in the body."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import orjson

from gibsey_embedder.fakes.message import Reply, Request, json_reply
from gibsey_embedder.fakes.stargate.table import BadRequestError, InternalError, Table
from gibsey_embedder.fakes.stats import Stats

PAGE_SIZE = 100
NO_SUCH_FIELD = "Server error: null"
"""The 500 for an unknown column in `fields`, according to the source code of 2.0.51."""
SPACE = "".join(map(chr, range(0x21)))
"""The characters that Java's `trim` removes."""


def split_path(path: str) -> list[str]:
    """Split a path into percent-encoded segments and resolve literal `.` and `..`."""
    segments: list[str] = []
    for segment in path.split("/")[1:]:
        if segment == "..":
            del segments[-1:]
        elif segment != ".":
            segments.append(segment)
    return segments


def described(description: str, status: int) -> Reply:
    """Return an error in Stargate's format."""
    return json_reply({"description": description, "code": status}, status)


def not_found() -> Reply:
    """Return the reply for an unknown path."""
    return json_reply({"code": 404, "message": "HTTP 404 Not Found"}, 404)


def page_id_of(segment: str) -> str:
    """Decode and trim the id in a path segment, and remove an outer pair of quotes.

    Raises:
        BadRequestError: The id contains a NUL or is not UTF-8.
        InternalError: The id is a single quote.
    """
    try:
        value = unquote_to_bytes(segment).decode()
    except UnicodeDecodeError as error:
        raise BadRequestError(str(error)) from error
    if "\0" in value:
        raise BadRequestError("Illegal character NUL")
    value = value.strip(SPACE)
    if value == "'":
        raise InternalError("Server error: begin 1, end 0, length 1")
    if value.startswith("'") and value.endswith("'"):
        value = value[1:-1].replace("''", "'")
    if not value:
        raise BadRequestError("Key may not be empty")
    return value


def serve_row(table: Table, request: Request, keys: list[str], stats: Stats) -> Reply:
    """Return the reply to a request for one row; `keys` are the segments after the table."""
    if keys == [""]:
        return described("HTTP 405 Method Not Allowed", 405)
    if len(keys) > 1:
        return described("Number of keys provided is too many", 400)
    try:
        return _row(table, request, page_id_of(keys[0]), stats)
    except BadRequestError as error:
        return described(f"Bad request: {error}", 400)
    except InternalError as error:
        return described(str(error), 500)


def serve_insert(table: Table, request: Request, stats: Stats) -> Reply:
    """Return the reply to a `POST` of a row."""
    if request.method != "POST":
        return described("HTTP 405 Method Not Allowed", 405)
    try:
        values = _columns(request)
        page_id = values.pop("page_id", None)
        if not isinstance(page_id, str) or not page_id:
            raise BadRequestError("Some partition key parts are missing: page_id")
        if values:
            table.check(values)
    except BadRequestError as error:
        return described(f"Bad request: {error}", 400)
    except InternalError as error:
        return described(str(error), 500)
    table.put(page_id, orjson.dumps(values))
    stats.count_done()
    return json_reply({"page_id": page_id}, 201)


def serve_rows(table: Table, request: Request) -> Reply:
    """Return one page of all rows, with the paging state of the next page."""
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
    """Return a table in the format of the schema endpoints."""
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
        stats.count_done()
        raw = request.query.get("raw") == "true"
        return Reply(200, request.body if raw else b'{"data":' + request.body + b"}")
    if request.method == "DELETE":
        table.delete(page_id)
        return Reply(204)
    if request.method == "GET":
        if _has_unknown(table, request):
            raise InternalError(NO_SUCH_FIELD)
        row = table.read(page_id, _fields(request))
        return _rows(request, [] if row is None else [row])
    return described("HTTP 405 Method Not Allowed", 405)


def _columns(request: Request) -> dict[str, object]:
    try:
        columns = orjson.loads(request.body)
    except orjson.JSONDecodeError as error:
        raise BadRequestError(str(error)) from error
    if not isinstance(columns, dict):
        raise BadRequestError("a JSON object is required")
    return columns


def _fields(request: Request) -> list[str]:
    return [name.strip() for name in request.query.get("fields", "").split(",") if name.strip()]


def _has_unknown(table: Table, request: Request) -> bool:
    return not set(_fields(request)) <= {"page_id", *table.columns}


def _rows(request: Request, rows: list[orjson.Fragment], state: str | None = None) -> Reply:
    if request.query.get("raw") == "true":
        return json_reply(rows)
    page_state = {} if state is None else {"pageState": state}
    return json_reply({"count": len(rows), **page_state, "data": rows})
