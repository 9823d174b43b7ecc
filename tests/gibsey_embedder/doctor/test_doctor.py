"""The doctor with fakes of all services: each problem is real, and has a remedy."""

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
from gibsey_embedder.doctor.settings import check_versions
from gibsey_embedder.fakes.faults import Fault
from gibsey_embedder.fakes.message import Reply
from gibsey_embedder.fakes.rag import Rag
from gibsey_embedder.fakes.stargate.server import Stargate
from gibsey_embedder.run.recovery_store import create_store
from tests.gibsey_embedder import listeners
from tests.gibsey_embedder.doctor.doctor_report import DoctorReport, RunDoctor
from tests.gibsey_embedder.listeners import silent

ROOT = Path(__file__).parents[3]
NOBODY = 65534


# --- all checks


def test_a_correct_setup_is_good_and_nothing_is_changed(
    run_doctor_with_kafka: RunDoctor, stargate: Stargate, rag: Rag, tmp_path: Path
) -> None:
    report = run_doctor_with_kafka()
    assert report.exit_code == 0, report.output
    assert {finding["result"] for finding in report.checks} == {"good"}, report.output
    assert stargate.vectors.writes.total() == 0
    assert not rag.counts
    assert not any(tmp_path.iterdir())


def test_without_json_the_output_is_a_table_with_remedies(run_doctor: RunDoctor, rag: Rag) -> None:
    run_doctor()
    rag.refuse()
    shown = CliRunner().invoke(app, ["doctor"])
    assert shown.exit_code == 1
    assert "→ start the RAG service, or correct RAG_REFRESH_URL" in shown.stdout
    assert "1 of " in shown.stdout


def test_wrong_settings_exit_2_and_all_are_reported(run_doctor: RunDoctor) -> None:
    result = run_doctor(WORKERS="0", RAG_TIMEOUT="x")
    assert result.exit_code == 2
    assert [f["remedy"] for f in result.checks] == ["correct RAG_TIMEOUT", "correct WORKERS"]


def test_services_that_hang_take_at_most_20_s(tmp_path: Path) -> None:
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
    report = DoctorReport(ended.returncode, ended.stdout)
    failed = {f["check"].split()[0] for f in report.checks if f["result"] == "bad"}
    assert failed == {"kafka", "embedder", "stargate", "rag"}


def test_a_check_that_fails_does_not_affect_the_others(
    run_doctor: RunDoctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("oh")

    monkeypatch.setattr(doctor, "check_rag", broken)
    report = run_doctor()
    report.assert_finding("rag", "bad", "RuntimeError: oh")
    report.assert_finding("stargate", "good")


def test_a_check_that_does_not_end_is_reported(run_checks: RunDoctor, rag: Rag) -> None:
    rag.faults.add(Fault("hang", when=lambda r: r.method == "POST"))
    report = run_checks(send_test=True, timeout_s=1.0, RAG_TIMEOUT="60")
    report.assert_finding("rag", "bad", "did not end within 1 s", "restart it")
    report.assert_finding("stargate", "good")


def test_a_secret_that_a_service_quotes_is_redacted(run_doctor: RunDoctor, rag: Rag) -> None:
    rag.faults.add(Fault("reply", reply=Reply(500, b"bad token s3cret-rag")))
    report = run_doctor(RAG_AUTH_TOKEN="s3cret-rag")
    report.assert_finding("rag", "bad", "bad token ***")
    assert "s3cret" not in report.output


# --- settings and versions


def test_a_misspelt_setting_and_a_missing_token_are_reported(
    run_doctor: RunDoctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STARGATE_TABEL", "x")
    report = run_doctor(STARGATE_AUTH_TOKEN="")
    report.assert_finding("settings", "warning", "STARGATE_TABEL", "did you mean STARGATE_TABLE")
    report.assert_finding("settings", "warning", "no token", "set STARGATE_AUTH_TOKEN")


def test_another_version_of_bytewax_is_reported(
    run_doctor: RunDoctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda n: "0.9" if n == "bytewax" else real(n))
    run_doctor().assert_finding("versions", "warning", "Bytewax 0.9", "pip install bytewax==")


def test_the_topic_itself_cannot_be_the_dead_letter_topic(run_doctor: RunDoctor) -> None:
    result = run_doctor(DEAD_LETTER_TOPIC="cdc.pages")
    assert result.exit_code == 2
    assert [f["remedy"] for f in result.checks] == ["correct DEAD_LETTER_TOPIC"]


def test_a_sqlite_that_cannot_read_a_store_is_reported() -> None:
    _, finding = check_versions(can_read_partitions=False)
    assert (finding.check, finding.result) == ("versions", "warning")
    assert "SQLite" in finding.found
    assert "3.37" in finding.remedy


# --- the RAG service


def test_a_notification_is_sent_only_with_the_option(run_doctor: RunDoctor, rag: Rag) -> None:
    run_doctor("--send-test").assert_finding("rag", "good", "accepted a notification")
    assert dict(rag.counts) == {"gibsey-embedder-doctor": 1}


def test_a_wrong_path_a_wrong_token_and_a_broken_service_are_reported(
    run_doctor: RunDoctor, rag: Rag
) -> None:
    run_doctor(RAG_REFRESH_URL=f"{rag.url}/no").assert_finding(
        "rag", "bad", "404", "set RAG_REFRESH_URL"
    )
    run_doctor("--send-test", RAG_REFRESH_URL=f"{rag.url}/no").assert_finding(
        "rag", "bad", "set RAG_REFRESH"
    )
    rag.token = "wanted"
    report = run_doctor("--send-test", RAG_REFRESH_URL=rag.refresh_url)
    report.assert_finding("rag", "bad", "401", "correct RAG_AUTH_TOKEN")
    rag.faults.add(Fault("reply", reply=Reply(502, b"oops")))
    run_doctor("--send-test").assert_finding("rag", "bad", "502", "log")


def test_a_rejected_token_and_a_broken_service_are_reported_without_a_notification(
    run_doctor: RunDoctor, rag: Rag
) -> None:
    rag.faults.add(Fault("reply", reply=Reply(403), when=lambda r: r.method == "OPTIONS"))
    run_doctor().assert_finding("rag", "warning", "403", "--send-test")
    rag.faults.clear()
    rag.faults.add(Fault("reply", reply=Reply(500, b"oh"), when=lambda r: r.method == "OPTIONS"))
    run_doctor().assert_finding("rag", "bad", "500: oh", "log")


@pytest.mark.parametrize(
    "answer", [Reply(200, b"<html>log in</html>"), Reply(302, headers={"Location": "/login"})]
)
def test_a_login_page_is_not_a_rag_service(run_doctor: RunDoctor, rag: Rag, answer: Reply) -> None:
    rag.faults.add(Fault("reply", reply=answer, when=lambda r: r.method == "POST"))
    run_doctor("--send-test").assert_finding(
        "rag", "bad", str(answer.status), "set RAG_REFRESH_URL"
    )


# --- the recovery directory


def test_a_directory_that_cannot_be_created_is_reported(
    run_doctor: RunDoctor, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    run_doctor(RECOVERY_DIR=str(tmp_path / "file")).assert_finding(
        "recovery", "bad", "not a directory"
    )
    run_doctor(RECOVERY_DIR=str(tmp_path / "file" / "a")).assert_finding(
        "recovery", "bad", "cannot be created"
    )


@pytest.fixture
def ordinary_user() -> Iterator[Path]:
    """A directory for all users; the test runs as a user without rights."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        if is_root := os.getuid() == 0:
            os.setreuid(NOBODY, -1)
        try:
            yield Path(folder)
        finally:
            if is_root:
                os.setreuid(0, -1)


def test_a_directory_that_cannot_be_written_is_reported(
    run_doctor: RunDoctor, ordinary_user: Path
) -> None:
    closed = ordinary_user / "closed"
    closed.mkdir(0o555)
    run_doctor(RECOVERY_DIR=str(closed)).assert_finding(
        "recovery", "bad", "is not writable", "give user"
    )
    below = run_doctor(RECOVERY_DIR=str(closed / "below"))
    below.assert_finding("recovery", "bad", "cannot be created", "is not writable", "give user")
    closed.chmod(0o777)
    run_doctor(RECOVERY_DIR=str(closed)).assert_finding("recovery", "good", "is empty")


def test_a_directory_that_cannot_be_read_is_reported(run_doctor: RunDoctor) -> None:
    report = run_doctor(RECOVERY_DIR="x" * 300)
    report.assert_finding("recovery", "bad", "cannot be read", "correct RECOVERY_DIR")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    directory = tmp_path / "recovery"
    create_store(Launch(recovery_dir=directory), 2)
    return directory


def test_a_complete_store_is_good_and_one_that_others_can_read_is_reported(
    run_doctor: RunDoctor, store: Path
) -> None:
    before = {file: file.read_bytes() for file in store.glob("*.sqlite3")}
    run_doctor().assert_finding("recovery", "good", "is complete: 2 partitions")
    assert {file: file.read_bytes() for file in store.glob("*.sqlite3")} == before
    store.chmod(0o755)
    run_doctor().assert_finding("recovery mode", "warning", "mode 755", "chmod 700")
    assert stat.S_IMODE(store.stat().st_mode) == 0o755


def test_a_store_with_a_missing_or_a_broken_partition_is_reported(
    run_doctor: RunDoctor, store: Path
) -> None:
    (store / "part-0.sqlite3").rename(store / "gone")
    run_doctor().assert_finding("recovery", "bad", "lacks part-0.sqlite3", "restore the missing")
    (store / "part-0.sqlite3").write_text("garbage")
    run_doctor().assert_finding("recovery", "bad", "is not a recovery partition", "restore")


def test_a_store_in_use_is_good(run_doctor: RunDoctor, store: Path) -> None:
    with (store / "worker-0.lock").open("w") as lock:
        lock.write("process 1 on another")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        run_doctor().assert_finding(
            "recovery", "good", "in use by process 1 on another", "so it is readable"
        )


# --- clocks


def test_a_clock_with_a_large_difference_is_reported(
    run_doctor: RunDoctor, stargate: Stargate
) -> None:
    date = {"Date": "Wed, 01 Jan 2020 00:00:00 GMT"}
    answer = Reply(404, b"", headers=date)
    stargate.faults.add(Fault("reply", reply=answer, when=lambda r: r.path == "/"))
    run_doctor().assert_finding("clock", "bad", "Stargate's clock", "behind ours", "NTP")


def test_a_clock_with_a_small_difference_is_a_warning(run_doctor: RunDoctor, rag: Rag) -> None:
    answer = Reply(
        404, b"", headers={"Date": email.utils.formatdate(time.time() + 20, usegmt=True)}
    )
    rag.faults.add(Fault("reply", reply=answer, when=lambda r: r.path == "/"))
    run_doctor().assert_finding("clock", "warning", "the RAG service's clock", "ahead of ours")
