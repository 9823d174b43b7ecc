"""Debezium on a real Cassandra 5, beside vectors in the same cluster."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from connectors.core.records import Record
from dataflow.events.decoder import decode
from dataflow.steps.changes import Change
from tests.eventually import eventually
from tests.real.kafka import KafkaContents
from tests.real.pages import Pages
from tests.real.servers import Connector, given

pytestmark = [pytest.mark.real, pytest.mark.cassandra5, pytest.mark.timeout(240)]

ARRIVES_S = 60.0
VECTORS = "gibsey_vectors"


@pytest.fixture
def pages() -> Iterator[Pages]:
    with Pages(given("TEST_CQL_PYTHON"), given("TEST_CASSANDRA5")) as pages:
        yield pages


@pytest.fixture
def connector() -> Connector:
    return Connector(given("TEST_DEBEZIUM5_RESTART"))


@pytest.fixture
def vectors(pages: Pages) -> None:
    """A table of vectors in a keyspace of its own, which stays, as beside a running stream."""
    pages.run(
        f"CREATE KEYSPACE IF NOT EXISTS {VECTORS}"
        " WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}"
    )
    pages.run(
        f"CREATE TABLE IF NOT EXISTS {VECTORS}.page_vectors"
        " (page_id text PRIMARY KEY, vector vector<float, 768>, model text)"
    )


def wait_for_insert(kafka_broker: str, page_id: str) -> Change:
    """The change that the stream's decoder reads, once it is in Debezium's topic."""
    topic, contents = given("TEST_DEBEZIUM5_TOPIC"), KafkaContents(kafka_broker)

    def found() -> Change | None:
        for read in contents.read(topic):
            record = Record(
                read.topic, read.partition, read.offset, read.timestamp_ms, read.key, read.value
            )
            change = decode(record)
            if isinstance(change, Change) and change.page_id == page_id:
                return change
        return None

    change = eventually(found, ARRIVES_S)
    assert change is not None
    return change


def test_an_insert_arrives_as_a_change(kafka_broker: str, pages: Pages):
    page_id = f"page {uuid.uuid4().hex}"
    pages.insert(page_id, "A page in Cassandra 5.")
    assert wait_for_insert(kafka_broker, page_id).body == "A page in Cassandra 5."


def test_inserts_arrive_after_a_restart_although_the_cluster_holds_vectors(
    kafka_broker: str, pages: Pages, vectors: None, connector: Connector
):
    connector.restart()
    page_id = f"page {uuid.uuid4().hex}"
    pages.insert(page_id, "A page beside vectors.")
    assert wait_for_insert(kafka_broker, page_id).body == "A page beside vectors."
