"""The status page in each state of the stream."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from gibsey_embedder.fakes.kafka import MockKafka
from tests.browser.status_page import StatusPage
from tests.eventually import eventually
from tests.flow.stream import Stream
from tests.flow.worker import Worker, free_port

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

WIDTHS = (360, 768, 1080, 1440, 2560)
EVIL = "<img src=x onerror=alert(1)><script>alert(1)</script>"
BACKLOG = 1500
UNCOMFORTABLE = 0.02
"""A layout shift, as browsers measure it (area times distance, as shares of the window), that is
more than numbers at the right edge that grow by a digit."""
COST_SHARE = 0.02
COST_OVER_S = 8.0
COST_ROUNDS = 3
DARK, LIGHT = "rgb(14, 17, 22)", "rgb(244, 246, 249)"

Keep = Callable[[str], None]


def opened(stream: Stream, page: StatusPage, workers: int = 2, **settings: Any) -> Worker:
    """A running worker with its open page."""
    worker = stream.start(workers, **settings)
    worker.wait_started()
    worker.wait_for("status port")
    page.resize(1440)
    page.open(url(worker))
    return worker


def url(worker: Worker) -> str:
    return f"http://127.0.0.1:{worker.status_port}/"


@contextmanager
def edits(stream: Stream, a_second: float) -> Iterator[None]:
    """Change pages all the time, like a live system."""
    over = threading.Event()

    def edit() -> None:
        number = 0
        while not over.wait(1 / a_second):
            number += 1
            stream.write(f"live {number}", f"the text of live page {number}")

    thread = threading.Thread(target=edit)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        stream.kafka.flush()


def test_the_numbers_match_those_of_the_services(stream: Stream, page: StatusPage, keep: Keep):
    opened(stream, page)
    stream.feed(200)
    stream.wait_complete()
    for number in range(100):
        stream.send(
            f"page {number}", {"page_id": f"page {number}", "op": "u"}
        )  # no body: unchanged
    stream.raw(b"{}")
    stream.raw(b"no JSON")
    stream.wait_committed()
    page.wait(lambda: page.field("counts.events.skipped_unchanged") == "100")
    page.wait(lambda: page.number("stages.dead_letters.total") == len(stream.dead_letters()) == 2)
    page.wait(lambda: page.number("lag.total") == 0)
    assert page.text("reasons") == "2 undecodable, in cdc.pages.dlq"
    assert isinstance(stream.kafka, MockKafka)
    assert page.text("kafka-partitions") == str(stream.kafka.partitions("cdc.pages"))
    counts = page.run("return fetch('/status.json').then((answer) => answer.json())")["counts"]
    assert counts["upserts"] == sum(stream.stargate.vectors.writes.values()) == 200
    assert counts["notifications"]["delivered"] == sum(stream.rag.counts.values()) == 200
    assert (page.text("to-go"), page.text("to-go-unit")) == ("none", "nothing waits")
    keep("idle")
    assert page.errors() == []


def test_a_stall_and_its_remedy_are_at_the_top_of_the_page(
    stream: Stream, page: StatusPage, keep: Keep
):
    opened(stream, page)
    with edits(stream, 10):
        page.wait(lambda: page.text("level") == "Keeping up")
        keep("keeping-up")
        stream.ollama.remove("nomic-embed-text")
        page.wait(lambda: page.text("level").startswith("Waiting"))
        assert "has no model nomic-embed-text" in page.text("sentence")
        assert page.text("remedy").startswith("What to do: run ollama pull nomic-embed-text")
        assert page.run("return document.querySelector('#box-embedder').dataset.state") == "waiting"
        assert page.run("return document.title").startswith("Waiting")
        keep("model-not-pulled")
        stream.ollama.pull("nomic-embed-text")
        page.wait(lambda: page.text("level") == "Keeping up")
        assert page.text("remedy") == ""
    assert "waiting: " in page.text("recent")
    assert page.errors() == []


def test_the_slowest_stage_of_a_backlog_is_marked(stream: Stream, page: StatusPage, keep: Keep):
    stream.ollama.text_s = 0.02
    opened(stream, page)
    stream.feed(BACKLOG)
    page.wait(lambda: "the slowest stage is the embedder" in page.text("sentence"))
    assert page.text("level") == "Behind"
    assert 0 < page.number("lag.total") <= BACKLOG
    assert page.run("return document.querySelector('#box-embedder').dataset.state") == "slowest"
    keep("backlog")
    page.prefer("dark")
    keep("backlog-dark")


def test_the_page_fits_every_width_in_both_themes(stream: Stream, page: StatusPage, keep: Keep):
    opened(stream, page)
    stream.feed(50)
    stream.raw(b"{}")
    stream.wait_dead_letters(1)
    page.wait(lambda: page.text("reasons").startswith("1 undecodable"))
    for width in WIDTHS:
        page.resize(width)
        for scheme, ground in (("light", LIGHT), ("dark", DARK)):
            page.prefer(scheme)
            page.wait(lambda ground=ground: page.colour() == ground)
            assert page.overflowing() == [], (width, scheme)
            keep(f"width-{width}-{scheme}")
    assert page.errors() == []


def test_the_keyboard_reaches_all_of_the_page(stream: Stream, page: StatusPage):
    opened(stream, page)
    page.prefer("light")
    reached = [page.tab() for _ in range(9)]
    assert reached[0] == "Skip to the stream"
    assert reached[1] == "theme"
    assert reached[-4:] == ["status.json", "metrics", "healthz", "readyz"]
    page.run("document.getElementById('theme').focus()")
    page.press(Keys.ENTER)
    assert (page.text("theme-name"), page.colour()) == ("Light", LIGHT)
    page.press(Keys.SPACE)
    assert (page.text("theme-name"), page.colour()) == ("Dark", DARK)
    page.open(page.run("return location.href"))
    assert page.colour() == DARK  # remembered
    page.tab()
    page.press(Keys.ENTER)
    assert page.run("return document.activeElement.id") == "stream"


def test_a_killed_worker_is_reported_and_its_restart_needs_no_reload(
    stream: Stream, page: StatusPage, keep: Keep
):
    port = str(free_port())
    worker = opened(stream, page, STATUS_PORT=port)
    stream.feed(30)
    stream.wait_complete()
    page.wait(lambda: page.field("stages.store.rate_per_s") != "0")
    page.run("window.sameTab = true")
    worker.kill()
    page.wait(lambda: page.text("level").startswith("No response"))
    assert "the figures are from" in page.text("sentence")
    assert page.run("return document.title").startswith("No response")
    keep("offline")
    opened_again = stream.start(2, STATUS_PORT=port)
    opened_again.wait_started()
    page.wait(lambda: page.text("notice").startswith("The worker was restarted at "))
    page.wait(lambda: page.text("level") in ("Idle", "Keeping up"))
    keep("restarted")
    assert page.run("return window.sameTab")
    # The console may only have errors about requests while the worker was down.
    assert [line for line in page.errors() if "ERR_CONNECTION" not in line] == []


def test_the_content_of_pages_is_shown_as_text(stream: Stream, page: StatusPage):
    opened(stream, page)
    stream.ollama.add_quirk("rejected", "poison")
    stream.write(EVIL, "poison")
    stream.raw(b'{"' + EVIL.encode() + b'": 1}')
    stream.wait_dead_letters(2)
    page.wait(lambda: page.number("stages.dead_letters.total") == 2)
    page.wait(lambda: "<script>" in page.text("recent"))
    assert page.run("return document.querySelectorAll('#recent img, #recent script').length") == 0
    assert page.errors() == []


def test_the_layout_does_not_shift_in_any_state_of_the_stream(stream: Stream, page: StatusPage):
    stream.ollama.text_s = 0.005
    opened(stream, page)
    with edits(stream, 20):
        page.wait(lambda: page.text("level") == "Keeping up")
        stream.raw(b"{}")
        page.wait(lambda: page.number("stages.dead_letters.total") == 1)
        for service in (stream.stargate, stream.ollama):
            service.refuse()
            page.wait(lambda: page.text("level").startswith("Waiting"))
            service.accept()
            page.wait(lambda: not page.text("level").startswith("Waiting"))
        stream.feed(BACKLOG)
        page.wait(lambda: page.number("lag.total") > 0)
        page.wait(lambda: page.number("lag.total") < 10, 60)
    assert [shift for shift in page.shifts() if shift[0] > UNCOMFORTABLE] == []


def test_the_page_sends_requests_only_to_the_worker(stream: Stream, page: StatusPage):
    worker = opened(stream, page)
    page.wait(lambda: page.run("return document.querySelectorAll('canvas').length") == 4)
    assert page.hosts() == {f"127.0.0.1:{worker.status_port}"}


def test_an_open_page_costs_the_worker_almost_no_cpu(
    stream: Stream, page: StatusPage, capsys: pytest.CaptureFixture[str]
):
    worker = opened(stream, page)
    opened_s, closed_s = [], []
    for _ in range(COST_ROUNDS):
        page.open(url(worker))
        first = page.text("clock")
        opened_s.append(_processor_s(worker))
        assert page.text("clock") != first  # the page sent requests all the time
        page.leave()
        closed_s.append(_processor_s(worker))
    # Other processes can only add CPU to a round, so the minima are compared.
    share = (min(opened_s) - min(closed_s)) / COST_OVER_S
    with capsys.disabled():
        print(f"\nan open page costs {share:.2%} of a core")
    assert share < COST_SHARE


def _processor_s(worker: Worker) -> float:
    """Return the CPU seconds that an idle worker uses in `COST_OVER_S`."""
    stat = Path(f"/proc/{worker.pid}/stat")
    ticks = os.sysconf("SC_CLK_TCK")

    def used() -> float:
        fields = stat.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / ticks

    before, until = used(), time.monotonic() + COST_OVER_S
    eventually(lambda: time.monotonic() >= until, COST_OVER_S + 5)
    return used() - before
