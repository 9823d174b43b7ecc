"""cql.py HOST:PORT [KEYSPACE]: runs CQL under a Python that has cassandra-driver.

It reads a statement from each line, and writes an answer to each.
"""

import json
import sys

from cassandra.cluster import Cluster

START_S = 30.0
"""Right after its start, Cassandra takes longer than the driver waits by itself."""
ANSWER_S = 30.0


def main() -> None:
    """Reads `[statement, values]` as JSON from stdin; answers `{"rows"}` or `{"error"}`."""
    host, _, port = sys.argv[1].rpartition(":")
    cluster = Cluster([host], port=int(port), connect_timeout=START_S)
    session = cluster.connect(*sys.argv[2:])
    session.default_timeout = ANSWER_S
    print(json.dumps({"rows": []}), flush=True)
    for line in sys.stdin:
        statement, values = json.loads(line)
        try:
            answer: dict[str, object] = {
                "rows": [list(row) for row in session.execute(statement, values)]
            }
        except Exception as error:  # noqa: BLE001 - the test raises it
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
