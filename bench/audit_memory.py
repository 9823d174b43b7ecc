"""Measures the memory of an audit of a large store, and the time of a search in a small one.

`python -m bench.audit_memory --rows 1000000` uses a Stargate that generates its rows, runs the
command in a process of its own, and samples its resident set.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench.memory import MB, Sampler
from bench.program import Program
from gibsey_embedder.fakes.message import Reply, Request
from gibsey_embedder.fakes.ngrams import embed_text
from gibsey_embedder.fakes.ollama import Ollama
from gibsey_embedder.fakes.server import FakeServer
from gibsey_embedder.fakes.stargate.server import TOKEN

MISSING_EVERY, ORPHAN_EVERY, BAD_EVERY = 10_000, 10_000, 20_000
GOOD = json.dumps(embed_text("a page")).encode()
BAD = b"[0.5]"


class EndlessStargate(FakeServer):
    """A Stargate that generates the rows of tables of any size.

    Of every 10,000 pages, the first has no vector. Of every 10,000 vectors, the second has no page.
    Of every 20,000 vectors, the third is bad. Ids are digests, so they have no order, like
    Cassandra's tokens.

    Args:
        rows: Number of rows of each table.
    """

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows

    async def reply_to(self, request: Request) -> Reply:
        if "/schemas/" in request.path:
            return Reply(200, b'{"data":{}}')  # without columns, none is reported as missing
        table, _, key = request.path.rpartition("/v2/keyspaces/gibsey/")[2].partition("/")
        if key != "rows":
            row = self._row(table, int(key.partition("-")[2]))
            return Reply(200, b'{"count":1,"data":[' + row + b"]}")
        first = int(request.query.get("page-state", 0))
        end = min(self.rows, first + int(request.query["page-size"]))
        rows = filter(None, (self._row(table, number) for number in range(first, end)))
        state = b'"pageState":"%d",' % end if end < self.rows else b""
        return Reply(200, b'{"count":0,' + state + b'"data":[' + b",".join(rows) + b"]}")

    def _row(self, table: str, number: int) -> bytes:
        digest = hashlib.blake2b(str(number).encode(), digest_size=8).hexdigest()
        page_id = b'{"page_id":"%s-%d",' % (digest.encode(), number)
        if table == "pages":
            return b"" if number % ORPHAN_EVERY == 1 else page_id + b'"body":"a page"}'
        if number % MISSING_EVERY == 0:
            return b""
        vector = BAD if number % BAD_EVERY == 2 else GOOD
        return page_id + b'"vector":' + vector + b"}"


def measure(command: list[str], rows: int) -> tuple[list[int], float, str]:
    """Run a command on a store with this number of rows.

    Returns:
        The resident set in bytes over time, the seconds, and the output.
    """
    with ExitStack() as open_:
        stargate = open_.enter_context(EndlessStargate(rows))
        ollama = open_.enter_context(Ollama())
        settings = {
            "STARGATE_URL": stargate.url,
            "STARGATE_AUTH_TOKEN": TOKEN,
            "EMBED_URL": ollama.embed_url,
            "KAFKA_BROKER": "127.0.0.1:9",
        }
        directory = Path(tempfile.mkdtemp(prefix="gibsey-bench-"))
        program = open_.enter_context(
            Program(["-m", "gibsey_embedder.cli", *command], settings, directory)
        )
        sampler = Sampler(program)
        output = program.wait()
        return sampler.stop(), time.monotonic() - program.started_at, output


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.audit_memory", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--search-rows", type=int, default=10_000)
    given = parser.parse_args()
    samples, seconds, output = measure(["audit", "--json", "--limit", "0"], given.rows)
    tenths = [samples[len(samples) * n // 10] / MB for n in range(1, 10)]
    print(f"audit of {given.rows:,} pages and vectors: {seconds:.0f} s, {output.splitlines()[-1]}")
    print("resident set at each tenth, MB:", ", ".join(f"{mb:.0f}" for mb in tenths))
    print(f"maximum: {max(samples) / MB:.0f} MB")
    _, seconds, output = measure(["search", "a page", "--json"], given.search_rows)
    result = json.loads(output.splitlines()[-1])
    print(f"search in {result['compared']:,} rows: {result['seconds']} s of {seconds:.1f} s")


if __name__ == "__main__":
    main()
