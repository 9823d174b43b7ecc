"""The built image, really run.

TEST_IMAGE_RUN [NAME=value ...] [-- COMMAND ...] runs its entry point (or COMMAND) as compose.yaml
has it: as its user, as process 1, with a read-only root file system, a tmpfs at /tmp and the same
volume at /data each time; and on this machine's network.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import orjson
import pytest

from tests.flow.worker import free_port

RUN = shlex.split(os.environ.get("TEST_IMAGE_RUN", ""))
HEALTH = (
    "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['STATUS_PORT']"
    " + '/healthz', timeout=4)"
)
START_S, STOP_S = 60.0, 30.0

pytestmark = [
    pytest.mark.real,
    pytest.mark.deploy,
    pytest.mark.skipif(not RUN, reason="TEST_IMAGE_RUN runs no image"),
    pytest.mark.timeout(300),
]


def inside(*command: str, **environment: str) -> str:
    """The output of a command that is run in the image."""
    given = [f"{name}={value}" for name, value in environment.items()]
    done = subprocess.run(
        [*RUN, *given, "--", *command], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def children(pid: int) -> list[int]:
    """The processes below one, itself first."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += children(int(child))
    return found


def is_worker(pid: int) -> bool:
    arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return arguments[0].endswith(b"python") and b"bytewax.run" in arguments


@contextmanager
def worker(**environment: str) -> Iterator[subprocess.Popen[bytes]]:
    given = [f"{name}={value}" for name, value in environment.items()]
    process = subprocess.Popen([*RUN, *given])
    try:
        yield process
    finally:
        for pid in reversed(children(process.pid)) if process.poll() is None else ():
            os.kill(pid, signal.SIGKILL)
        process.wait()


def wait_until_ready(process: subprocess.Popen[bytes], port: str) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "the worker ended"
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail("not ready in time")


def stop(process: subprocess.Popen[bytes]) -> int:
    """SIGTERM to the program in the image, as an engine sends it; returns its exit code."""
    (pid,) = filter(is_worker, children(process.pid))
    os.kill(pid, signal.SIGTERM)
    return process.wait(STOP_S)


@pytest.fixture
def environment(mock_kafka, ollama, stargate, rag) -> dict[str, str]:
    return {
        "KAFKA_BROKER": mock_kafka.broker,
        "EMBED_URL": f"{ollama.url}/api/embeddings",
        "STARGATE_URL": stargate.url,
        "STARGATE_AUTH_TOKEN": "demo-token",
        "RAG_REFRESH_URL": rag.refresh_url,
        "STATUS_PORT": str(free_port()),
    }


def test_it_runs_without_rights_and_without_build_tools():
    assert inside("id", "-u").strip() == "10001"
    tools = inside("sh", "-c", "command -v gcc cc make cargo /opt/gibsey/bin/pip; true")
    assert tools == ""


def test_its_user_owns_nothing_but_its_volume():
    code = "find / -xdev -user gibsey -not -path '/proc/*' 2>/dev/null | grep -v ^/data; true"
    assert inside("sh", "-c", code) == ""


def test_its_root_file_system_is_read_only_here():
    code = "touch /opt/gibsey/x 2>&1; grep ' / ' /proc/mounts; touch /data/x /tmp/x && rm /data/x"
    output = inside("sh", "-c", code)
    assert "Read-only file system" in output
    assert re.search(r"\bro\b", output)


def test_over_a_read_only_root_a_worker_does_a_page_stops_and_goes_on_from_the_same_volume(
    environment, mock_kafka, stargate, rag, capfd
):
    port = environment["STATUS_PORT"]
    for page_id in ("first", "second"):
        with worker(**environment) as process:
            wait_until_ready(process, port)
            inside("python", "-c", HEALTH, STATUS_PORT=port)
            event = {"page_id": page_id, "body": f"The {page_id} page.", "op": "c"}
            mock_kafka.produce("cdc.pages", page_id, orjson.dumps(event))
            mock_kafka.flush()
            assert stargate.vectors.wait_for(1 if page_id == "first" else 2, START_S)
            assert stop(process) == 0
    # The second run went on where the first had stopped, by its store and not the group's offsets.
    assert capfd.readouterr().err.count("recovery store created") == 1
    assert stargate.vectors.writes == {"first": 1, "second": 1}
    assert set(rag.counts) == {"first", "second"}
