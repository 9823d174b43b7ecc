"""The status port over real sockets."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from connectors.core.records import Record
from connectors.runtime.event_loop import EventLoop
from dataflow.config.settings import Settings
from gibsey_embedder.status.server import StatusServer
from gibsey_embedder.status.view import LaunchInfo, StatusView
from tests.eventually import eventually
from tests.gibsey_embedder.status.streams import Stream

SECRET = "s3cret-that-nobody-may-see"


@dataclass
class Answer:
    status: int
    headers: Message
    body: bytes

    @property
    def json(self):
        return orjson.loads(self.body)


class Port:
    """A status port that a test talks to."""

    def __init__(self, event_loop: EventLoop, view: StatusView, port: int = 0) -> None:
        self.server = StatusServer(event_loop, "127.0.0.1", port, view, retry_s=0.05)
        self.server.start()

    @property
    def number(self) -> int:
        return eventually(lambda: self.server.port or 0)

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        url = f"http://127.0.0.1:{self.number}{path}"
        request = urllib.request.Request(url, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read())


@pytest.fixture
def event_loop() -> Iterator[EventLoop]:
    loop = EventLoop(on_crash=lambda error: pytest.fail(f"the loop crashed: {error}"))
    yield loop
    loop.close()


@pytest.fixture
def stream() -> Stream:
    return Stream()


@pytest.fixture
def port(event_loop: EventLoop, stream: Stream) -> Iterator[Port]:
    found = Port(event_loop, stream.view())
    yield found
    found.server.stop()


def test_the_page_and_its_files_are_served(port: Port):
    page = port.ask("/")
    assert page.status == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    text = page.body.decode()
    names = [part.split('"')[0] for part in text.replace("src=", "href=").split('href="')[1:]]
    own = [name for name in names if name.startswith("/static/")]
    assert len(own) >= 5
    for name in own:
        assert port.ask(name).status == 200, name
    assert "http://" not in text
    assert "https://" not in text


def test_a_file_in_the_browsers_cache_is_not_sent_again(port: Port):
    first = port.ask("/static/status.css")
    again = port.ask("/static/status.css", **{"If-None-Match": first.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/static/../status.py",
        "/static/%2e%2e/status.py",
        "/static//etc/passwd",
        "/static/",
        "/nope",
    ],
)
def test_no_other_file_is_served(port: Port, path: str):
    answer = port.ask(path)
    assert answer.status == 404
    assert b"passwd" not in answer.body


@pytest.mark.parametrize("path", ["/", "/status.json", "/metrics", "/healthz", "/readyz", "/nope"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_it_is_read_only(port: Port, path: str, method: str):
    answer = port.ask(path, method)
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/", "/status.json", "/metrics", "/healthz", "/static/status.js"])
def test_every_response_has_security_headers(port: Port, path: str):
    for method in ("GET", "HEAD"):
        headers = port.ask(path, method).headers
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert "aiohttp" not in headers["Server"]


def test_prometheus_can_read_the_metrics(port: Port, stream: Stream):
    stream.metrics.upserts.inc(5)
    answer = port.ask("/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {f.name: f for f in text_string_to_metric_families(answer.body.decode())}
    assert families["gibsey_page_vectors_upserts"].samples[0].value == 5
    assert families["process_resident_memory_bytes"].samples[0].value > 1e6
    assert (
        families["gibsey_alive"].samples[0].value,
        families["gibsey_ready"].samples[0].value,
    ) == (1, 1)
    assert families["process_cpu_seconds"].type == "counter"
    assert not any(name.endswith("_created") for name in families)


def test_openmetrics_are_served_on_request(port: Port):
    answer = port.ask("/metrics", Accept="application/openmetrics-text;version=1.0.0")
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert answer.body.endswith(b"# EOF\n")


def test_the_json_describes_the_stream(port: Port, stream: Stream):
    stream.metrics.lag.labels("0").set(7)
    stream.metrics.lag.labels("2").set(5)
    stream.metrics.events.labels("u", "embedded").inc(40)
    stream.metrics.events.labels("c", "embedded").inc(2)
    stream.metrics.dead_letters.labels("undecodable").inc()
    stream.tracker.open([Record("cdc.pages", 2, 9, 0, None, b"x")])
    status = port.ask("/status.json").json
    assert status["lag"]["total"] == 12
    assert status["lag"]["partitions"] == [
        {"partition": 0, "lag": 7, "open": 0, "worker": 0},
        {"partition": 1, "lag": 0, "open": 0, "worker": 1},
        {"partition": 2, "lag": 5, "open": 1, "worker": 0},
    ]
    assert status["counts"]["events"] == {"embedded": 42}
    assert status["stages"]["dead_letters"]["by_reason"] == {"undecodable": 1}
    assert status["stages"]["stargate"]["open_rows"] == 3
    assert status["tasks"]["open_pages"] == 1
    assert "history" not in status


def test_the_history_is_sent_on_request(port: Port):
    history = eventually(lambda: port.ask("/status.json?history_since=0").json["history"]["at"])
    newest = history[-1]
    rest = port.ask(f"/status.json?history_since={newest + 1e6}").json["history"]
    assert rest["at"] == []
    assert port.ask("/status.json?history_since=yesterday").status == 400


def test_a_page_id_with_markup_stays_text(port: Port, stream: Stream):
    stream.recent.add(
        "dead-letter", "stargate", "refused", page_id="<script>alert(1)</script>" * 40
    )
    answer = port.ask("/status.json")
    assert answer.headers["Content-Type"] == "application/json"
    fact = answer.json["recent"][0]["facts"]["page_id"]
    assert fact.startswith("<script>")
    assert len(fact) <= 160
    # What the page does with it: text nodes only, and a policy that runs no inline script.
    for name in ("status", "stream", "panels", "charts", "dom"):
        source = port.ask(f"/static/{name}.js").body
        for word in (
            b"innerHTML",
            b"outerHTML",
            b"insertAdjacentHTML",
            b"document.write",
            b"eval(",
        ):
            assert word not in source, (name, word)
    assert b"<script>" not in port.ask("/").body


def test_secrets_are_masked(event_loop: EventLoop, stream: Stream, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir("/")
    settings = Settings(stargate_auth_token=SecretStr(SECRET), openai_api_key=SecretStr(SECRET))
    port = Port(event_loop, stream.view(settings_redacted=settings.redacted()))
    for path in ("/", "/status.json", "/metrics", "/readyz"):
        assert SECRET.encode() not in port.ask(path).body
    assert port.ask("/status.json").json["settings"]["STARGATE_AUTH_TOKEN"] == "***"
    port.server.stop()


# --- health ---


def test_workers_that_make_progress_are_alive_and_ready(port: Port):
    assert (port.ask("/healthz").status, port.ask("/readyz").status) == (200, 200)


def test_a_stalled_process_is_alive_but_not_ready_with_a_reason(port: Port, stream: Stream):
    stream.stalls.waiting("embedder", "model not pulled", "run `ollama pull nomic-embed-text`")
    stream.clock.now += 3600  # the workers wait, too, and do not turn
    alive, ready = port.ask("/healthz"), port.ask("/readyz")
    assert (alive.status, ready.status) == (200, 503)
    assert ready.json == alive.json
    assert ready.json["reason"] == (
        "waiting for the embedder: model not pulled; run `ollama pull nomic-embed-text`"
    )
    state = port.ask("/status.json").json["state"]
    assert (state["level"], state["bottleneck"]) == ("waiting", "embedder")
    stream.stalls.cleared("embedder")
    stream.liveness.polled()
    assert (port.ask("/healthz").status, port.ask("/readyz").status) == (200, 200)


def test_a_worker_that_waits_for_the_other_processes_of_its_cluster_is_not_stuck(
    port: Port, stream: Stream
):
    stream.liveness.waits_for_cluster()
    stream.clock.now += 600
    assert port.ask("/healthz").status == 200
    stream.clock.now += 61
    assert port.ask("/healthz").status == 503
    stream.liveness.polled()
    assert port.ask("/healthz").status == 200


def test_a_worker_without_progress_or_a_stall_is_stuck(port: Port, stream: Stream):
    stream.clock.now += 61
    answer = port.ask("/healthz")
    assert answer.status == 503
    assert answer.json == {
        "status": "stuck",
        "reason": "a worker has made no progress for 61 s and waits for no service",
    }
    assert port.ask("/readyz").status == 503
    assert port.ask("/status.json").json["state"]["level"] == "stuck"
    assert b"gibsey_alive 0.0" in port.ask("/metrics").body


def test_it_is_ready_only_when_partitions_are_assigned(port: Port, stream: Stream):
    stream.kafka = {"topic": "cdc.pages"}
    answer = port.ask("/readyz")
    assert (answer.status, port.ask("/healthz").status) == (503, 200)
    assert answer.json["reason"] == "Kafka has not returned the partitions of cdc.pages yet"
    stream.kafka = {"topic": "cdc.pages", "topic_partitions": 3}
    assert port.ask("/readyz").json["reason"] == "no partition of cdc.pages is assigned yet"


def test_a_process_of_a_cluster_may_have_no_partition(event_loop: EventLoop, stream: Stream):
    stream.kafka = {"topic": "cdc.pages", "topic_partitions": 1}
    port = Port(event_loop, stream.view(launch=LaunchInfo(process=1, processes=2)))
    assert port.ask("/readyz").status == 200
    port.server.stop()


def test_it_is_ready_only_when_every_service_has_responded(port: Port, stream: Stream):
    stream.unanswered.append("stargate")
    answer = port.ask("/readyz")
    assert (answer.status, answer.json["reason"]) == (503, "no response yet from Stargate")


def test_a_stopping_process_is_not_ready(port: Port, stream: Stream):
    stream.stopping = True
    assert (port.ask("/readyz").status, port.ask("/healthz").status) == (503, 200)


# --- the port itself ---


def test_the_status_port_waits_for_a_port_in_use(
    event_loop: EventLoop, stream: Stream, capsys: pytest.CaptureFixture[str]
):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        port = Port(event_loop, stream.view(), taken)
        output = ""

        def warned() -> bool:
            nonlocal output
            out, err = capsys.readouterr()
            output += out + err
            return "STATUS_PORT" in output

        eventually(warned)
        assert f"127.0.0.1:{taken}" in output
        assert port.server.port is None
    assert port.ask("/healthz").status == 200
    port.server.stop()


def test_garbage_on_the_port_has_no_effect(port: Port):
    with socket.create_connection(("127.0.0.1", port.number)) as raw:
        raw.sendall(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
        assert b"400" in raw.recv(4096)
    assert port.ask("/healthz").status == 200
