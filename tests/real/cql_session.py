"""Sessions with a real Cassandra."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

from gibsey_embedder.fakes.process import stop_process

SCRIPT = Path(__file__).with_name("cql.py")


class Session:
    """A session with Cassandra.

    Args:
        python: A Python with cassandra-driver.
        address: `host:port` of Cassandra.
        keyspace: The keyspace of names that have none; `""` for none.
    """

    def __init__(self, python: str, address: str, keyspace: str = "") -> None:
        self._process = subprocess.Popen(
            [python, str(SCRIPT), address, *([keyspace] if keyspace else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        stop_process(self._process)

    def run(self, statement: str, *values: object) -> list[list[object]]:
        """Run a statement; each `%s` in it is a value.

        Returns:
            The rows.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([statement, values]) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> list[list[object]]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the session with Cassandra has ended; is cassandra-driver there?"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        rows: list[list[object]] = answer["rows"]
        return rows
