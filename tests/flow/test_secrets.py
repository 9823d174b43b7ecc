"""No output of the program contains a secret."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import httpx
import pytest

from gibsey_embedder.fakes.stargate.server import Stargate
from tests.eventually import eventually
from tests.flow.stream import DONE_S, Stream
from tests.flow.worker import ROOT, passed_on

SECRETS = {
    "STARGATE_PASSWORD": "pass-word-of-stargate",
    "RAG_AUTH_TOKEN": "token-of-rag",
    "EMBED_API_KEY": "key-of-embedder",
    "OPENAI_API_KEY": "key-of-openai",
}
WITHIN = ("pass-in-the-url", "pass-in-the-options")
PAGES = ("", "status.json", "metrics", "healthz", "readyz")
WRONG = {"WINDOW_PAGES": "none"}
UNREACHABLE = {"KAFKA_BROKER": "127.0.0.1:9"}
COMMANDS: tuple[tuple[str, dict[str, str]], ...] = (
    ("doctor", {}),
    ("doctor --json", {}),
    ("doctor", WRONG),
    ("dead-letters", {}),
    ("dead-letters --json", UNREACHABLE),
    ("replay --dry-run", {}),
    ("run --no-such-option", {}),
)


def _settings(stream: Stream, stargate: Stargate) -> dict[str, Any]:
    return SECRETS | {
        "STARGATE_URL": stargate.url,
        "STARGATE_AUTH_TOKEN": "",
        "STARGATE_USERNAME": "alice",
        "STARGATE_AUTH_URL": f"{stargate.url}/v1/auth",
        "EMBED_URL": stream.ollama.url.replace("//", "//user:pass-in-the-url@"),
        "KAFKA_OPTIONS": '{"fetch.wait.max.ms": 5, "ssl.key.password": "pass-in-the-options"}',
        "LOG_LEVEL": "debug",
    }


def _assert_hidden(output: str) -> None:
    for secret in [*SECRETS.values(), *WITHIN]:
        assert secret not in output


@pytest.mark.parametrize("form", ["console", "json"])
def test_no_secret_is_in_the_log_or_on_the_status_port(stream: Stream, form: str) -> None:
    with Stargate(users={"alice": SECRETS["STARGATE_PASSWORD"]}) as stargate:
        worker = stream.start(**_settings(stream, stargate), LOG_FORMAT=form)
        # services that quote the request
        quote = " ".join([*SECRETS.values(), *WITHIN]).encode()
        stream.rag.faults.status(401, b'{"error":"who are you, ' + quote + b'"}')
        stream.write("a", "a page")
        stream.raw(b"garbage")
        stream.kafka.flush()
        eventually(lambda: len(stream.dead_letters()) == 2, DONE_S)
        eventually(lambda: stargate.vectors.vector("a") is not None, DONE_S)
        responses = [httpx.get(f"http://127.0.0.1:{worker.status_port}/{page}") for page in PAGES]
        worker.stop()
        details = [letter.headers["detail"].decode() for letter in stream.dead_letters()]
    output = "\n".join([worker.log, *(response.text for response in responses), *details])
    assert "Upsert OK" in output
    assert "who are you" in output
    _assert_hidden(output)


def test_no_secret_is_in_the_output_of_a_command(stream: Stream) -> None:
    stream.raw(b"garbage")
    with Stargate(users={"alice": "another password"}) as stargate:
        environment = passed_on() | stream.settings(**_settings(stream, stargate))
        environment["PYTHONPATH"] = str(ROOT)
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "gibsey_embedder.cli", *command.split()],
                env=environment | more,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for command, more in COMMANDS
        ]
        outputs = [process.communicate(timeout=90)[0] for process in started]
    assert all(outputs)
    _assert_hidden("\n".join(outputs))
