"""The source relies on this: Bytewax polls in an epoch only after the one before is stored."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, cluster_main

EPOCHS = 4


class _Part(StatefulSourcePartition[int, int]):
    """Ends an epoch at each poll, and reads at the next poll how much of it is stored."""

    def __init__(self, store: Path, seen: list[tuple[int, int]]) -> None:
        self._store, self._seen = store, seen
        self._epochs = 0

    def next_batch(self) -> list[int]:
        if self._epochs:
            self._seen.append((self._epochs, _stored_epochs(self._store)))
        if self._epochs == EPOCHS:
            raise StopIteration
        return [1]

    def snapshot(self) -> int:
        self._epochs += 1
        return self._epochs


class _Source(FixedPartitionedSource[int, int]):
    def __init__(self, store: Path, seen: list[tuple[int, int]]) -> None:
        self._given = store, seen

    def list_parts(self) -> list[str]:
        return ["a", "b", "c"]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> _Part:
        return _Part(*self._given)


_QUERY = """
import json, pathlib, sqlite3, sys
fronts = "SELECT worker_index, worker_frontier FROM fronts"
files = pathlib.Path(sys.argv[1]).glob("*.sqlite3")
print(json.dumps([row for file in files for row in sqlite3.connect(file).execute(fronts)]))
"""


def _stored_epochs(store: Path) -> int:
    """Return how many epochs of all workers are stored.

    Another process reads it: a second SQLite in this one would release Bytewax's locks.
    """
    done = subprocess.run([sys.executable, "-c", _QUERY, store], capture_output=True, check=True)
    return min((frontier for _, frontier in json.loads(done.stdout)), default=1) - 1


@pytest.mark.parametrize("workers", [1, 3])
def test_bytewax_polls_again_after_the_epoch_before_is_stored(tmp_path, workers):
    init_db_dir(tmp_path, 2)
    seen: list[tuple[int, int]] = []
    flow = Dataflow("epochs")
    numbers = op.input("in", flow, _Source(tmp_path, seen))
    op.output("out", numbers, TestingSink([]))
    cluster_main(
        flow,
        [],
        0,
        epoch_interval=timedelta(0),
        recovery_config=RecoveryConfig(str(tmp_path)),
        worker_count_per_proc=workers,
    )
    assert len(seen) == 3 * EPOCHS
    assert all(stored >= ended for ended, stored in seen)
