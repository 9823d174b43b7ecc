"""The command line: help, exit codes, and the store and process of `run`."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import bytewax.run
import pytest
import structlog
from typer.testing import CliRunner

from dataflow.config.settings import SECRETS, Settings
from dataflow.startup.launch import Launch, LaunchError, parse_launch
from dataflow.startup.recovery import (
    RecoveryError,
    check_recovery_store,
    lock_store,
    read_partition,
)
from gibsey_embedder import cli
from gibsey_embedder.run.recovery_store import create_store
from gibsey_embedder.run.run import FLOW, bytewax_arguments, wait_for_own_name

ROOT = Path(__file__).parents[2]

NO_OPTIONS = dict.fromkeys(
    ("workers", "recovery_dir", "snapshot_seconds", "process_id", "addresses")
)


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    for name in os.environ:
        if name in Settings.names() or name.startswith("BYTEWAX_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    handlers = logging.getLogger().handlers[:]
    yield
    structlog.reset_defaults()
    logging.getLogger().handlers[:] = handlers
    logging.captureWarnings(False)


def command(*arguments, **variables):
    """Run `gibsey-embedder` as a process of its own."""
    inherited = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, "-m", "gibsey_embedder.cli", *arguments],
        env=inherited | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class Started(Exception):
    """The process that `run` would have become."""


@pytest.fixture
def started(monkeypatch):
    """Run `gibsey-embedder run` here, and return the command that it would execute."""

    def execv(_path, argv):
        raise Started(argv)

    def run(*arguments):
        before = os.umask(0o022)
        try:
            result = CliRunner().invoke(cli.app, ["run", *arguments])
        finally:
            os.umask(before)
        if not isinstance(result.exception, Started):
            raise result.exception or AssertionError(result.output)
        return result.exception.args[0]

    monkeypatch.setattr(os, "execv", execv)
    return run


def partitions(directory):
    return sorted(path.name for path in directory.glob("*.sqlite3"))


@pytest.mark.parametrize("name", [None, *cli.COMMANDS])
def test_each_command_explains_itself(name):
    result = CliRunner().invoke(cli.app, [name, "--help"] if name else ["--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


@pytest.mark.parametrize("name", [None, *cli.COMMANDS])
def test_help_contains_no_python_types(name):
    help_text = CliRunner().invoke(cli.app, [name, "--help"] if name else ["--help"]).output
    for of_python in ("<", "{", "range", "Path", "None"):
        assert of_python not in help_text


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ("run -w 0", "0 is too small; it must be 1 or more"),
        ("run -s x", "x is not a whole number"),
        ("replay --limit 10001", "10001 is too large; it must be 10000 or less"),
        ("audit --skew nan", "nan is not a number of seconds"),
        ("audit --skew -1", "-1.0 is too small; it must be 0 or more"),
    ],
)
def test_a_wrong_number_is_rejected_with_a_sentence(arguments, what):
    result = CliRunner().invoke(cli.app, arguments.split(), env={"COLUMNS": "100"})
    assert result.exit_code == 2
    assert what in result.output


def test_only_commands_that_work_are_shown():
    for name, command in cli.COMMANDS.items():
        assert command.__module__.startswith("gibsey_embedder."), name


def test_wrong_usage_exits_2():
    assert CliRunner().invoke(cli.app, ["run", "--workers", "0"]).exit_code == 2
    assert CliRunner().invoke(cli.app, ["fly"]).exit_code == 2


def test_the_version_is_printed():
    assert CliRunner().invoke(cli.app, ["--version"]).exit_code == 0


def test_wrong_settings_exit_2_with_their_list_and_no_traceback(tmp_path):
    ended = command("run", WORKERS="x", RAG_TIMEOUT="0", STARGATE_AUTH_TOKEN="s3cret-token")
    assert ended.returncode == 2
    assert ended.stderr.startswith("2 settings are wrong:\n  RAG_TIMEOUT")
    assert "Traceback" not in ended.stderr
    assert "s3cret" not in ended.stderr + ended.stdout
    assert not (tmp_path / "recovery").exists()


def test_a_misspelt_setting_is_reported_with_the_wrong_values():
    ended = command("run", WORKERS="x", KAFKA_GRUOP="pages")
    assert "2 settings are wrong" in ended.stderr
    assert "KAFKA_GRUOP is not a setting; did you mean KAFKA_GROUP?" in ended.stderr


def test_an_incomplete_cluster_exits_2_in_one_line():
    ended = command("run", "-i", "1")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "-a ADDRESSES" in ended.stderr


def test_a_recovery_directory_that_cannot_be_created_exits_1_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    ended = command("run", RECOVERY_DIR=str(tmp_path / "file"))
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert "give the path of a directory" in ended.stderr


# --- the process of run


def test_run_creates_the_store_and_starts_bytewax_with_it(started, tmp_path):
    argv = started()
    assert argv == [
        *(sys.executable, "-m", "bytewax.run", f"{FLOW}:flow"),
        *("-w", "1", "-r", "./recovery", "-s", "5", "-b", "0"),
    ]
    assert partitions(tmp_path / "recovery") == [f"part-{n}.sqlite3" for n in range(4)]
    launched = parse_launch(["bytewax/run.py", *argv[3:]], {})
    lock = check_recovery_store(launched)
    assert lock is not None
    lock.release()


def test_run_uses_the_settings(started, tmp_path, monkeypatch):
    monkeypatch.setenv("WORKERS", "3")
    monkeypatch.setenv("RECOVERY_DIR", str(tmp_path / "deep" / "store"))
    monkeypatch.setenv("RECOVERY_PARTITIONS", "2")
    monkeypatch.setenv("SNAPSHOT_SECONDS", "7")
    started_as = parse_launch(["bytewax/run.py", *started()[3:]], {})
    assert started_as == Launch(
        workers=3, recovery_dir=tmp_path / "deep" / "store", snapshot_seconds=7
    )
    assert len(partitions(tmp_path / "deep" / "store")) == 2


def test_an_option_takes_precedence_over_a_setting_and_a_setting_over_bytewaxs_variable():
    environ = {"BYTEWAX_WORKERS_PER_PROCESS": "8", "BYTEWAX_RECOVERY_DIRECTORY": "theirs"}

    def read(options, **given):
        settings = Settings(_env_file=None, **given)
        arguments = bytewax_arguments(NO_OPTIONS | options, settings, environ)
        return parse_launch(["bytewax/run.py", *arguments], environ)

    assert read({"workers": 2}, workers=4).workers == 2
    assert read({}, workers=4).workers == 4
    assert read({}).workers == 8
    assert read({}).recovery_dir == Path("theirs")
    assert read({"recovery_dir": Path("mine")}).recovery_dir == Path("mine")


def test_bytewax_finds_the_program_from_any_directory(tmp_path, monkeypatch):
    (tmp_path / "dataflow").mkdir()
    (tmp_path / "dataflow" / "__init__.py").write_text("")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert bytewax.run._prepare_import(f"{FLOW}:flow") == ("dataflow.main", "flow")
    assert sys.path[0] == str(ROOT)


# --- the store


def test_a_process_waits_until_its_own_name_resolves(monkeypatch):
    asked = []

    def resolve(host, _port):
        asked.append(host)
        if len(asked) < 3:
            raise OSError("not known")
        return []

    monkeypatch.setattr("gibsey_embedder.run.run.socket.getaddrinfo", resolve)
    wait_for_own_name(
        Launch(process_id=1, addresses=("pages-0.pages:1", "pages-1.pages:1")), retry_s=0
    )
    assert asked == ["pages-1.pages"] * 3


def test_a_name_that_does_not_resolve_is_reported_with_the_settings_to_correct():
    started = Launch(addresses=("no-such-host.invalid:1", "localhost:2"))
    with pytest.raises(LaunchError, match=r"no-such-host\.invalid:1 is not known.*HOSTFILE"):
        wait_for_own_name(started, timeout_s=0)
    wait_for_own_name(Launch(process_id=1, addresses=started.addresses), timeout_s=0)


def test_only_the_owner_can_read_the_store(started, tmp_path):
    started()
    directory = tmp_path / "recovery"
    assert directory.stat().st_mode & 0o777 == 0o700
    assert not any(file.stat().st_mode & 0o077 for file in directory.iterdir())


def test_an_empty_volume_becomes_private(tmp_path):
    volume = tmp_path / "volume"
    volume.mkdir(0o755)
    create_store(Launch(recovery_dir=volume), 3)
    assert volume.stat().st_mode & 0o777 == 0o700
    assert len(partitions(volume)) == 3


def test_a_directory_with_other_files_keeps_its_permissions(tmp_path):
    (tmp_path / "other").write_text("")
    tmp_path.chmod(0o755)
    create_store(Launch(recovery_dir=tmp_path), 1)
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_an_existing_store_keeps_its_partitions_with_a_warning(tmp_path):
    directory = tmp_path / "recovery"
    create_store(Launch(recovery_dir=directory), 3)
    before = {file.name: file.read_bytes() for file in directory.glob("*.sqlite3")}
    script = (
        "import sys; from pathlib import Path; from connectors.observability import logs; "
        "from dataflow.startup.launch import Launch; from gibsey_embedder.run.recovery_store import create_store; "
        "logs.configure(); create_store(Launch(recovery_dir=Path(sys.argv[1])), 5)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(directory)],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert {file.name: file.read_bytes() for file in directory.glob("*.sqlite3")} == before
    assert read_partition(directory / "part-0.sqlite3") == (0, 3)
    assert "keeps its partitions" in ended.stderr
    assert "RECOVERY_PARTITIONS=5" in ended.stderr


def test_only_process_0_of_a_cluster_creates_the_store(tmp_path):
    addresses = ("a:1", "b:1")
    create_store(Launch(process_id=1, addresses=addresses, recovery_dir=tmp_path / "one"), 4)
    create_store(Launch(process_id=0, addresses=addresses, recovery_dir=tmp_path / "zero"), 4)
    assert partitions(tmp_path / "one") == []
    assert len(partitions(tmp_path / "zero")) == 4


def test_a_store_that_a_killed_start_left_incomplete_is_created_again(tmp_path):
    (tmp_path / ".being-made").mkdir()
    (tmp_path / ".being-made" / "part-0.sqlite3").write_bytes(b"half")
    create_store(Launch(recovery_dir=tmp_path), 2)
    assert [read_partition(tmp_path / name) for name in partitions(tmp_path)] == [(0, 2), (1, 2)]
    assert not (tmp_path / ".being-made").exists()


def test_a_store_in_use_by_another_process_is_not_changed(tmp_path):
    holder = (
        "import sys; from pathlib import Path; from dataflow.startup.recovery import lock_store; "
        "held = lock_store(Path(sys.argv[1]), 0); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path)],
        env={"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RecoveryError, match=f"in use by process {other.pid} "):
            create_store(Launch(recovery_dir=tmp_path), 4)
        assert partitions(tmp_path) == []
        other.kill()


def test_the_lock_is_released_for_the_worker(tmp_path):
    create_store(Launch(recovery_dir=tmp_path), 1)
    lock_store(tmp_path, 0).release()


def test_no_command_prints_a_secret(tmp_path):
    secrets = {name.upper(): f"s3cret-{name}" for name in SECRETS}
    (tmp_path / "file").write_text("")
    others = {
        "KAFKA_USERNAME": "u",
        "STARGATE_USERNAME": "u",
        "STARGATE_AUTH_URL": "http://u:s3cret-url@auth",
        "KAFKA_OPTIONS": '{"ssl.key.password": "s3cret-key"}',
        "RECOVERY_DIR": str(tmp_path / "file"),
    }
    for extra in ({}, {"LOG_FORMAT": "json"}, {"WORKERS": "0"}, {"STARGATE_BULK": "custom"}):
        ended = command("run", **secrets, **others, **extra)
        assert ended.returncode in (1, 2)
        assert "s3cret" not in ended.stdout + ended.stderr
