"""Real services, as the TEST_* variables name them; what has no variable is skipped.

TEST_KAFKA_BROKER                     host:port without TLS
TEST_KAFKA_PID, TEST_KAFKA_RESTART    the broker's process, and the command that starts it again
TEST_EMBED_URL, TEST_EMBED_MODEL      an Ollama with the model (nomic-embed-text) pulled
TEST_OLLAMA_PID, TEST_OLLAMA_RESTART  its process, and the command that starts it again
TEST_CQL, TEST_CQL_PYTHON             host:port of a Cassandra, and a Python with cassandra-driver
TEST_CASSANDRA5                       host:port of a Cassandra 5
TEST_PROMETHEUS, TEST_ALERTMANAGER    the programs
TEST_PROMTOOL, TEST_AMTOOL            their tools
TEST_DEBEZIUM_TOPIC                   where Debezium publishes its table gibsey.pages
TEST_DEBEZIUM_RESTART                 the command that ends its connector and starts it with its usual
                                      properties and those given as NAME=VALUE arguments
TEST_DEBEZIUM5_TOPIC                  the same of a Debezium on Cassandra 5
TEST_DEBEZIUM5_RESTART
TEST_SCHEMA_REGISTRY_URL              a schema registry with Confluent's interface
TEST_IMAGE_RUN                        the command that runs the image (test_image.py)
TEST_COMPOSE_CHECK                    the program that resolves a compose file (test_compose.py)

`make services` starts them all, and writes these variables for `make test-real`. Each test has the
mark of one group; `tests/services/run groups` lists the services of each.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gibsey_embedder.fakes.rag import Rag
from gibsey_embedder.fakes.stargate.server import Stargate
from tests.real.servers import Server, given
from tests.real.stream import Embedder, RealStream, Topic


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a measured figure, also when the test passes."""

    def show(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}")

    return show


@pytest.fixture
def kafka_broker() -> str:
    """A real broker's address."""
    return given("TEST_KAFKA_BROKER")


@pytest.fixture
def kafka_server() -> Iterator[Server]:
    """The broker as a process; it runs again after the test."""
    server = Server(int(given("TEST_KAFKA_PID")), given("TEST_KAFKA_RESTART"))
    yield server
    server.start()


@pytest.fixture
def ollama_server() -> Iterator[Server]:
    """Ollama as a process; it runs again after the test."""
    server = Server(int(given("TEST_OLLAMA_PID")), given("TEST_OLLAMA_RESTART"))
    yield server
    server.start()


@pytest.fixture
def topic(kafka_broker: str) -> Iterator[Topic]:
    """Names for a topic and its dead letters, neither of them made; both deleted after the test."""
    topic = Topic(kafka_broker)
    yield topic
    topic.remove()


@pytest.fixture
def embedder() -> Embedder:
    """What the real Ollama answers."""
    model = os.environ.get("TEST_EMBED_MODEL", "nomic-embed-text")
    return Embedder(given("TEST_EMBED_URL"), model)


@pytest.fixture
def bare_stream(
    tmp_path: Path, topic: Topic, embedder: Embedder, stargate: Stargate, rag: Rag
) -> Iterator[RealStream]:
    """A stream whose topic is not made yet."""
    stream = RealStream(tmp_path, topic, embedder, stargate, rag)
    yield stream
    stream.end()


@pytest.fixture
def stream(bare_stream: RealStream) -> RealStream:
    """A stream with a topic of three partitions."""
    bare_stream.topic.make()
    bare_stream.topic.make_letters()
    return bare_stream
