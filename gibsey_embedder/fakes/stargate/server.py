"""A fake Stargate with a custom bulk endpoint: REST v2, GraphQL, tokens and readiness.

The real Stargate uses several ports; the fake uses one.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import orjson

from gibsey_embedder.fakes.message import Reply, Request, json_reply, text_reply
from gibsey_embedder.fakes.server import FakeServer, wait_until_terminated
from gibsey_embedder.fakes.stargate.auth import IssuedTokens
from gibsey_embedder.fakes.stargate.graphql import serve_graphql
from gibsey_embedder.fakes.stargate.rest import (
    describe,
    described,
    not_found,
    serve_insert,
    serve_row,
    serve_rows,
    split_path,
)
from gibsey_embedder.fakes.stargate.table import BadRequestError, InternalError, Table

TOKEN = "demo-token"  # noqa: S105 - the demo's own
TABLES: Mapping[str, Mapping[str, str]] = {
    "page_vectors": {"vector": "frozen<list<float>>"},
    "pages": {"body": "text"},
}
MAX_TARGET_BYTES = 65_535


class Stargate(FakeServer):
    """A Stargate on a real socket.

    Args:
        token: A token that does not expire; None accepts only issued tokens.
        users: Passwords by user name, for `POST /v1/auth`.
        keyspace: The only keyspace.
        tables: Column types by table; every table has the key `page_id text`.
        history: Number of writes that each table records.
        rest_on_wrong_port: Whether `/v2` replies like the GraphQL port.
        row_s: Seconds per row of a bulk, in addition to `delay_s`.
        delay_s: Seconds per request.
        workers: Maximum number of requests served at once; 0 means no limit.
        host: Address to listen on.
        port: Port; 0 chooses a free one.

    Attributes:
        tables: The tables, with their rows and counters.
        tokens: The valid tokens; `tokens.expire()` invalidates all.
    """

    CONTROLS: ClassVar[frozenset[str]] = frozenset({"delay_s", "row_s", "rest_on_wrong_port"})

    def __init__(
        self,
        *,
        token: str | None = TOKEN,
        users: Mapping[str, str] | None = None,
        keyspace: str = "gibsey",
        tables: Mapping[str, Mapping[str, str]] = TABLES,
        history: int = 0,
        rest_on_wrong_port: bool = False,
        row_s: float = 0.0,
        delay_s: float = 0.0,
        workers: int = 0,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        super().__init__(host=host, port=port, delay_s=delay_s, workers=workers)
        self.tokens = IssuedTokens(token, users or {"cassandra": "cassandra"})
        self.keyspace, self.history = keyspace, history
        self.rest_on_wrong_port, self.row_s = rest_on_wrong_port, row_s
        self.tables = {name: Table(name, columns, history) for name, columns in tables.items()}
        self._random = random.Random(0)

    @property
    def vectors(self) -> Table:
        """The table `page_vectors`."""
        return self.tables["page_vectors"]

    @property
    def pages(self) -> Table:
        """The table `pages`."""
        return self.tables["pages"]

    @property
    def auth_url(self) -> str:
        """The value for STARGATE_AUTH_URL."""
        return f"{self.url}/v1/auth"

    @property
    def graphql_url(self) -> str:
        """The value for STARGATE_GRAPHQL_URL."""
        return f"{self.url}/graphql"

    @property
    def bulk_url(self) -> str:
        """The value for STARGATE_BULK_URL."""
        return f"{self.url}/bulk"

    def drop_table(self, name: str) -> Table:
        """Remove a table and return it, so that `add_table` can add it again."""
        return self.tables.pop(name)

    def add_table(self, table: Table) -> None:
        """Add a table."""
        self.tables[table.name] = table

    def details(self) -> dict[str, object]:
        """Return the number of rows and writes of each table."""
        return {
            "rows": {name: len(table.rows) for name, table in self.tables.items()},
            "writes": {name: table.writes.total() for name, table in self.tables.items()},
        }

    async def reply_to(self, request: Request) -> Reply:
        """Return the reply to one request."""
        if len(request.target) > MAX_TARGET_BYTES:
            return Reply(414)
        segments = split_path(request.path)
        if segments[:1] == ["v2"]:
            return self._rest(request, segments[1:])
        if segments[:1] == ["graphql"]:
            return self._graphql(request, segments[1:])
        if segments == ["v1", "auth"]:
            return self._auth(request)
        if segments == ["checker", "readiness"]:
            return text_reply("READY")
        if segments == ["bulk"]:
            return self._bulk(request)
        return not_found()

    def _rest(self, request: Request, segments: list[str]) -> Reply:
        if self.rest_on_wrong_port:
            return not_found()
        if (error := self._token_error(request)) is not None:
            description = f"Role unauthorized for operation: {error}"
            return json_reply({"description": description, "code": 401}, 401)
        if segments[:2] == ["schemas", "keyspaces"]:
            return self._schema(segments[2:])
        if len(segments) < 3 or segments[0] != "keyspaces":
            return not_found()
        if segments[1] != self.keyspace:
            return described(f"Keyspace '{segments[1]}' not found", 404)
        table = self.tables.get(segments[2])
        if table is None:
            return described(f"Table '{segments[2]}' not found", 404)
        if len(segments) == 3:
            return serve_insert(table, request, self.stats)
        if segments[3:] == ["rows"] and request.method == "GET":
            return serve_rows(table, request)
        return serve_row(table, request, segments[3:], self.stats)

    def _schema(self, segments: list[str]) -> Reply:
        if segments[:1] != [self.keyspace]:
            return described(f"Keyspace '{''.join(segments[:1])}' not found", 404)
        if len(segments) == 1:
            return json_reply({"data": {"name": self.keyspace}})
        if segments[1] != "tables":
            return not_found()
        if len(segments) == 2:
            return json_reply({"data": [describe(self.keyspace, t) for t in self.tables.values()]})
        table = self.tables.get(segments[2])
        if table is None:
            return described(f"Table '{segments[2]}' not found", 404)
        return json_reply({"data": describe(self.keyspace, table)})

    def _graphql(self, request: Request, segments: list[str]) -> Reply:
        if self._token_error(request) is not None:
            return json_reply({"errors": ["Authentication required"]}, 401)
        if segments != [self.keyspace]:
            return not_found()
        reply = serve_graphql(self.tables, request, self._random)
        self.stats.count_done(rows := reply.body.count(b'"applied":true'))
        return replace(reply, takes_s=self.row_s * rows)

    def _bulk(self, request: Request) -> Reply:
        if request.method != "PUT":
            return json_reply({"error": "only PUT is allowed"}, 405)
        if (error := self._token_error(request)) is not None:
            return json_reply({"error": error}, 401)
        try:
            rows = [(str(row.pop("page_id")), row) for row in orjson.loads(request.body)]
            for _, values in rows:
                self.vectors.check(values)
        except (
            ValueError,
            KeyError,
            AttributeError,
            TypeError,
            BadRequestError,
            InternalError,
        ) as error:
            return json_reply({"error": str(error)}, 400)
        for page_id, values in rows:
            self.vectors.put(page_id, orjson.dumps(values))
        self.stats.count_done(len(rows))
        return Reply(204, takes_s=self.row_s * len(rows))

    def _token_error(self, request: Request) -> str | None:
        return self.tokens.error(request.headers.get("X-Cassandra-Token"))

    def _auth(self, request: Request) -> Reply:
        try:
            body = orjson.loads(request.body)
            user, password = body["username"], body["password"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return described("Must provide a body to the request", 400)
        if (token := self.tokens.issue(user, password)) is None:
            reason = f"Provided username {user} and/or password are incorrect"
            return json_reply({"description": f"Failed to create token: {reason}"}, 401)
        return json_reply({"authToken": token}, 201)


def main() -> None:
    """Run a Stargate as a process of its own."""
    parser = argparse.ArgumentParser(
        prog="python -m gibsey_embedder.fakes.stargate.server", description=__doc__
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay-s", type=float, default=0.0, help="seconds per request")
    parser.add_argument("--row-s", type=float, default=0.0, help="seconds per row of a bulk")
    parser.add_argument("--workers", type=int, default=0, help="requests at once; 0: no limit")
    parser.add_argument("--token", default=TOKEN, help="a token that does not expire")
    parser.add_argument("--history", type=int, default=0, help="number of writes to record")
    wait_until_terminated(Stargate(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
