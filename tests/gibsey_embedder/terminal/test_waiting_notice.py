"""A command shows what it waits for, on a terminal and in a log."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gibsey_embedder.terminal import waiting_notice
from tests.gibsey_embedder import listeners
from tests.gibsey_embedder.listeners import silent

ROOT = Path(__file__).parents[3]
COMMANDS = [
    ("dead-letters", "reading cdc.pages.dlq from Kafka at {broker}"),
    ("backfill", "to cdc.pages at {broker}, after a wait of 10 s for clocks that differ (--skew)."),
]


@pytest.fixture
def broker() -> Iterator[str]:
    """A server that accepts connections and never responds."""
    with listeners.listening(silent) as address:
        yield address


def start(command: str, broker: str, folder: Path, stderr: int) -> subprocess.Popen[bytes]:
    variables = {
        "KAFKA_BROKER": broker,
        "EMBED_URL": f"http://{broker}",
        "STARGATE_URL": f"http://{broker}",
        "STARGATE_AUTH_TOKEN": "token",
        "RAG_REFRESH_URL": f"http://{broker}/refresh",
    }
    inherited = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.Popen(
        [sys.executable, "-m", "gibsey_embedder.cli", *command.split()],
        env=inherited | variables | {"TERM": "xterm"},
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
    )


@pytest.mark.parametrize(("command", "words"), COMMANDS, ids=[c for c, _ in COMMANDS])
def test_a_log_gets_a_line_before_the_response(broker, tmp_path, command, words):
    process = start(command, broker, tmp_path, subprocess.PIPE)
    try:
        assert process.stderr is not None
        line = process.stderr.readline().decode()
        assert words.format(broker=broker) in line
        assert process.poll() is None, "the notice must be there before the end"
    finally:
        process.kill()
        process.communicate()


def test_a_terminal_shows_the_notice_at_once(broker, tmp_path):
    ours, theirs = pty.openpty()
    process = start("doctor", broker, tmp_path, theirs)
    os.close(theirs)
    try:
        seen = ""
        while f"checking Kafka at {broker}" not in re.sub(r"\x1b\[[0-9;]*m", "", seen):
            seen += os.read(ours, 4096).decode(errors="replace")
        assert process.poll() is None, "the notice must be there before the end"
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_a_log_gets_no_line_for_a_quick_command(capsys):
    with waiting_notice.waiting_notice("asking"):
        pass
    assert capsys.readouterr().err == ""
