"""What Stargate tells of a table: its columns and its key."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from connectors.stores.stargate.errors import StargateTable, check_reached, check_words, no_table
from connectors.stores.stargate.rest import StargateSession

Schema = Mapping[str, object]


async def describe(session: StargateSession, table: StargateTable) -> Schema:
    """What Stargate tells of a table; empty where it tells nothing that can be read.

    Raises:
        TransientError: It does not answer.
        ConfigurationError: Token, keyspace or table are wrong.
    """
    url = f"{table.url}/v2/schemas/keyspaces/{table.keyspace}/tables/{table.table}"
    answer = await session.send("GET", url)
    check_reached(answer, table.url, "STARGATE_URL")
    if not answer.ok:
        check_words(answer.text(2000), table)
        raise no_table(table, answer.text(2000))
    try:
        parsed = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        parsed = None
    found = parsed.get("data", parsed) if isinstance(parsed, dict) else None
    return found if isinstance(found, dict) else {}


def columns_of(described: Schema) -> dict[str, str]:
    """The types of a table's columns, by name."""
    given = described.get("columnDefinitions")
    rows = [row for row in given if isinstance(row, dict)] if isinstance(given, list) else []
    return {str(row.get("name")): _type(row.get("typeDefinition")) for row in rows}


def _type(shown: object) -> str:
    return str(shown).replace(" ", "").lower()
