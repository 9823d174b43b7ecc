"""The command line is parsed like by `bytewax.run`, and unusable stores are rejected."""

import os
import sqlite3
import string
import subprocess
import sys
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from unittest import mock

import bytewax.run
import pytest
from bytewax.recovery import init_db_dir
from hypothesis import given
from hypothesis import strategies as st

from connectors.core.buckets import BUCKET_KEYS
from dataflow.startup.launch import Launch, LaunchError, parse_launch
from dataflow.startup.recovery import RecoveryError, check_recovery_store

RUN = str(Path(bytewax.run.__file__))
HOSTS = ["a:1", "b:2", "a:3", "[::1]:4", "localhost:5"]

numbers = st.integers(1, 9).map(str)
paths = st.text(string.ascii_letters + "./", min_size=1, max_size=8)
addresses = st.lists(st.sampled_from(HOSTS), min_size=1, max_size=5).map(";".join)

OPTIONS = {
    ("-w", "--workers-per-process", "BYTEWAX_WORKERS_PER_PROCESS"): numbers,
    ("-i", "--process-id", "BYTEWAX_PROCESS_ID"): st.integers(0, 4).map(str),
    ("-a", "--addresses", "BYTEWAX_ADDRESSES"): addresses,
    ("-r", "--recovery-directory", "BYTEWAX_RECOVERY_DIRECTORY"): paths,
    ("-s", "--snapshot-interval", "BYTEWAX_SNAPSHOT_INTERVAL"): st.integers(0, 99).map(str),
    ("-b", "--backup-interval", "BYTEWAX_RECOVERY_BACKUP_INTERVAL"): numbers,
}


@st.composite
def starts(draw):
    """Draw a command line and an environment with the same kinds of options."""
    argv, environ = [], {}
    for (short, long, variable), values in OPTIONS.items():
        spelling = draw(
            st.sampled_from(["", "", short, short + "joined", long, long + "=", long[:-3]])
        )
        if spelling.endswith("joined"):
            argv.append([short + draw(values)])
        elif spelling.endswith("="):
            argv.append([spelling + draw(values)])
        elif spelling:
            argv.append([spelling, draw(values)])
        if draw(st.booleans()):
            environ[variable] = draw(values)
    argv.append(["dataflow.main"])
    options = draw(st.permutations(argv))
    if draw(st.booleans()):
        environ["BYTEWAX_STATEFULSET_NAME"] = "embed"
        environ["BYTEWAX_POD_NAME"] = f"embed-{draw(st.integers(0, 3))}"
    return [RUN, *(argument for option in options for argument in option)], environ


@contextmanager
def started_with(argv, environ):
    with mock.patch.object(sys, "argv", argv), mock.patch.dict(os.environ, environ, clear=True):
        yield


def by_bytewax(argv, environ):
    """Return the result of `bytewax.run` itself; None if it rejects the arguments."""
    with started_with(argv, environ):
        try:
            args = bytewax.run._parse_args()
        except SystemExit:
            return None
    interval = args.snapshot_interval
    if args.recovery_directory is None:
        interval = interval or timedelta(seconds=10)
    return Launch(
        workers=args.workers_per_process or 1,
        process_id=args.process_id or 0,
        addresses=tuple(args.addresses.split(";")) if args.addresses is not None else (),
        recovery_dir=args.recovery_directory,
        snapshot_seconds=int(interval.total_seconds()),
        backup_seconds=int(args.backup_interval.total_seconds()) if args.backup_interval else 0,
    )


@given(starts())
def test_the_command_line_is_parsed_like_bytewax_does(start):
    argv, environ = start
    expected = by_bytewax(argv, environ)
    if expected is None or not 0 <= expected.process_id < expected.process_count:
        with pytest.raises(LaunchError):
            parse_launch(argv, environ)
    else:
        assert parse_launch(argv, environ) == expected


@pytest.mark.parametrize("text", ["a:1\nb:2\n", "\n a:1 \n\n b:2", "a:1;b:2\n"])
def test_the_host_file_contains_the_addresses(tmp_path, text):
    (tmp_path / "hosts").write_text(text)
    argv = [RUN, "dataflow.main", "-i", "1"]
    environ = {"BYTEWAX_HOSTFILE_PATH": str(tmp_path / "hosts")}
    started = parse_launch(argv, environ)
    assert started == by_bytewax(argv, environ)
    assert started.addresses == ("a:1", "b:2")


def test_the_pod_name_contains_the_process_id():
    environ = {
        "BYTEWAX_POD_NAME": "gibsey-embedder-2",
        "BYTEWAX_STATEFULSET_NAME": "gibsey-embedder",
        "BYTEWAX_ADDRESSES": "a:1;b:1;c:1",
    }
    assert parse_launch([RUN, "dataflow.main"], environ).process_id == 2


def test_a_pod_name_without_a_number_is_rejected():
    environ = {"BYTEWAX_POD_NAME": "x", "BYTEWAX_STATEFULSET_NAME": "y"}
    with pytest.raises(LaunchError, match="BYTEWAX_POD_NAME"):
        parse_launch([RUN, "dataflow.main"], environ)


def test_another_program_counts_as_one_process_with_one_worker():
    assert parse_launch(["/usr/bin/pytest", "-n", "2"], {"BYTEWAX_PROCESS_ID": "3"}) == Launch()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["-i", "2", "-a", "a:1;b:1"], "0 to 1"),
        (["-i", "0", "-a", "a:1;"], "empty address"),
        (["-w", "0"], "set it to 1 or more"),
        (["-r", "x"], "-s SECONDS"),
        (["-i", "0"], "-a ADDRESSES"),
    ],
)
def test_arguments_with_which_bytewax_would_wait_for_ever_are_rejected(arguments, text):
    with pytest.raises(LaunchError, match=text):
        parse_launch([RUN, "dataflow.main", *arguments], {})


@pytest.mark.parametrize(
    ("hosts", "offsets"),
    [
        ("a:1;b:1;c:1", [0, 0, 0]),
        ("localhost:1;localhost:2;localhost:3", [0, 1, 2]),
        ("a:1;b:1;A:2;[::1]:1;b:2;[::1]:2", [0, 0, 1, 0, 1, 1]),
    ],
)
def test_processes_on_one_host_have_different_status_ports(hosts, offsets):
    found = [
        Launch(process_id=number, addresses=tuple(hosts.split(";"))).status_port_offset
        for number in range(len(offsets))
    ]
    assert found == offsets
    assert Launch().status_port_offset == 0


@pytest.mark.parametrize(
    ("started", "own"),
    [
        (Launch(), False),
        (Launch(workers=2), True),
        (
            Launch(addresses=("a:1",)),
            True,
        ),  # Bytewax then runs its single worker as part of a cluster
    ],
)
def test_a_single_worker_is_the_main_thread(started, own):
    assert started.has_worker_threads is own


def store(directory, count=4):
    directory.mkdir(exist_ok=True)
    init_db_dir(directory, count)
    return directory


def test_one_process_needs_no_store():
    assert check_recovery_store(Launch(workers=4)) is None


def test_several_processes_without_a_store_are_rejected():
    with pytest.raises(RecoveryError, match=r"2 processes need a recovery store.*-r DIR"):
        check_recovery_store(Launch(addresses=("a:1", "b:1")))


def test_a_store_that_does_not_exist_is_rejected_with_the_command_that_creates_it(tmp_path):
    missing = tmp_path / "missing"
    with pytest.raises(RecoveryError, match=f"{missing}.*gibsey-embedder run"):
        check_recovery_store(Launch(recovery_dir=missing))
    assert not missing.exists()


def test_an_empty_store_is_rejected_and_stays_unlocked(tmp_path):
    with pytest.raises(RecoveryError, match=r"is empty.*bytewax\.recovery"):
        check_recovery_store(Launch(recovery_dir=tmp_path))
    store(tmp_path)
    lock = check_recovery_store(Launch(recovery_dir=tmp_path))
    assert lock is not None
    lock.release()


def test_a_missing_partition_is_reported(tmp_path):
    (store(tmp_path) / "part-2.sqlite3").unlink()
    with pytest.raises(RecoveryError, match=r"lacks part-2\.sqlite3"):
        check_recovery_store(Launch(recovery_dir=tmp_path))


def write(file, step, key):
    with closing(sqlite3.connect(file)) as database, database:
        query = "INSERT INTO snaps (step_id, state_key, snap_epoch) VALUES (?, ?, 1)"
        database.execute(query, (step, key))


@pytest.mark.parametrize("step", ["window", "dead_letters"])
def test_a_store_with_other_buckets_is_rejected_with_a_remedy(tmp_path, step):
    write(store(tmp_path) / "part-1.sqlite3", "pages.kafka", "slot-01")
    write(tmp_path / "part-2.sqlite3", "pages.window", BUCKET_KEYS[3])
    check_recovery_store(Launch(recovery_dir=tmp_path)).release()
    write(tmp_path / "part-3.sqlite3", f"pages.{step}", "03")
    with pytest.raises(RecoveryError, match=r"has a bucket 03.*; let the old version finish first"):
        check_recovery_store(Launch(recovery_dir=tmp_path))


def test_a_partition_with_unreadable_snapshots_is_reported(tmp_path):
    with closing(sqlite3.connect(store(tmp_path) / "part-1.sqlite3")) as database, database:
        database.execute("DROP TABLE snaps")
    with pytest.raises(RecoveryError, match=r"part-1\.sqlite3 is not a recovery partition"):
        check_recovery_store(Launch(recovery_dir=tmp_path))


def test_a_store_with_unreadable_epochs_is_reported(tmp_path):
    with closing(sqlite3.connect(store(tmp_path) / "part-1.sqlite3")) as database, database:
        database.execute("DROP TABLE fronts")
    with pytest.raises(RecoveryError, match="cannot be opened: no such table: fronts"):
        check_recovery_store(Launch(recovery_dir=tmp_path))


def test_partitions_of_different_stores_are_rejected(tmp_path):
    store(tmp_path / "other", 3)
    (tmp_path / "other" / "part-1.sqlite3").replace(store(tmp_path) / "part-1.sqlite3")
    with pytest.raises(RecoveryError, match="different stores"):
        check_recovery_store(Launch(recovery_dir=tmp_path))


def test_a_file_that_is_not_a_partition_is_reported(tmp_path):
    (store(tmp_path) / "part-3.sqlite3").write_bytes(b"not a database" * 100)
    with pytest.raises(RecoveryError, match=r"part-3\.sqlite3 is not a recovery partition"):
        check_recovery_store(Launch(recovery_dir=tmp_path))


def test_a_process_of_a_cluster_may_have_no_partitions(tmp_path):
    lock = check_recovery_store(
        Launch(process_id=1, addresses=("a:1", "b:1"), recovery_dir=tmp_path)
    )
    assert lock is not None
    assert lock.path.name == "worker-1.lock"
    lock.release()


@pytest.mark.parametrize("process_id", [0, 1])
def test_a_process_of_a_cluster_with_part_of_the_store_is_rejected(tmp_path, process_id):
    (store(tmp_path) / "part-2.sqlite3").unlink()
    started = Launch(process_id=process_id, addresses=("a:1", "b:1"), recovery_dir=tmp_path)
    with pytest.raises(RecoveryError, match=r"lacks part-2\.sqlite3.*gibsey-embedder gather"):
        check_recovery_store(started)


def test_a_directory_that_is_not_writable_is_rejected(tmp_path):
    (store(tmp_path) / "worker-0.lock").mkdir()
    with pytest.raises(RecoveryError, match="cannot be written"):
        check_recovery_store(Launch(recovery_dir=tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_directory_is_rejected(tmp_path):
    store(tmp_path).chmod(0o500)
    with pytest.raises(RecoveryError, match="cannot be written: Permission denied"):
        check_recovery_store(Launch(recovery_dir=tmp_path))


HOLDER = """
import sys
from pathlib import Path
from dataflow.startup.launch import Launch
from dataflow.startup.recovery import check_recovery_store
check_recovery_store(Launch(recovery_dir=Path(sys.argv[1])))
import gc; gc.collect()
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def another_worker_on(directory):
    command = [sys.executable, "-c", HOLDER, str(directory)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        yield holder
        holder.kill()


def test_a_second_worker_on_the_same_store_is_rejected_with_the_process_id_of_the_first(tmp_path):
    store(tmp_path)
    with another_worker_on(tmp_path) as holder:
        with pytest.raises(RecoveryError, match=f"in use by process {holder.pid} ") as raised:
            check_recovery_store(Launch(recovery_dir=tmp_path))
        assert "\n" not in str(raised.value)


def test_a_killed_worker_releases_the_store(tmp_path):
    store(tmp_path)
    with another_worker_on(tmp_path) as holder:
        holder.kill()
        holder.wait()
    lock = check_recovery_store(Launch(recovery_dir=tmp_path))
    assert lock is not None
    lock.release()


def test_a_process_may_check_its_store_twice(tmp_path):
    started = Launch(recovery_dir=store(tmp_path))
    lock = check_recovery_store(started)
    assert lock is not None
    assert check_recovery_store(started) is lock
    lock.release()
