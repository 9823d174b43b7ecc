"""A command says what it waits for before the answer comes: on a terminal, and in a log."""

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
    """What takes connections and never answers."""
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
def test_in_a_log_it_is_a_line_before_the_answer(broker, tmp_path, command, words):
    process = start(command, broker, tmp_path, subprocess.PIPE)
    try:
        assert process.stderr is not None
        line = process.stderr.readline().decode()
        assert words.format(broker=broker) in line
        assert process.poll() is None, "said when all was over"
    finally:
        process.kill()
        process.communicate()


def test_on_a_terminal_it_is_there_at_once(broker, tmp_path):
    ours, theirs = pty.openpty()
    process = start("doctor", broker, tmp_path, theirs)
    os.close(theirs)
    try:
        seen = ""
        while f"asking Kafka at {broker}" not in re.sub(r"\x1b\[[0-9;]*m", "", seen):
            seen += os.read(ours, 4096).decode(errors="replace")
        assert process.poll() is None, "said when all was over"
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_in_a_log_nothing_is_said_of_what_is_quick(capsys):
    with waiting_notice.waiting_notice("asking"):
        pass
    assert capsys.readouterr().err == ""
