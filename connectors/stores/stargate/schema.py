"""A table's columns and key, as Stargate describes them, and whether vectors fit into them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from connectors.core.findings import Finding, bad, good, warning
from connectors.stores.stargate.errors import check_available, check_schema_error, missing_table
from connectors.stores.stargate.session import StargateSession
from connectors.stores.stargate.table import StargateTable

VECTOR_TYPES = ("frozen<list<float>>", "list<float>")
TEXT_TYPES = ("text", "varchar")

Schema = Mapping[str, object]


async def read_schema(session: StargateSession, table: StargateTable) -> Schema:
    """Read what Stargate knows about a table; empty if the response cannot be parsed.

    Raises:
        TransientError: Stargate is unavailable.
        ConfigurationError: The token, the keyspace or the table is wrong.
    """
    response = await session.send("GET", table.schema_url)
    check_available(response, table.url, "STARGATE_URL")
    if not response.ok:
        check_schema_error(response.text(2000), table)
        raise missing_table(table, response.text(2000))
    try:
        document = orjson.loads(response.body)
    except orjson.JSONDecodeError:
        document = None
    schema = document.get("data", document) if isinstance(document, dict) else None
    return schema if isinstance(schema, dict) else {}


def column_types(schema: Schema) -> dict[str, str]:
    """Return the CQL types of a table's columns, by name."""
    definitions = schema.get("columnDefinitions")
    rows = definitions if isinstance(definitions, list) else []
    return {
        str(row.get("name")): str(row.get("typeDefinition")).replace(" ", "").lower()
        for row in rows
        if isinstance(row, dict)
    }


def check_schema(table: StargateTable, schema: Schema) -> list[Finding]:
    """Check whether the table of vectors can store them."""
    types = column_types(schema)
    if not types:
        remedy = f"make sure that the table matches: {table.cql}"
        return [warning("stargate table", f"Stargate lists no columns of {table.name}", remedy)]
    wanted: dict[str, Sequence[str]] = {"page_id": TEXT_TYPES, "vector": VECTOR_TYPES}
    if table.model_column:
        wanted[table.model_column] = TEXT_TYPES
    problems = [
        _column_problem(table, column, types.get(column), allowed)
        for column, allowed in wanted.items()
    ]
    findings = [found for found in (*problems, _key_problem(table, schema)) if found is not None]
    summary = f"{table.name} has page_id {types.get('page_id')}, vector {types.get('vector')}"
    return findings or [good("stargate table", summary)]


def _column_problem(
    table: StargateTable, column: str, cql_type: str | None, allowed: Sequence[str]
) -> Finding | None:
    create_again = f"drop the table and create it again: {table.cql}"
    if cql_type is None:
        found = f"the table {table.name} has no column {column}"
        add = f"run in cqlsh: {table.cql_of_column(column)}"
        return bad("stargate table", found, create_again if column == "page_id" else add)
    if cql_type in allowed:
        return None
    found = f"the column {column} of {table.name} is {cql_type} instead of {allowed[0]}"
    return bad("stargate table", found, create_again)


def _key_problem(table: StargateTable, schema: Schema) -> Finding | None:
    key = schema.get("primaryKey")
    if not isinstance(key, dict):
        return None
    columns = [*(key.get("partitionKey") or []), *(key.get("clusteringKey") or [])]
    if columns == ["page_id"]:
        return None
    found = f"the key of {table.name} is {', '.join(map(str, columns))} instead of page_id"
    return bad("stargate table", found, f"drop the table and create it again: {table.cql}")
