"""`scripts/smoke` runs against the fakes, with and without a worker.

A fake of `docker compose` runs the containers' commands on this machine and prints the worker's log.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import orjson
import pytest

from gibsey_embedder.fakes.ngrams import embed_text
from gibsey_embedder.topic.change_sender import event_of
from tests.flow.stream import TOPIC, Stream
from tests.flow.worker import ROOT

COMPOSE = """#!/usr/bin/env bash
# exec -T SERVICE COMMAND... | logs OPTION... SERVICE...
case "$1 $4" in
    exec\\ printenv) sed -n "s/^$5=//p" "$SETTINGS" ;;
    exec*) shift 3; exec "${@//http:\\/\\/127.0.0.1:8001/$RAG}" ;;
    logs*) cat "$STACK"/worker-*.log | sed 's/^/worker-1  | /' ;;
esac
"""

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="scripts/smoke needs curl")


def smoke(stream: Stream, wait_s: int = 1, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the script; `settings` are those of the worker's container."""
    folder = stream.directory
    (folder / "compose").write_text(COMPOSE)
    (folder / "compose").chmod(0o755)
    (folder / "settings").write_text("".join(f"{n}={v}\n" for n, v in settings.items()))
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "COMPOSE": str(folder / "compose"),
        "STARGATE_URL": stream.stargate.url,
        "STARGATE_AUTH_URL": stream.stargate.auth_url,
        "RAG": stream.rag.url,
        "STACK": str(folder),
        "SETTINGS": str(folder / "settings"),
        "WAIT_S": str(wait_s),
    }
    return subprocess.run(
        [ROOT / "scripts/smoke"], env=environment, capture_output=True, text=True, timeout=90
    )


@contextmanager
def each_page(stream: Stream, do: Callable[[str, str], None]) -> Iterator[None]:
    """Call `do(page_id, body)` for each page that is written to the database."""
    ended = threading.Event()
    pages = stream.stargate.pages

    def watch() -> None:
        seen: set[str] = set()
        while not ended.is_set():
            with pages.changed:
                pages.changed.wait_for(lambda: ended.is_set() or bool(pages.rows.keys() - seen))
            for page_id in pages.rows.keys() - seen:
                seen.add(page_id)
                do(page_id, str(pages.text(page_id)))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        with pages.changed:
            pages.changed.notify_all()
        thread.join()


@contextmanager
def debezium(stream: Stream) -> Iterator[None]:
    """Send an event for each page that is written, as Debezium does."""

    def send(page_id: str, body: str) -> None:
        key, value = event_of(page_id, body, time.time_ns() // 1000)
        stream.kafka.produce(TOPIC, key, value, partition=None)

    with each_page(stream, send):
        yield


def test_the_script_succeeds_if_the_page_reaches_all_outputs(stream: Stream) -> None:
    stream.start().wait_started()
    with debezium(stream):
        done = smoke(stream, wait_s=60)
    assert done.returncode == 0, done.stderr
    (page,) = stream.stargate.pages.rows
    assert [line.partition(" ")[0] for line in done.stdout.splitlines()] == ["good:"] * 4
    assert f"page {page} written" in done.stdout
    assert stream.rag.counts[page] == 1


def test_the_script_reports_a_missing_row_and_names_the_logs(stream: Stream) -> None:
    stream.ollama.refuse()
    stream.start().wait_started()
    with debezium(stream):
        done = smoke(stream, wait_s=2)
    assert done.returncode == 1
    assert "FAILED: no row of 768 numbers in page_vectors within 2 s" in done.stderr
    assert "logs worker debezium" in done.stderr
    assert "Upsert OK" not in done.stdout


@pytest.mark.parametrize(
    ("numbers", "log", "is_notified", "missing"),
    [
        (767, "Upsert OK pages={page}", True, "row of 768 numbers in page_vectors"),
        (768, "Upsert OK pages=another", True, "log line 'Upsert OK' that names the page"),
        (768, "Upsert OK pages={page}", False, "/refresh at the fake RAG service"),
    ],
    ids=["row", "log line", "refresh"],
)
def test_the_script_checks_each_of_the_three_results(
    stream: Stream, numbers: int, log: str, is_notified: bool, missing: str
) -> None:
    def write_results(page_id: str, body: str) -> None:
        vector = embed_text(body)
        (stream.directory / "worker-0.log").write_text(log.format(page=page_id) + "\n")
        if is_notified:
            httpx.post(stream.rag.refresh_url, json={"page_id": page_id, "vector": vector})
        stream.stargate.vectors.put(page_id, orjson.dumps({"vector": vector[:numbers]}))

    with each_page(stream, write_results):
        done = smoke(stream)
    assert done.returncode == 1
    assert f"FAILED: no {missing}" in done.stderr


def test_the_script_names_a_service_that_does_not_respond(stream: Stream) -> None:
    stream.stargate.refuse()
    done = smoke(stream)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"FAILED: no token from {stream.stargate.auth_url}" in done.stderr
    stream.rag.refuse()
    done = smoke(stream)
    assert (done.returncode, done.stdout) == (1, "")
    assert "FAILED: the fake RAG service does not respond" in done.stderr


def test_the_script_uses_the_login_and_keyspace_of_the_worker(stream: Stream) -> None:
    password = 'two words, a "quote" and a \\'
    stream.stargate.tokens.users["alice"] = password
    refused = smoke(stream, STARGATE_USERNAME="alice")
    assert "no token" in refused.stderr
    assert "alice" in refused.stderr
    stream.stargate.keyspace = "library"
    login = {"STARGATE_USERNAME": "alice", "STARGATE_PASSWORD": password}
    done = smoke(stream, 1, **login, STARGATE_KEYSPACE="library")
    assert "written through Stargate" in done.stdout
    assert password not in done.stderr
