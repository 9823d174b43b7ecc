"""Runs deploy/ in Prometheus and Alertmanager: an alert fires, has its details, and ends."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.flow.conftest import stream
from tests.flow.stream import Stream
from tests.flow.worker import free_port
from tests.real.monitoring import DEPLOY, Monitoring, hurried, monitoring
from tests.real.servers import given

pytestmark = [pytest.mark.real, pytest.mark.deploy, pytest.mark.timeout(300)]

__all__ = ["stream"]  # the one with fakes

Start = Callable[[int], Monitoring]

DASHBOARD = DEPLOY / "grafana/dashboards/gibsey-embedder.json"
BACKLOG = 600
PANELS_S = 60.0
SLOW_S = 3.0
"""What the embedder needs a page: 20 pages a minute."""


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Start]:
    """Starts Prometheus and Alertmanager for a worker's status port."""
    programs = given("TEST_PROMETHEUS"), given("TEST_ALERTMANAGER")
    with ExitStack() as stack:
        yield lambda port: stack.enter_context(monitoring(tmp_path, *programs, port))


def test_a_stopped_embedder_with_a_backlog_fires_an_alert_that_ends_at_its_return(
    stream: Stream, watch: Start
):
    worker = stream.start(2)
    worker.wait_started()
    watching = watch(worker.status_port)
    stream.feed(10)
    stream.wait_complete()
    stream.ollama.stop()
    stream.feed(BACKLOG, start=10)
    required = watching.channel.wait("ALERT: Only ")
    assert "events wait" in required
    assert "Stalled service: embedder." in required
    assert "*Since:* " in required
    assert "*First:* Open the status page" in required
    assert "docs/runbook.md#gibseyvectorsunder100perminute" in required
    stalled = watching.channel.wait("ALERT: The stream waits for embedder")
    assert "Nothing is lost" in stalled
    stream.ollama.start()
    assert "It lasted from " in watching.channel.wait("RESOLVED: The stream waits for embedder")
    assert "It lasted from " in watching.channel.wait("RESOLVED: Only ")
    stream.wait_complete()


def test_fewer_than_100_vectors_a_minute_with_a_backlog_fire_an_alert_although_no_service_is_down(
    stream: Stream, watch: Start
):
    stream.ollama.text_s = SLOW_S
    worker = stream.start()
    worker.wait_started()
    watching = watch(worker.status_port)
    stream.feed(BACKLOG)
    text = watching.channel.wait("ALERT: Only ")
    assert "No service is stalled, so one of them is too slow" in text
    assert watching.state("GibseyServiceStalled") == "inactive"


def test_few_vectors_without_a_backlog_wake_nobody(stream: Stream, watch: Start):
    worker = stream.start()
    worker.wait_started()
    watching = watch(worker.status_port)
    stream.feed(3)
    stream.wait_complete()
    watching.wait_recorded("gibsey:lag", minutes=4)
    few = watching.query("gibsey:upserts_per_minute < 100 and on (job) gibsey:lag == 0")
    assert len(few) == 1  # the literal form of the rule would fire here
    assert watching.state("GibseyVectorsUnder100PerMinute") == "inactive"
    assert not any(m["title"].startswith("ALERT: Only") for m in watching.channel.messages)


def test_a_killed_worker_fires_an_alert_that_ends_at_its_return(stream: Stream, watch: Start):
    port = free_port()
    worker = stream.start(STATUS_PORT=str(port))
    worker.wait_started()
    watching = watch(port)
    watching.wait_scraped()
    worker.kill()
    text = watching.channel.wait(f"ALERT: The worker does not respond at 127.0.0.1:{port}")
    assert "Changes stay in Kafka" in text
    stream.start(STATUS_PORT=str(port)).wait_started()
    watching.channel.wait(f"RESOLVED: The worker does not respond at 127.0.0.1:{port}")


def test_a_dead_letter_is_told_with_its_reason(stream: Stream, watch: Start):
    worker = stream.start()
    worker.wait_started()
    watching = watch(worker.status_port)
    stream.feed(5)
    stream.wait_complete()
    watching.wait_scraped()
    stream.raw(b"{}")
    text = watching.channel.wait("NOTE: New dead letters: ")  # how many is extrapolated
    assert "with the reason undecodable" in text
    assert "gibsey-embedder dead-letters" in text


def test_every_panel_of_the_dashboard_has_data(stream: Stream, watch: Start):
    worker = stream.start(2)
    worker.wait_started()
    watching = watch(worker.status_port)
    watching.wait_scraped()
    stream.feed(60)
    stream.raw(b"{}")
    stream.wait_complete()
    stream.ollama.stop()  # so that a panel that shows what is waited for has something to show
    stream.feed(5, start=60)
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked = {t["expr"]: panel["title"] for panel in panels for t in panel["targets"]}
    assert len(asked) >= 18

    def without_data() -> list[str]:
        return [title for expr, title in asked.items() if not watching.query(filled_in(expr))]

    give_up = time.monotonic() + PANELS_S
    while empty := without_data():
        assert time.monotonic() < give_up, empty


def filled_in(expression: str) -> str:
    variables = {"$job": "gibsey-embedder", "$instance": ".*", "$__rate_interval": "30s"}
    for name, value in variables.items():
        expression = expression.replace(name, value)
    return expression


# --- the tools' own checks


def run(tool: str, *arguments: str | Path, within: Path, text: bytes | None = None) -> None:
    done = subprocess.run(
        [given(tool), *arguments], cwd=within, input=text, capture_output=True, timeout=60
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def test_promtool_takes_the_configuration_and_the_rules_do_what_their_tests_say():
    run("TEST_PROMTOOL", "check", "config", "prometheus.yml", within=DEPLOY / "prometheus")
    run("TEST_PROMTOOL", "test", "rules", "tests.yml", within=DEPLOY / "prometheus")


def test_promtool_takes_the_rules_of_a_hurried_copy(tmp_path: Path):
    for name in ("rules.yml", "alerts.yml"):
        (tmp_path / name).write_text(hurried((DEPLOY / "prometheus" / name).read_text()))
        run("TEST_PROMTOOL", "check", "rules", name, within=tmp_path)


def test_promtool_has_nothing_to_say_against_a_running_workers_metrics(
    tmp_path: Path, stream: Stream
):
    given("TEST_PROMTOOL")
    worker = stream.start(2)
    worker.wait_started()
    stream.feed(20)
    stream.raw(b"{}")
    stream.wait_complete()
    run("TEST_PROMTOOL", "check", "metrics", within=tmp_path, text=worker.metrics().encode())


def test_amtool_takes_the_configuration():
    run("TEST_AMTOOL", "check-config", "alertmanager.yml", within=DEPLOY / "alertmanager")
