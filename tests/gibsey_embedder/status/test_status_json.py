"""The content of /status.json for the metrics that a test sets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.core.records import Record
from connectors.embedders.failover import FallbackStatus
from gibsey_embedder.status.history import KEPT_S, SAMPLE_S, History
from gibsey_embedder.status.metric_samples import MetricReader, Span
from gibsey_embedder.status.status_json import StatusData
from tests.gibsey_embedder.status.streams import Clock, Stream


class Watched:
    """A stream that is sampled as the status port does it, by a clock of the test's."""

    def __init__(self) -> None:
        self.stream = Stream()
        self.data = StatusData(self.stream.view(), clock=self.stream.clock)
        self.data.sample()

    def later(self, seconds: float) -> None:
        for _ in range(round(seconds / SAMPLE_S)):
            self.stream.clock.now += SAMPLE_S
            self.stream.liveness.polled()
            self.data.sample()

    def settle(self, pages: int, seconds: float, fresh_s: float = 0.1) -> None:
        m = self.stream.metrics
        for _ in range(round(seconds / SAMPLE_S)):
            share = pages * SAMPLE_S / seconds
            m.events.labels("u", "embedded").inc(share)
            m.upserts.inc(share)
            m.freshness.labels("kafka").observe(fresh_s)
            self.later(SAMPLE_S)

    @property
    def status(self) -> dict[str, Any]:
        return self.data.status()


@pytest.fixture
def watched() -> Watched:
    return Watched()


AT_WORK = FallbackStatus("https://api.openai.com:443", "small", 1.0, "cannot connect", 12, 0)


def test_the_text_names_the_fallback_in_use(watched: Watched):
    assert watched.status.get("fallback", "?") is None
    watched.stream.batcher.fallback_status = AT_WORK
    watched.later(20)
    state = watched.status["state"]
    assert (state["level"], state["ready"]) == ("fallback", True)
    assert (
        "unavailable (cannot connect), and small at https://api.openai.com:443 embeds"
        in state["text"]
    )
    assert "12 pages; nothing to do" in state["text"]
    assert watched.status["fallback"]["pages"] == 12
    watched.stream.batcher.fallback_status = replace(AT_WORK, held=2)
    watched.later(2)
    assert "12 pages, 2 wait for the embedder;" in watched.status["state"]["text"]


def test_the_text_names_the_remedy_for_pages_of_the_fallback(watched: Watched):
    watched.stream.metrics.other_space_pages.inc(3)
    watched.later(20)
    assert watched.status["counts"]["other_space_pages"] == 3
    state = watched.status["state"]
    assert state["level"] == "idle"
    assert "3 pages have vectors of the fallback" in state["text"]
    assert "replay --reason other-space" in state["text"]


def test_an_idle_stream_is_idle(watched: Watched):
    watched.later(20)
    assert watched.status["state"] == {
        "level": "idle",
        "text": "Nothing to do: every change is in its outputs",
        "bottleneck": None,
        "to_go_s": 0.0,
        "alive": True,
        "ready": True,
    }
    assert watched.status["stages"]["kafka"]["state"] == "idle"


def test_rates_are_those_of_the_last_ten_seconds(watched: Watched):
    watched.settle(1000, seconds=60)
    watched.settle(400, seconds=10)
    assert watched.status["stages"]["stargate"]["rate_per_s"] == pytest.approx(40)
    watched.later(12)
    assert watched.status["stages"]["stargate"]["rate_per_s"] == 0


def test_a_lag_that_is_not_counted_yet_is_unknown(watched: Watched):
    watched.stream.metrics.lag.labels("0").set(600)
    watched.stream.metrics.lag.remove("2")
    status = watched.status
    assert status["lag"]["total"] is None
    assert [partition["lag"] for partition in status["lag"]["partitions"]] == [600, 0, None]
    assert (status["state"]["level"], status["state"]["to_go_s"]) == ("starting", None)


def test_a_backlog_has_the_time_until_it_is_processed(watched: Watched):
    watched.settle(100, seconds=10)
    watched.stream.metrics.lag.labels("0").set(600)
    state = watched.status["state"]
    assert (state["level"], state["to_go_s"]) == ("behind", pytest.approx(60))
    assert "backlog of 600" in state["text"]


def test_the_text_names_a_backlog_that_does_not_move(watched: Watched):
    watched.later(20)
    watched.stream.metrics.lag.labels("0").set(600)
    state = watched.status["state"]
    assert (state["level"], state["to_go_s"]) == ("behind", None)
    assert "nothing has been settled" in state["text"]


def test_a_stream_with_little_lag_is_busy(watched: Watched):
    watched.settle(100, seconds=10)
    watched.stream.metrics.lag.labels("0").set(3)
    assert watched.status["state"]["level"] == "busy"


def test_a_stage_that_uses_its_slots_is_the_slowest(watched: Watched):
    for _ in range(5):
        watched.stream.metrics.stage.labels("embed").observe(1.9 * SAMPLE_S)  # two at once
        watched.settle(20, seconds=2)
    watched.stream.metrics.lag.labels("0").set(5000)
    status = watched.status
    assert status["state"]["bottleneck"] == "embedder"
    assert "the slowest stage is the embedder" in status["state"]["text"]
    assert status["stages"]["embedder"]["load"] == pytest.approx(0.95)
    assert status["stages"]["embedder"]["state"] == "slowest"
    assert status["stages"]["stargate"]["state"] == "working"


def test_stages_before_a_stall_are_held_up_and_those_behind_it_idle(watched: Watched):
    watched.later(20)
    watched.stream.tracker.open([Record("cdc.pages", 0, 1, 0, None, b"x")])
    watched.stream.stalls.waiting("stargate", "refused", "start it")
    stages = watched.status["stages"]
    assert stages["stargate"]["state"] == "waiting"
    assert {stages[n]["state"] for n in ("kafka", "filter", "window", "embedder")} == {"held"}
    assert stages["rag"]["state"] == "idle"


def test_several_stalls_are_all_named(watched: Watched):
    watched.stream.stalls.waiting("kafka", "no broker", "start it")
    watched.stream.clock.now += 1
    watched.stream.stalls.waiting("rag", "refused", "start it")
    assert watched.status["state"]["text"] == (
        "Waiting for Kafka: no broker (and for the RAG service)"
    )


def test_the_time_to_catch_up_is_unknown_without_kafka(watched: Watched):
    watched.settle(100, seconds=10)
    assert watched.status["state"]["to_go_s"] == 0
    watched.stream.stalls.waiting("kafka", "no broker", "start it")
    watched.later(SAMPLE_S)
    assert watched.status["state"]["to_go_s"] is None


def test_the_text_of_a_rag_stall_states_that_rows_are_stored(watched: Watched):
    watched.stream.stalls.waiting("rag", "refused", "start it")
    text = watched.status["state"]["text"]
    assert text.startswith("Waiting for the RAG service: refused; rows are stored meanwhile")


def test_the_text_of_an_idle_stream_names_late_pages(watched: Watched):
    watched.settle(100, seconds=10, fresh_s=20)
    watched.later(20)
    state = watched.status["state"]
    assert (state["level"], state["text"].partition("; ")[2]) == (
        "idle",
        "the pages of the last minute were late",
    )


def test_freshness_covers_the_last_minute(watched: Watched):
    watched.settle(100, seconds=60, fresh_s=20)
    watched.later(70)
    assert watched.status["freshness"]["kafka"] == {"p50_s": None, "p95_s": None, "count": 0}
    watched.settle(100, seconds=10, fresh_s=0.7)
    freshness = watched.status["freshness"]["kafka"]
    assert 0.5 <= freshness["p50_s"] <= freshness["p95_s"] <= 1
    assert freshness["count"] == 5


def test_the_history_is_bounded_and_sent_in_parts(watched: Watched):
    watched.later(KEPT_S + 100)
    history = watched.data.status(0.0)["history"]
    assert len(history["at"]) == KEPT_S / SAMPLE_S
    part = watched.data.status(history["at"][-3])["history"]
    assert part["at"] == history["at"][-2:]


@given(st.lists(st.floats(0.001, 900), min_size=1, max_size=60), st.sampled_from([0.5, 0.95]))
def test_a_quantile_is_in_the_bucket_of_the_exact_one(values: list[float], q: float):
    stream = Stream()
    for value in values:
        stream.metrics.freshness.labels("kafka").observe(value)
    spread = MetricReader(stream.metrics).read().histogram("freshness", "kafka")
    true = sorted(values)[max(0, -(-int(q * 100) * len(values) // 100) - 1)]
    bounds = (0.0, *spread.bounds)
    bucket = next(n for n in range(1, len(bounds)) if true <= bounds[n])
    found = spread.quantile(q)
    assert found is not None
    assert bounds[bucket - 1] <= found <= bounds[bucket]


def test_a_span_without_length_has_no_infinite_rates():
    stream = Stream()
    reader = MetricReader(stream.metrics, Clock())
    older = reader.read()
    stream.metrics.upserts.inc()
    assert Span(older, reader.read()).rate("upserts") < 1e6
    assert Span(older, older).histogram("freshness", "kafka").quantile(0.5) is None


def test_a_history_without_samples_has_empty_columns():
    assert set(map(len, History().columns(0).values())) == {0}
