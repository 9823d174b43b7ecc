"""Vectors in a real Cassandra 5."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.real.cql_session import Session
from tests.real.servers import given

pytestmark = [pytest.mark.real, pytest.mark.cassandra5]

DIMENSIONS = 768


@pytest.fixture
def cassandra() -> Iterator[Session]:
    with Session(given("TEST_CQL_PYTHON"), given("TEST_CASSANDRA5")) as session:
        yield session


@pytest.fixture
def keyspace(cassandra: Session) -> Iterator[str]:
    """A keyspace of the test's own."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    cassandra.run(
        f"CREATE KEYSPACE {name}"
        " WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}"
    )
    yield name
    cassandra.run(f"DROP KEYSPACE {name}")


def unit(axis: int) -> list[float]:
    return [float(n == axis) for n in range(DIMENSIONS)]


def test_the_nearest_vector_is_found_by_its_index(cassandra: Session, keyspace: str):
    table = f"{keyspace}.page_vectors"
    cassandra.run(
        f"CREATE TABLE {table} (page_id text PRIMARY KEY, vector vector<float, {DIMENSIONS}>)"
    )
    cassandra.run(
        f"CREATE INDEX ON {table} (vector) USING 'sai'"
        " WITH OPTIONS = {'similarity_function': 'dot_product'}"
    )
    for page_id, axis in {"near": 0, "far": 1}.items():
        insert = f"INSERT INTO {table} (page_id, vector) VALUES (%s, %s)"
        cassandra.run(insert, page_id, unit(axis))
    nearest = f"SELECT page_id FROM {table} ORDER BY vector ANN OF %s LIMIT 1"
    assert cassandra.run(nearest, unit(0)) == [["near"]]
    assert cassandra.run(nearest, unit(1)) == [["far"]]
