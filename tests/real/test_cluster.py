"""Several processes over a real Kafka, started as pods are: a name, a hosts file, a volume each.

The embedder is a fake, so that its duration is known.
"""

from __future__ import annotations

import itertools
import re
import shutil
import signal
from collections.abc import Sequence

import pytest

from gibsey_embedder.fakes.ollama import Ollama
from gibsey_embedder.run.gather import gather_store, partitions_in
from tests.eventually import eventually
from tests.flow.worker import Worker
from tests.real.stream import Embedder, RealStream

pytestmark = [pytest.mark.real, pytest.mark.ollama, pytest.mark.timeout(300)]

PARTITIONS = 6
PAGES = 300
AWAY_S = 60.0
MODEL = "nomic-embed-text"


@pytest.fixture
def embedder(ollama: Ollama) -> Embedder:
    ollama.text_s = 0.01
    return Embedder(ollama.embed_url, MODEL)


@pytest.fixture
def stream(bare_stream: RealStream) -> RealStream:
    bare_stream.topic.make(PARTITIONS)
    bare_stream.topic.make_letters()
    return bare_stream


def metric(pods: Sequence[Worker], name: str) -> float:
    """A metric's sum over its labels and over processes, as Prometheus would make it."""
    values = (re.findall(rf"(?m)^{name}(?:{{.*}})? (\S+)$", pod.metrics()) for pod in pods)
    return sum(float(value) for found in values for value in found)


def lag(pods: Sequence[Worker]) -> float:
    return metric(pods, "gibsey_consumer_lag")


def wait_ready(pods: Sequence[Worker]) -> None:
    for pod in pods:
        pod.wait_for("status port")
        eventually(lambda pod=pod: pod.status()["state"]["ready"], AWAY_S)


def stop(pods: Sequence[Worker]) -> None:
    """All at the same time, as Kubernetes does."""
    for pod in pods:
        pod.signal()
    assert [pod.wait() for pod in pods] == [0] * len(pods)


def test_two_processes_share_six_partitions_and_each_tells_its_own_share(
    stream: RealStream, ollama: Ollama
):
    ollama.remove(MODEL)
    stream.feed(range(PAGES))
    stream.topic.flush()
    pods = stream.start_pods(2)
    for pod in pods:
        pod.wait_for(f"ollama pull {MODEL}")
    # Nothing is settled, so each page is some process's lag, and none is counted twice.
    eventually(lambda: lag(pods) == PAGES, AWAY_S)
    ollama.pull(MODEL)
    tell_their_shares(stream, pods)
    stop(pods)
    assert not stream.dead_letters()


def tell_their_shares(stream: RealStream, pods: Sequence[Worker]) -> None:
    stream.wait_complete()
    wait_ready(pods)
    eventually(lambda: lag(pods) == 0, AWAY_S)
    assert metric(pods, "gibsey_page_vectors_upserts_total") == PAGES
    statuses = [pod.status() for pod in pods]
    shares = [status["stages"]["kafka"]["partitions"] for status in statuses]
    assert sorted(itertools.chain(*shares)) == list(range(PARTITIONS))
    assert all(shares), "each process reads some"
    assert [status["tasks"]["process"] for status in statuses] == [0, 1]
    assert {status["tasks"]["processes"] for status in statuses} == {2}
    assert {status["tasks"]["workers_seen"] for status in statuses} == {2}
    assert [bool(partitions_in(stream.recovery_dir(number))) for number in (0, 1)] == [True, False]


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_takes_the_other_along_and_three_go_on_without_loss(
    stream: RealStream, victim: int
):
    stream.feed(range(PAGES))
    stream.topic.flush()
    pods = stream.start_pods(2)
    stream.wait_rows(60)
    pods[victim].kill()
    other = pods[1 - victim]
    other.wait(AWAY_S)
    assert "another process of the cluster has ended" in other.log
    assert stream.rows < PAGES
    stream.feed(range(0, PAGES, 7), "page {} says something newer")
    pods = stream.start_pods(2)
    stream.wait_rows(150)
    stop(pods)
    stream.feed(range(PAGES, PAGES + 30))
    gather_store(stream.recovery_dir(0), [stream.recovery_dir(1)])
    pods = stream.start_pods(3)
    stream.wait_complete()
    wait_ready(pods)
    eventually(lambda: lag(pods) == 0, AWAY_S)
    assert {pod.status()["tasks"]["processes"] for pod in pods} == {3}
    stop(pods)
    assert not stream.dead_letters()


def test_a_process_that_is_stopped_alone_ends_the_others_and_all_go_on(stream: RealStream):
    stream.feed(range(PAGES))
    pods = stream.start_pods(2)
    stream.wait_rows(60)
    pods[1].signal(signal.SIGTERM)
    assert pods[1].wait(AWAY_S) == 0
    pods[0].wait(AWAY_S)
    pods = stream.start_pods(2)
    stream.wait_complete()
    stop(pods)


def test_a_store_that_lies_on_two_volumes_is_refused_until_it_is_gathered(stream: RealStream):
    stream.feed(range(PAGES))
    pods = stream.start_pods(2)
    stream.wait_rows(60)
    stop(pods)
    first, second = stream.recovery_dir(0), stream.recovery_dir(1)
    for file in partitions_in(first)[1::2]:
        shutil.move(file, second / file.name)
    pods = stream.start_pods(2)
    assert [pod.wait() for pod in pods] == [1, 1]
    for pod in pods:
        assert "gibsey-embedder gather" in pod.log
        assert len(pod.log.splitlines()) == 1
    assert len(gather_store(first, [second])) == 2
    pods = stream.start_pods(3)
    stream.wait_complete()
    stop(pods)
    assert set(stream.rag.counts.values()) == {1}, "no page was done twice"


def test_more_workers_than_partitions_are_reported_at_the_start(stream: RealStream):
    for pod in stream.start_pods(2, workers=4):
        pod.wait_for("more workers than partitions: 2 of 8 read nothing")
