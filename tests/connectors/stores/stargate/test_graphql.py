from __future__ import annotations

import orjson
import pytest

from connectors.stores.stargate.bulk import FAILING_S
from connectors.stores.stargate.graphql import StargateGraphql, graphql_name
from gibsey_embedder.fakes.message import Request
from gibsey_embedder.fakes.stargate.server import Stargate
from tests.connectors.stores.writers import (
    Watched,
    delete_of,
    pages,
    rest_of,
    row_of,
    with_writer,
    write,
    write_and_repair,
)


def graphql_of(server: Stargate, watched: Watched, rows=100, url=None, failing_s=FAILING_S, **rest):
    return lambda http: StargateGraphql(
        rest_of(server, watched, **rest)(http), url or server.graphql_url, rows, failing_s
    )


def is_bulk(request: Request) -> bool:
    return request.path.startswith("/graphql")


def bulk_answer(*messages: str) -> bytes:
    return orjson.dumps({"errors": [{"message": message} for message in messages]})


def test_a_hundred_rows_are_one_request_with_unchanged_vectors(stargate, watched):
    rows = pages(100)
    assert write(graphql_of(stargate, watched), *rows) == {}
    assert stargate.stats.requests == 1
    for row in rows:
        assert orjson.dumps(stargate.vectors.vector(row.page_id)) == row.vector
    assert watched.upserts == 100
    assert watched.requests("stargate") == 1


def test_at_most_six_bulks_are_in_flight(stargate, watched):
    async def look(writer):
        return writer.concurrency, writer.rows_per_request

    assert with_writer(graphql_of(stargate, watched, 50), look) == (6, 50)
    assert with_writer(graphql_of(stargate, watched, concurrency=2), look) == (2, 100)


@pytest.mark.parametrize("page_id", ["'", " x", "..", "a/b", '"', "\\", "日本語", "tab\t", "}]"])
def test_ids_need_no_quoting(stargate, watched, page_id):
    assert write(graphql_of(stargate, watched), row_of(page_id), row_of("other")) == {}
    assert set(stargate.vectors.rows) == {page_id, "other"}


def test_the_model_is_written_if_it_has_a_column(watched):
    columns = {"vector": "frozen<list<float>>", "model": "text"}
    with Stargate(tables={"page_vectors": columns}) as server:
        write(graphql_of(server, watched, model_column="model"), row_of("a"), row_of("b"))
        assert server.vectors.text("b", "model") == "nomic"


def test_one_bad_row_in_a_hundred_is_rejected_alone(stargate, watched):
    rows = pages(100)
    rows[37] = row_of("bad", vector=b'["word"]')
    rejected = write(graphql_of(stargate, watched), *rows)
    assert set(rejected) == {37}
    assert rejected[37].reason == "refused-by-stargate"
    assert len(stargate.vectors.rows) == 99
    assert watched.stall("stargate") == ""


@pytest.mark.parametrize("page_id", ["", "x" * 70_000])
def test_an_id_that_fails_a_bulk_after_the_others_were_stored_is_found(stargate, watched, page_id):
    rows = pages(20)
    rows[11] = row_of(page_id)
    rejected = write(graphql_of(stargate, watched), *rows)
    assert set(rejected) == {11}
    assert len(stargate.vectors.rows) == 19
    assert watched.upserts == 19


def test_a_lone_surrogate_is_rejected_alone(stargate, watched):
    rejected = write(graphql_of(stargate, watched), row_of("a"), row_of("\ud800"), row_of("b"))
    assert set(rejected) == {1}
    assert set(stargate.vectors.rows) == {"a", "b"}


def test_deletes_use_rest_beside_the_bulk(stargate, watched):
    make = graphql_of(stargate, watched)
    write(make, row_of("a"), row_of("b"))
    assert write(make, delete_of("a"), row_of("c"), delete_of("b")) == {}
    assert set(stargate.vectors.rows) == {"c"}
    assert watched.upserts == 3


@pytest.mark.parametrize(
    "message",
    [
        "Operation timed out - received only 0 responses.",
        "Exception while fetching data (/bulkInsert) : WriteTimeoutException",
        "UnavailableException: Cannot achieve consistency level LOCAL_QUORUM",
    ],
)
def test_errors_of_a_busy_cassandra_are_retried(stargate, watched, message):
    stargate.faults.status(200, bulk_answer(message), times=2, when=is_bulk)
    assert write(graphql_of(stargate, watched), *pages(10)) == {}
    assert stargate.stats.requests == 3, "no halving, no row alone"


@pytest.mark.parametrize("fault", ["cut", "drop", "garbage", "html"])
def test_a_missing_response_is_retried(stargate, watched, fault):
    getattr(stargate.faults, fault)(times=2)
    assert write(graphql_of(stargate, watched), *pages(10)) == {}
    assert len(stargate.vectors.rows) == 10


def test_json_that_is_not_graphql_is_not_an_acknowledgement(stargate, watched):
    stargate.faults.status(200, b'{"status":"ok"}', times=1)
    assert write(graphql_of(stargate, watched), *pages(10)) == {}
    assert len(stargate.vectors.rows) == 10


def test_rows_that_were_not_applied_are_found(stargate, watched):
    field = [{"applied": True}, {"applied": False}]
    body = orjson.dumps({"data": {"bulkInsertpage_vectors": field}})
    stargate.faults.status(200, body, times=1)
    assert write(graphql_of(stargate, watched), row_of("a"), row_of("b")) == {}
    assert set(stargate.vectors.rows) == {"a", "b"}


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_service_is_retried(stargate, watched, status):
    stargate.faults.status(status, times=2)
    assert write(graphql_of(stargate, watched), *pages(10)) == {}


@pytest.mark.parametrize("status", [400, 413])
def test_a_bulk_that_is_too_large_is_halved(stargate, watched, status):
    def is_large(request: Request) -> bool:
        return is_bulk(request) and request.body.count(b"page_id") > 26  # one is in the query

    stargate.faults.status(status, when=is_large)
    assert write(graphql_of(stargate, watched), *pages(100)) == {}
    assert len(stargate.vectors.rows) == 100
    assert stargate.stats.requests == 1 + 2 + 4


def test_a_bulk_that_keeps_failing_is_sent_row_by_row(stargate, watched, monkeypatch):
    monkeypatch.setattr("connectors.http.retry.LONGEST_WAIT_S", 0.02)
    stargate.faults.status(500, b"boom", when=is_bulk)
    assert write(graphql_of(stargate, watched, failing_s=0.05), *pages(50)) == {}
    assert len(stargate.vectors.rows) == 50


def test_a_missing_table_is_reported_with_its_cql_until_it_exists(stargate, watched):
    table = stargate.drop_table("page_vectors")
    stall, rejected = write_and_repair(
        graphql_of(stargate, watched), watched, lambda: stargate.add_table(table), *pages(10)
    )
    assert "CREATE TABLE gibsey.page_vectors" in stall
    assert rejected == {}


@pytest.mark.parametrize(
    "message",
    [
        "Validation error of type FieldUndefined: Field 'bulkInsertpage_vectors' is undefined",
        "Validation error of type UnknownType: Unknown type page_vectorsInput",
    ],
)
def test_every_message_about_a_missing_table_is_recognised(stargate, watched, message):
    stargate.faults.status(200, bulk_answer(message))
    stall, _ = write_and_repair(
        graphql_of(stargate, watched), watched, stargate.faults.clear, *pages(10)
    )
    assert "CREATE TABLE gibsey.page_vectors" in stall


def test_a_missing_column_is_a_setup_error(stargate, watched):
    message = (
        "Variable 'v' has an invalid value: The variables input contains a field name 'vector' "
        "that is not defined for input object type 'page_vectorsInput'"
    )
    stargate.faults.status(200, bulk_answer(message))
    stall, _ = write_and_repair(
        graphql_of(stargate, watched), watched, stargate.faults.clear, *pages(10)
    )
    assert "ALTER TABLE gibsey.page_vectors ADD vector" in stall


def test_a_missing_keyspace_is_reported(stargate, watched):
    body = bulk_answer("Unknown keyspace 'gibsey'")
    stargate.faults.status(404, body)
    stall, _ = write_and_repair(
        graphql_of(stargate, watched), watched, stargate.faults.clear, *pages(3)
    )
    assert "CREATE KEYSPACE gibsey" in stall


def test_a_port_without_graphql_names_the_setting(stargate, watched):
    make = graphql_of(stargate, watched, url=f"{stargate.url}/v3/graphql")
    stargate.faults.status(404, b'{"code":404,"message":"HTTP 404 Not Found"}')

    def repair():
        stargate.faults.clear()
        stargate.faults.status(200, b'{"data":{"bulkInsertpage_vectors":[]}}')

    stall, _ = write_and_repair(make, watched, repair, *pages(3))
    assert "STARGATE_GRAPHQL_URL" in stall


def test_an_expired_token_is_renewed_and_a_rejected_one_reported(stargate, watched):
    stargate.faults.status(401, b'{"errors":["Authentication required"]}')
    stall, rejected = write_and_repair(
        graphql_of(stargate, watched), watched, stargate.faults.clear, *pages(10)
    )
    assert "STARGATE_AUTH_TOKEN" in stall
    assert rejected == {}


def test_a_role_without_modify_rejects_no_rows(stargate, watched):
    message = "UnauthorizedException: User worker has no MODIFY permission on <table page_vectors>"
    stargate.faults.status(200, bulk_answer(message))
    stall, rejected = write_and_repair(
        graphql_of(stargate, watched), watched, stargate.faults.clear, *pages(10)
    )
    assert "MODIFY" in stall
    assert rejected == {}


@pytest.mark.parametrize(
    ("table", "name"),
    [
        ("page_vectors", "page_vectors"),
        ("boxes", "boxes"),
        ("mixed_pages", "mix78_ed_pages"),
        ("max_pages", "max_pages"),
        ("x0_", "x78_0_"),
    ],
)
def test_a_table_has_the_name_that_stargate_gives_it(table, name):
    assert graphql_name(table) == name
