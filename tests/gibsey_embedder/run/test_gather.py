"""A recovery store in several directories is moved together, or not changed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from bytewax.recovery import init_db_dir
from typer.testing import CliRunner, Result

from dataflow.startup.launch import Launch
from dataflow.startup.recovery import RecoveryError, check_recovery_store, lock_store
from gibsey_embedder.cli import app
from gibsey_embedder.run.gather import gather_store

ROOT = Path(__file__).parents[3]
PARTITIONS = 4


@pytest.fixture
def spread(tmp_path: Path) -> tuple[Path, Path]:
    """Directories of two processes with two partitions each."""
    directories = (tmp_path / "0", tmp_path / "1")
    init_db_dir(_made(tmp_path / "whole"), PARTITIONS)
    for number in range(PARTITIONS):
        name = f"part-{number}.sqlite3"
        shutil.move(tmp_path / "whole" / name, _made(directories[number % 2]) / name)
    return directories


def _made(directory: Path) -> Path:
    directory.mkdir(exist_ok=True)
    return directory


def snapshot(file: Path, epoch: int) -> None:
    """Write to a partition what a run writes at the end of an epoch."""
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("DELETE FROM commits")
        database.execute(
            "INSERT INTO commits (part_index, commit_epoch) SELECT part_index, ? FROM parts",
            (epoch,),
        )


def epoch_of(file: Path) -> int:
    with closing(sqlite3.connect(file)) as database:
        (epoch,) = database.execute("SELECT commit_epoch FROM commits").fetchone()
    return int(epoch)


def run(*directories: Path) -> Result:
    return CliRunner().invoke(app, ["gather", *map(str, directories)])


def test_partitions_of_all_directories_are_moved_into_the_first(
    spread: tuple[Path, Path], tmp_path: Path
) -> None:
    for directory in spread:
        for file in directory.glob("part-*"):
            snapshot(file, 7)
    result = run(*spread, _made(tmp_path / "empty"))
    assert result.exit_code == 0
    assert f"{spread[0]} has the whole store: 4 partitions" in result.stdout
    assert [epoch_of(file) for file in sorted(spread[0].glob("part-*.sqlite3"))] == [7] * PARTITIONS
    assert not list(spread[1].glob("part-*"))
    lock = check_recovery_store(Launch(recovery_dir=spread[0]))
    assert lock is not None
    lock.release()


def test_the_write_ahead_log_of_a_killed_process_is_moved_too(spread: tuple[Path, Path]) -> None:
    file = spread[1] / "part-1.sqlite3"
    held = sqlite3.connect(file)  # keeps the log, which the last close would write into the file
    held.execute("PRAGMA journal_mode=WAL").fetchall()
    held.execute("SELECT * FROM parts").fetchall()
    snapshot(file, 9)
    aside = [(path.name, path.read_bytes()) for path in spread[1].glob("part-1*")]
    held.close()
    for name, content in aside:
        (spread[1] / name).write_bytes(content)
    assert (spread[1] / "part-1.sqlite3-wal").stat().st_size
    gather_store(spread[0], [spread[1]])
    assert not list(spread[1].glob("part-*"))
    assert epoch_of(spread[0] / "part-1.sqlite3") == 9


def test_a_complete_store_is_not_changed(spread: tuple[Path, Path]) -> None:
    gather_store(spread[0], [spread[1]])
    assert gather_store(spread[0], [spread[1]]) == []


def test_without_a_store_there_is_nothing_to_do(tmp_path: Path) -> None:
    result = run(_made(tmp_path / "0"), _made(tmp_path / "1"))
    assert result.exit_code == 0
    assert "no recovery store yet" in result.stdout


def test_a_missing_directory_is_an_error_unless_it_is_allowed(
    spread: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for wrong in (tmp_path / "nope", tmp_path / "file"):
        for directories in ([wrong], [*spread, wrong]):
            result = run(*directories)
            assert result.exit_code == 2
            assert str(wrong) in result.stderr
    assert len(list(spread[1].glob("part-*"))) == PARTITIONS // 2
    result = CliRunner().invoke(app, ["gather", "--allow-missing", str(tmp_path / "nope")])
    assert (result.exit_code, "no recovery store yet" in result.stdout) == (0, True)
    assert not (tmp_path / "nope").exists()


def test_a_missing_partition_is_reported_and_nothing_is_moved(spread: tuple[Path, Path]) -> None:
    (spread[1] / "part-3.sqlite3").unlink()
    with pytest.raises(RecoveryError, match=r"part-3\.sqlite3 is in none"):
        gather_store(spread[0], [spread[1]])
    assert (spread[1] / "part-1.sqlite3").exists()


def test_an_old_copy_of_a_partition_is_rejected_and_the_newer_one_reported(
    spread: tuple[Path, Path],
) -> None:
    ours, theirs = spread[0] / "part-1.sqlite3", spread[1] / "part-1.sqlite3"
    shutil.copy(theirs, ours)
    snapshot(ours, 3)
    snapshot(theirs, 8)
    with pytest.raises(RecoveryError, match=rf"same partition.*{theirs} is the newer one"):
        gather_store(spread[0], [spread[1]])
    assert (epoch_of(ours), epoch_of(theirs)) == (3, 8)


def test_another_call_completes_a_killed_move(
    spread: tuple[Path, Path],
) -> None:
    shutil.copy(spread[1] / "part-1.sqlite3", spread[0])
    (spread[0] / ".being-gathered").mkdir()
    (spread[0] / ".being-gathered" / "part-3.sqlite3").write_bytes(b"half")
    gather_store(spread[0], [spread[1]])
    assert not list(spread[1].glob("part-*"))
    assert len(list(spread[0].glob("part-*.sqlite3"))) == PARTITIONS
    assert not (spread[0] / ".being-gathered").exists()


def test_partitions_of_another_store_are_rejected(
    spread: tuple[Path, Path], tmp_path: Path
) -> None:
    init_db_dir(_made(tmp_path / "other"), 2)
    with pytest.raises(RecoveryError, match="different stores"):
        gather_store(spread[0], [spread[1], tmp_path / "other"])


def test_nothing_is_moved_while_a_process_runs(spread: tuple[Path, Path]) -> None:
    lock = lock_store(spread[1], 1)
    command = [sys.executable, "-m", "gibsey_embedder.cli", "gather", *map(str, spread)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    lock.release()
    assert done.returncode == 1
    assert f"{spread[1]} is in use by process {os.getpid()}" in done.stderr
    assert (spread[1] / "part-1.sqlite3").exists()
