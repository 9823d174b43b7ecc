"""Runs CQL under a Python that has cassandra-driver: a statement a line, an answer a line."""

import json
import sys

from cassandra.cluster import Cluster


def main() -> None:
    """Reads `[statement, values]` as JSON from stdin; answers `{"rows"}` or `{"error"}`."""
    host, _, port = sys.argv[1].rpartition(":")
    session = Cluster([host], port=int(port)).connect("gibsey")
    print(json.dumps({"rows": []}), flush=True)
    for line in sys.stdin:
        statement, values = json.loads(line)
        try:
            answer: dict[str, object] = {
                "rows": [list(row) for row in session.execute(statement, values)]
            }
        except Exception as error:  # noqa: BLE001 - it is told to the test
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
