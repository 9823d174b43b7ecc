"""Every step with a snapshot has a layout that is checked before the start."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from bytewax.recovery import init_db_dir

from dataflow.graph import DEAD_LETTERS_STEP, FLOW_ID, SOURCE_STEP
from dataflow.startup.snapshot_layouts import LAYOUTS
from tests.dataflow.test_graph import World, pages


def test_every_step_with_a_snapshot_has_a_layout(tmp_path: Path) -> None:
    init_db_dir(tmp_path, 1)
    World().run(pages(20), tmp_path)
    with closing(sqlite3.connect(tmp_path / "part-0.sqlite3")) as database:
        found = database.execute("SELECT DISTINCT step_id FROM snaps WHERE ser_change IS NOT NULL")
        steps = {step_id.removeprefix(f"{FLOW_ID}.") for (step_id,) in found}
    assert steps - {DEAD_LETTERS_STEP} == set(LAYOUTS)
    assert SOURCE_STEP in steps
