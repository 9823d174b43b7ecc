"""Prometheus and Alertmanager with the files of deploy/, and a channel that receives the messages.

What is changed of deploy/ is: the addresses, the file with the webhook's URL, and every length of
time in the configurations and rules, all by the same factor, so that minutes become seconds. The
expressions, labels, texts and templates are those that are shipped.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from tests.eventually import eventually
from tests.flow.worker import ROOT, free_port

DEPLOY = ROOT / "deploy"
FASTER = 12
"""How much shorter every length of time is: a scrape each 1.25 s, `for: 2m` becomes 10 s."""
EVALUATED_EVERY_MS = 15_000
"""The evaluation interval in prometheus.yml."""
ANSWER_S = 30.0
MESSAGE_S = 100.0
_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_LENGTH = re.compile(r"(?<![\w.])(\d+)(ms|s|m|h|d)(?!\w)")


def hurried(text: str) -> str:
    """A configuration with every `15s`, `2m` or `24h` in it `FASTER` times shorter."""
    return _LENGTH.sub(lambda m: f"{int(m[1]) * _MS[m[2]] // FASTER}ms", text)


def hurry(directory: Path, replaced: Mapping[str, str]) -> None:
    """Rewrite the YAML files of a directory: shorter times, and texts replaced."""
    for path in directory.glob("*.yml"):
        text = hurried(path.read_text())
        for old, new in replaced.items():
            text = text.replace(old, new)
        path.write_text(text)


class Channel:
    """A Slack channel's webhook.

    Attributes:
        url: Its address, a secret in real life.
        messages: What was posted, oldest first: Slack's attachments.
    """

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        channel = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                channel.messages += body["attachments"]
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/services/T0/B0/secret"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Take no more messages."""
        self._server.shutdown()
        self._server.server_close()

    def wait(self, title: str, within_s: float = MESSAGE_S) -> str:
        """Wait for a message whose title begins so; returns its text."""

        def found() -> dict[str, Any] | None:
            return next((m for m in self.messages if m["title"].startswith(title)), None)

        try:
            message = eventually(found, within_s)
        except AssertionError:
            titles = [message["title"] for message in self.messages]
            raise AssertionError(f"no message {title!r} in {within_s:.0f} s: {titles}") from None
        assert message is not None
        return str(message["text"])


class Monitoring:
    """Both servers, watching one worker.

    Attributes:
        channel: Where the alerts go.
    """

    def __init__(self, directory: Path, url: str, channel: Channel) -> None:
        self._directory, self._url = directory, url
        self.channel = channel

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that a PromQL expression has at this moment."""
        answer = self._ask("query", query=expression)
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def state(self, alert: str) -> str:
        """`inactive`, `pending` or `firing`."""
        groups = self._ask("rules", type="alert")["data"]["groups"]
        states = {rule["name"]: rule["state"] for group in groups for rule in group["rules"]}
        return str(states[alert])

    def wait_scraped(self) -> None:
        """Wait until the worker has been read once."""
        eventually(lambda: self.query('up{job="gibsey-embedder"} == 1'), ANSWER_S)

    def wait_recorded(self, series: str, minutes: float) -> None:
        """Wait until a rule has recorded for this many of its shortened minutes."""
        evaluations = minutes * 60_000 / EVALUATED_EVERY_MS
        counted = f"count_over_time({series}[1h])"

        def recorded() -> bool:
            found = self.query(counted)
            return bool(found) and float(found[0]["value"][1]) >= evaluations

        eventually(recorded, MESSAGE_S)

    def _ask(self, what: str, **arguments: str) -> dict[str, Any]:
        answer = httpx.get(f"{self._url}/api/v1/{what}", params=arguments, timeout=ANSWER_S)
        found: dict[str, Any] = answer.raise_for_status().json()
        return found


@contextmanager
def monitoring(
    directory: Path, prometheus: str, alertmanager: str, status_port: int
) -> Iterator[Monitoring]:
    """Both servers, started with the files of deploy/; their logs are shown at the end.

    Args:
        directory: Where their files go.
        prometheus: The program.
        alertmanager: The program.
        status_port: Where the worker is, or will be.
    """
    channel, at = Channel(), f"127.0.0.1:{free_port()}"
    sending = f"127.0.0.1:{free_port()}"
    replaced = {
        "gibsey-embedder:6066": f"127.0.0.1:{status_port}",
        "alertmanager:9093": sending,
        "/etc/alertmanager/secrets/slack_webhook_url": str(directory / "webhook"),
    }
    (directory / "webhook").write_text(channel.url)
    for name in ("prometheus", "alertmanager"):
        shutil.copytree(DEPLOY / name, directory / name)
        hurry(directory / name, replaced)
    commands = [
        [
            prometheus,
            f"--config.file={directory}/prometheus/prometheus.yml",
            f"--storage.tsdb.path={directory}/series",
            f"--web.listen-address={at}",
        ],
        [
            alertmanager,
            f"--config.file={directory}/alertmanager/alertmanager.yml",
            f"--storage.path={directory}/silences",
            f"--web.listen-address={sending}",
            "--cluster.listen-address=",
        ],
    ]
    running = [_started(command, directory / f"{n}.log") for n, command in enumerate(commands)]
    try:
        for process, address, path in zip(running, (at, sending), ("0.log", "1.log"), strict=True):
            _wait_ready(process, f"http://{address}/-/ready", directory / path)
        yield Monitoring(directory, f"http://{at}", channel)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(ANSWER_S)
        channel.close()


def _started(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)


def _wait_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    def answers() -> bool:
        assert process.poll() is None, log.read_text(errors="replace")
        try:
            return httpx.get(url, timeout=ANSWER_S).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    eventually(answers, ANSWER_S)
