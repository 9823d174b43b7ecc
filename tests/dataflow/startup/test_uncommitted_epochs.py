from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from bytewax.recovery import init_db_dir
from bytewax.testing import TestingSource

from dataflow.startup.launch import Launch
from dataflow.startup.recovery import CACHED_PAGES, prepare_store
from dataflow.startup.uncommitted_epochs import delete_uncommitted_snapshots, find_resume_epoch
from tests.dataflow.test_graph import World, pages

ABORT, EOF = TestingSource.ABORT, TestingSource.EOF


def files(store: Path) -> list[Path]:
    return sorted(store.glob("part-*.sqlite3"))


def ask(store: Path, query: str, *values: object) -> list[tuple]:
    """Return the rows of a query from all partitions."""
    found = []
    for file in files(store):
        with closing(sqlite3.connect(file)) as database, database:
            found += database.execute(query, values).fetchall()
    return found


@pytest.fixture
def store(tmp_path: Path) -> Path:
    init_db_dir(tmp_path, 3)
    return tmp_path


def test_a_store_that_was_never_used_has_no_uncommitted_snapshots(store: Path):
    assert find_resume_epoch(files(store)) is None
    assert delete_uncommitted_snapshots(store) == 0


@pytest.mark.parametrize(("end", "workers"), [(EOF, (1, 3, 2)), (ABORT, (1, 1, 1))])
def test_the_resume_epoch_is_the_one_that_bytewax_resumes_with(store: Path, end, workers):
    world = World()
    events = [*pages(30), end(), *pages(30, 30), end(), *pages(30, 60), end(), *pages(3, 90)]
    world.run(events, store)
    for count in workers:
        expected = find_resume_epoch(files(store))
        world.run(events, store, workers=count)
        assert max(ask(store, "SELECT ex_num, resume_epoch FROM exs"))[1] == expected


def test_only_snapshots_of_uncommitted_epochs_are_deleted(store: Path):
    World().run(pages(50), store)
    resume = find_resume_epoch(files(store))
    assert resume is not None
    before = sorted(ask(store, "SELECT * FROM snaps"))
    for number, file in enumerate(files(store)):
        with closing(sqlite3.connect(file)) as database, database:
            database.execute(
                "INSERT INTO snaps (step_id, state_key, snap_epoch, ser_change) VALUES (?,?,?,?)",
                ("pages.window", f"{number:02d}", resume + number, b"of a run that was killed"),
            )
    prepare_store(Launch(recovery_dir=store, process_id=1))
    assert len(ask(store, "SELECT * FROM snaps")) == len(before) + 3  # only process 0 deletes them
    prepare_store(Launch(recovery_dir=store))
    assert sorted(ask(store, "SELECT * FROM snaps")) == before


def test_a_store_with_files_of_different_ages_is_not_changed(store: Path):
    World().run(pages(50), store)
    old = {file: file.read_bytes() for file in files(store)}
    World().run(pages(80), store)
    resume = find_resume_epoch(files(store))
    with closing(sqlite3.connect(files(store)[0])) as database, database:
        database.execute("UPDATE commits SET commit_epoch = ?", (resume,))
    for file in files(store)[1:]:
        file.write_bytes(old[file])
    with closing(sqlite3.connect(files(store)[0])) as database, database:
        database.execute("DELETE FROM fronts")
        database.execute("DELETE FROM exs")
    before = sorted(ask(store, "SELECT * FROM snaps"))
    assert delete_uncommitted_snapshots(store) == 0
    assert sorted(ask(store, "SELECT * FROM snaps")) == before


def test_the_cache_of_each_partition_is_limited(store: Path):
    prepare_store(Launch(recovery_dir=store))
    before = [file.stat().st_mtime_ns for file in files(store)]
    prepare_store(Launch(recovery_dir=store))
    assert [file.stat().st_mtime_ns for file in files(store)] == before
    assert set(ask(store, "PRAGMA cache_size")) == {(CACHED_PAGES,)}  # of any new connection
    World().run(pages(50), store)
    assert set(ask(store, "PRAGMA cache_size")) == {(CACHED_PAGES,)}
