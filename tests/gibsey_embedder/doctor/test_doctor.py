"""The doctor over the stand-ins: each fault is really there, and each is told with its remedy."""

from __future__ import annotations

import email.utils
import fcntl
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dataflow.startup.launch import Launch
from gibsey_embedder.cli import app
from gibsey_embedder.doctor import doctor
from gibsey_embedder.doctor import settings as settings_check
from gibsey_embedder.fakes.faults import Fault
from gibsey_embedder.fakes.message import Reply
from gibsey_embedder.fakes.rag import Rag
from gibsey_embedder.fakes.stargate.server import Stargate
from gibsey_embedder.run.recovery_store import create_store
from tests.gibsey_embedder import listeners
from tests.gibsey_embedder.doctor.examination import Examine, Examined
from tests.gibsey_embedder.listeners import silent

ROOT = Path(__file__).parents[3]
NOBODY = 65534


# --- the whole


def test_a_right_set_up_is_good_and_nothing_is_changed(
    examine_kafka: Examine, stargate: Stargate, rag: Rag, tmp_path: Path
) -> None:
    examined = examine_kafka()
    assert examined.code == 0, examined.output
    assert {finding["result"] for finding in examined.checks} == {"good"}, examined.output
    assert stargate.vectors.writes.total() == 0
    assert not rag.counts
    assert not any(tmp_path.iterdir())


def test_people_get_a_table_with_remedies(examine: Examine, rag: Rag) -> None:
    examine()
    rag.refuse()
    shown = CliRunner().invoke(app, ["doctor"])
    assert shown.exit_code == 1
    assert "→ start the RAG service, or correct RAG_REFRESH_URL" in shown.stdout
    assert "1 of " in shown.stdout


def test_wrong_settings_exit_2_with_each_named(examine: Examine) -> None:
    result = examine(WORKERS="0", RAG_TIMEOUT="x")
    assert result.code == 2
    assert [f["remedy"] for f in result.checks] == ["correct RAG_TIMEOUT", "correct WORKERS"]


def test_services_that_hang_cost_no_more_than_20_s(tmp_path: Path) -> None:
    with listeners.listening(silent) as dead:
        variables = {
            "KAFKA_BROKER": dead,
            "EMBED_URL": f"http://{dead}",
            "STARGATE_URL": f"http://{dead}",
            "STARGATE_AUTH_TOKEN": "s3cret-token",
            "RAG_REFRESH_URL": f"http://{dead}/refresh",
        }
        began = time.monotonic()
        ended = subprocess.run(
            [
                sys.executable,
                "-m",
                "gibsey_embedder.cli",
                "doctor",
                "--json",
                "--write",
                "--send-test",
            ],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | variables,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert time.monotonic() - began < 20
    assert "Traceback" not in ended.stderr
    examined = Examined(ended.returncode, ended.stdout)
    failed = {f["check"].split()[0] for f in examined.checks if f["result"] == "bad"}
    assert failed == {"kafka", "embedder", "stargate", "rag"}


def test_a_check_that_breaks_does_not_take_the_others_along(
    examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("oh")

    monkeypatch.setattr(doctor, "check_rag", broken)
    examined = examine()
    examined.told("rag", "bad", "RuntimeError: oh")
    examined.told("stargate", "good")


def test_a_check_that_does_not_end_is_told(
    examine: Examine, rag: Rag, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "WITHIN_S", 1.0)
    rag.faults.add(Fault("hang"))
    examined = examine("--send-test", RAG_TIMEOUT="60")
    examined.told("rag", "bad", "did not end within 1 s", "restart it")
    examined.told("stargate", "good")


def test_a_secret_that_a_service_quotes_is_struck_out(examine: Examine, rag: Rag) -> None:
    rag.faults.add(Fault("reply", reply=Reply(500, b"bad token s3cret-rag")))
    examined = examine(RAG_AUTH_TOKEN="s3cret-rag")
    examined.told("rag", "bad", "bad token ***")
    assert "s3cret" not in examined.output


# --- settings and versions


def test_a_misspelt_setting_and_a_missing_token_are_told(
    examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STARGATE_TABEL", "x")
    examined = examine(STARGATE_AUTH_TOKEN="")
    examined.told("settings", "warning", "STARGATE_TABEL", "did you mean STARGATE_TABLE")
    examined.told("settings", "warning", "no token", "set STARGATE_AUTH_TOKEN")


def test_another_bytewax_is_told(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda n: "0.9" if n == "bytewax" else real(n))
    examine().told("versions", "warning", "Bytewax 0.9", "pip install bytewax==")


def test_dead_letters_in_the_topic_itself_are_refused(examine: Examine) -> None:
    result = examine(DEAD_LETTER_TOPIC="cdc.pages")
    assert result.code == 2
    assert [f["remedy"] for f in result.checks] == ["correct DEAD_LETTER_TOPIC"]


def test_a_sqlite_that_cannot_read_a_store_is_told(
    examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings_check, "CAN_READ_PARTITIONS", False)
    examine().told("versions", "warning", "SQLite", "too old", "3.37")


# --- the RAG service


def test_a_notification_is_sent_only_when_allowed(examine: Examine, rag: Rag) -> None:
    examine("--send-test").told("rag", "good", "took a notification")
    assert dict(rag.counts) == {"gibsey-embedder-doctor": 1}


def test_a_wrong_path_a_wrong_token_and_a_broken_service_are_told(
    examine: Examine, rag: Rag
) -> None:
    examine(RAG_REFRESH_URL=f"{rag.url}/no").told("rag", "bad", "404", "set RAG_REFRESH_URL")
    examine("--send-test", RAG_REFRESH_URL=f"{rag.url}/no").told("rag", "bad", "set RAG_REFRESH")
    rag.token = "wanted"
    examined = examine("--send-test", RAG_REFRESH_URL=rag.refresh_url)
    examined.told("rag", "bad", "401", "correct RAG_AUTH_TOKEN")
    rag.faults.add(Fault("reply", reply=Reply(502, b"oops")))
    examine("--send-test").told("rag", "bad", "502", "log")


def test_a_token_that_may_be_refused_and_a_broken_service_are_told_without_sending(
    examine: Examine, rag: Rag
) -> None:
    rag.faults.add(Fault("reply", reply=Reply(403), when=lambda r: r.method == "OPTIONS"))
    examine().told("rag", "warning", "403", "--send-test")
    rag.faults.clear()
    rag.faults.add(Fault("reply", reply=Reply(500, b"oh"), when=lambda r: r.method == "OPTIONS"))
    examine().told("rag", "bad", "500: oh", "log")


@pytest.mark.parametrize(
    "answer", [Reply(200, b"<html>log in</html>"), Reply(302, headers={"Location": "/login"})]
)
def test_a_login_page_is_no_rag_service(examine: Examine, rag: Rag, answer: Reply) -> None:
    rag.faults.add(Fault("reply", reply=answer, when=lambda r: r.method == "POST"))
    examine("--send-test").told("rag", "bad", str(answer.status), "set RAG_REFRESH_URL")


# --- the recovery directory


def test_a_directory_that_cannot_be_made_is_told(examine: Examine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    examine(RECOVERY_DIR=str(tmp_path / "file")).told("recovery", "bad", "no directory")
    examine(RECOVERY_DIR=str(tmp_path / "file" / "a")).told("recovery", "bad", "cannot be made")


@pytest.fixture
def ordinary_user() -> Iterator[Path]:
    """A directory that all may use, while what may be done is asked for a user without rights."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        if is_root := os.getuid() == 0:
            os.setreuid(NOBODY, -1)
        try:
            yield Path(folder)
        finally:
            if is_root:
                os.setreuid(0, -1)


def test_a_directory_that_cannot_be_written_is_told(examine: Examine, ordinary_user: Path) -> None:
    closed = ordinary_user / "closed"
    closed.mkdir(0o555)
    examine(RECOVERY_DIR=str(closed)).told("recovery", "bad", "cannot be written", "give user")
    below = examine(RECOVERY_DIR=str(closed / "below"))
    below.told("recovery", "bad", "cannot be made", "cannot be written", "give user")
    closed.chmod(0o777)
    examine(RECOVERY_DIR=str(closed)).told("recovery", "good", "is empty")


def test_a_directory_that_cannot_be_looked_at_is_told(examine: Examine) -> None:
    examined = examine(RECOVERY_DIR="x" * 300)
    examined.told("recovery", "bad", "cannot be looked at", "correct RECOVERY_DIR")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    directory = tmp_path / "recovery"
    create_store(Launch(recovery_dir=directory), 2)
    return directory


def test_a_whole_store_is_good_and_one_that_others_may_read_is_told(
    examine: Examine, store: Path
) -> None:
    before = {file: file.read_bytes() for file in store.glob("*.sqlite3")}
    examine().told("recovery", "good", "is whole: 2 partitions")
    assert {file: file.read_bytes() for file in store.glob("*.sqlite3")} == before
    store.chmod(0o755)
    examine().told("recovery mode", "warning", "mode 755", "chmod 700")
    assert stat.S_IMODE(store.stat().st_mode) == 0o755


def test_a_store_with_a_missing_or_a_broken_partition_is_told(
    examine: Examine, store: Path
) -> None:
    (store / "part-0.sqlite3").rename(store / "gone")
    examine().told("recovery", "bad", "lacks part-0.sqlite3", "put back")
    (store / "part-0.sqlite3").write_text("garbage")
    examine().told("recovery", "bad", "is not a recovery partition", "restore")


def test_a_store_in_use_is_good(examine: Examine, store: Path) -> None:
    with (store / "worker-0.lock").open("w") as lock:
        lock.write("process 1 on another")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        examine().told("recovery", "good", "in use by process 1 on another", "so it can be read")


# --- clocks


def test_a_clock_that_is_far_off_is_told(examine: Examine, stargate: Stargate) -> None:
    date = {"Date": "Wed, 01 Jan 2020 00:00:00 GMT"}
    answer = Reply(404, b"", headers=date)
    stargate.faults.add(Fault("reply", reply=answer, when=lambda r: r.path == "/"))
    examine().told("clock", "bad", "Stargate's clock", "behind ours", "NTP")


def test_a_clock_that_is_a_little_off_is_a_warning(examine: Examine, rag: Rag) -> None:
    answer = Reply(
        404, b"", headers={"Date": email.utils.formatdate(time.time() + 20, usegmt=True)}
    )
    rag.faults.add(Fault("reply", reply=answer, when=lambda r: r.path == "/"))
    examine().told("clock", "warning", "the RAG service's clock", "ahead of ours")
