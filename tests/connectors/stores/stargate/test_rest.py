from __future__ import annotations

import asyncio
import socket

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.stores.error_attribution import ErrorAttribution
from gibsey_embedder.fakes.message import Request
from gibsey_embedder.fakes.stargate.server import Stargate
from tests.connectors.stores.writers import (
    FastClock,
    Watched,
    delete_of,
    rest_of,
    row_of,
    until,
    with_writer,
    write,
    write_and_repair,
)

ODD_IDS = [
    "a/b",
    "in side",
    "it's",
    '"a"',
    "rows",
    "..",
    ".",
    "%",
    "%2F",
    "?",
    "#",
    ";",
    "+",
    "tab\tand\nnewline",
    " x",
    "x ",
    "x",
    "'",
    "''",
    "'a'",
    "a",
    "  ",
    "\t",
    "日本語 🙂",
    "x\u00a0",
    "../../../v1/auth",
]


def test_a_row_is_put_with_its_vector_unchanged(stargate, watched):
    assert write(rest_of(stargate, watched), row_of("42", 7)) == {}
    assert stargate.vectors.rows["42"] == b'{"vector":' + row_of("42", 7).vector + b"}"
    assert watched.upserts == 1
    assert watched.requests("stargate") == 1
    assert watched.stall("stargate") == ""


def test_the_model_is_written_if_it_has_a_column(watched):
    columns = {"vector": "frozen<list<float>>", "model": "text"}
    with Stargate(tables={"page_vectors": columns}) as server:
        make = rest_of(server, watched, model_column="model")
        write(make, row_of("a", model='no"mic'), row_of("b", model=""))
        assert server.vectors.text("a", "model") == 'no"mic'
        assert len(server.vectors.vector("a")) == 768
        assert server.vectors.text("b", "model") is None


def test_every_odd_id_is_stored_exactly(stargate, watched):
    rows = [row_of(page_id, n) for n, page_id in enumerate(ODD_IDS)]
    assert write(rest_of(stargate, watched), *rows) == {}
    for row in rows:
        assert orjson.dumps(stargate.vectors.vector(row.page_id)) == row.vector
    assert set(stargate.vectors.rows) == set(ODD_IDS)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sets(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
        min_size=1,
        max_size=30,
    )
)
def test_any_set_of_ids_is_stored_exactly(stargate, page_ids):
    stargate.vectors.rows.clear()
    assert write(rest_of(stargate, Watched()), *map(row_of, page_ids)) == {}
    assert set(stargate.vectors.rows) == page_ids


def test_no_id_adds_a_header_or_a_request(stargate, watched):
    write(rest_of(stargate, watched), row_of("a HTTP/1.1\r\nX-Cassandra-Token: x\r\n\r\nDELETE /b"))
    assert stargate.stats.requests == 1
    assert len(stargate.vectors.rows) == 1


def test_a_row_without_vector_is_deleted_and_not_counted_as_upsert(stargate, watched):
    make = rest_of(stargate, watched)
    write(make, row_of("it's'"))
    assert write(make, delete_of("it's'"), delete_of("never there")) == {}
    assert stargate.vectors.rows == {}
    assert watched.upserts == 1


def test_rows_of_one_call_are_in_flight_together_up_to_the_limit(watched):
    with Stargate(delay_s=0.02) as server:
        write(rest_of(server, watched, concurrency=8), *(row_of(f"p{n}") for n in range(40)))
        assert server.stats.max_in_flight == 8
        assert len(server.vectors.rows) == 40


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_busy_service_is_retried(stargate, watched, status):
    stargate.faults.status(status, b'{"description":"later"}', times=3)
    assert write(rest_of(stargate, watched), row_of("a")) == {}
    assert set(stargate.vectors.rows) == {"a"}
    assert watched.count("gibsey_retries_total", service="stargate") == 3
    assert watched.stall("stargate") == ""


def test_retry_after_is_honoured(stargate, watched):
    stargate.faults.status(429, headers={"Retry-After": "1"}, times=1)
    write(rest_of(stargate, watched), row_of("a"))
    assert stargate.stats.last_at - stargate.stats.first_at >= 0.9


def test_retry_after_zero_still_pauses(stargate, watched):
    stargate.faults.status(503, headers={"Retry-After": "0"}, times=4)
    write(rest_of(stargate, watched), row_of("a"))
    assert stargate.stats.last_at - stargate.stats.first_at >= 0.3


@pytest.mark.parametrize("fault", ["cut", "drop", "garbage", "html"])
def test_a_missing_response_is_retried(stargate, watched, fault):
    getattr(stargate.faults, fault)(times=2)
    assert write(rest_of(stargate, watched), row_of("a")) == {}
    assert set(stargate.vectors.rows) == {"a"}


def test_a_hanging_stargate_is_retried_after_the_timeout(stargate, watched):
    stargate.faults.hang(times=1)
    assert write(rest_of(stargate, watched, timeout_s=0.2), row_of("a")) == {}
    assert set(stargate.vectors.rows) == {"a"}


def test_a_stored_write_that_was_answered_with_500_may_be_repeated(stargate, watched):
    reply = b'{"description":"Server error: WriteTimeoutException: received only 0 responses"}'
    stargate.faults.status(500, reply, times=2, done=True)
    assert write(rest_of(stargate, watched), row_of("a")) == {}
    assert stargate.vectors.writes["a"] == 3


def test_the_writer_waits_until_stargate_starts(watched):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    server = Stargate(port=port)
    stall, rejected = write_and_repair(rest_of(server, watched), watched, server.start, row_of("a"))
    server.stop()
    assert "cannot connect" in stall
    assert rejected == {}


def test_a_missing_table_is_reported_with_its_cql_until_it_exists(stargate, watched):
    table = stargate.drop_table("page_vectors")
    stall, rejected = write_and_repair(
        rest_of(stargate, watched), watched, lambda: stargate.add_table(table), row_of("a")
    )
    assert "CREATE TABLE gibsey.page_vectors (page_id text PRIMARY KEY, vector" in stall
    assert "STARGATE_TABLE" in stall
    assert rejected == {}
    assert set(table.rows) == {"a"}


def test_a_missing_keyspace_is_reported_with_its_cql(watched):
    with Stargate(keyspace="other") as server:

        def repair():
            server.keyspace = "gibsey"

        stall, _ = write_and_repair(rest_of(server, watched), watched, repair, row_of("a"))
    assert "CREATE KEYSPACE gibsey" in stall
    assert "STARGATE_KEYSPACE" in stall


def test_a_port_without_rest_is_recognised(watched):
    with Stargate(rest_on_wrong_port=True) as server:

        def repair():
            server.rest_on_wrong_port = False

        stall, rejected = write_and_repair(rest_of(server, watched), watched, repair, row_of("a"))
    assert "STARGATE_URL" in stall
    assert "8082" in stall
    assert rejected == {}


@pytest.mark.parametrize("column", ["vector", "model"])
def test_a_missing_column_is_a_setup_error_from_the_first_row_on(watched, column):
    columns = {"vector": "frozen<list<float>>", "model": "text"}
    with Stargate(tables={"page_vectors": columns}) as server:
        kind = server.vectors.columns.pop(column)

        def repair():
            server.vectors.columns[column] = kind

        make = rest_of(server, watched, model_column="model")
        stall, rejected = write_and_repair(make, watched, repair, row_of("a"))
    assert f"ALTER TABLE gibsey.page_vectors ADD {column} " in stall
    assert rejected == {}


def test_the_separate_rest_services_message_about_a_missing_column_is_recognised(stargate, watched):
    stargate.vectors.columns["model"] = "text"
    reply = (
        b'{"description":"Invalid path for row to update, problem: Unknown field name \'model\' '
        b'(table \'page_vectors\'); known fields: [page_id, vector]","code":400}'
    )
    stargate.faults.status(400, reply)
    make = rest_of(stargate, watched, model_column="model")
    stall, rejected = write_and_repair(make, watched, stargate.faults.clear, row_of("a"))
    assert "ALTER TABLE gibsey.page_vectors ADD model text" in stall
    assert rejected == {}


def test_a_redirect_is_reported_and_not_followed(stargate, watched):
    stargate.faults.status(308, headers={"Location": "http://elsewhere/"})
    stall, rejected = write_and_repair(
        rest_of(stargate, watched), watched, stargate.faults.clear, row_of("a")
    )
    assert "redirects" in stall
    assert "STARGATE_URL" in stall
    assert rejected == {}


def is_for(page_id: str):
    return lambda request: request.path.endswith("/" + page_id)


def test_a_rejected_row_does_not_affect_its_neighbours(stargate, watched):
    reply = b'{"description":"Bad request: odd","code":400}'
    stargate.faults.status(400, reply, when=is_for("bad"))
    rejected = write(rest_of(stargate, watched), row_of("bad"), row_of("a"), row_of("b"))
    assert set(stargate.vectors.rows) == {"a", "b"}
    assert list(rejected) == [0]
    assert rejected[0].reason == "refused-by-stargate"
    assert "Bad request: odd" in rejected[0].detail
    assert watched.stall("stargate") == ""


def test_a_transient_400_costs_no_row(stargate, watched):
    async def use(writer):
        await writer.write([row_of("before")])
        stargate.faults.status(400, b'{"description":"Bad request: not now","code":400}', times=3)
        return await writer.write([row_of("a"), row_of("b"), row_of("c")])

    assert with_writer(rest_of(stargate, watched), use) == {}
    assert set(stargate.vectors.rows) == {"before", "a", "b", "c"}


def test_a_400_for_every_row_causes_no_dead_letter(stargate, watched):
    stargate.faults.status(400, b'{"description":"Bad request: beyond us","code":400}')
    rows = [row_of(f"p{n}") for n in range(50)]

    async def use(writer):
        writing = asyncio.ensure_future(writer.write(rows))
        await until(lambda: "every row is rejected" in watched.stall("stargate"))
        stall = watched.stall("stargate")
        stargate.faults.clear()
        return stall, await writing

    stall, rejected = with_writer(rest_of(stargate, watched), use)
    assert "beyond us" in stall
    assert "CREATE TABLE" in stall
    assert rejected == {}
    assert len(stargate.vectors.rows) == 50


def test_an_empty_and_a_huge_id_are_rejected_at_once(stargate, watched):
    rejected = write(rest_of(stargate, watched), row_of(""), row_of("x" * 70_000), row_of("a"))
    assert set(rejected) == {0, 1}
    assert "empty" in rejected[0].detail
    assert "too long" in rejected[1].detail


def test_a_lone_surrogate_is_rejected_without_a_request(stargate, watched):
    rejected = write(rest_of(stargate, watched), row_of("\ud800"))
    assert "surrogate" in rejected[0].detail
    assert stargate.stats.requests == 0


def is_bad_put(request: Request) -> bool:
    return request.method == "PUT" and request.path.endswith("/bad")


def test_a_row_that_always_gets_500_is_rejected_alone(stargate, watched, monkeypatch):
    monkeypatch.setattr("connectors.http.retry.LONGEST_WAIT_S", 0.05)
    stargate.faults.status(500, b'{"description":"Server error: index 1"}', when=is_bad_put)
    make = rest_of(stargate, watched, attribution=ErrorAttribution(FastClock(step_s=4)))
    rejected = write(make, row_of("bad"), row_of("a"), row_of("b"))
    assert set(stargate.vectors.rows) == {"a", "b"}
    assert list(rejected) == [0]
    assert "Server error: index 1" in rejected[0].detail


def test_500s_for_every_row_are_retried_however_long(stargate, watched, monkeypatch):
    monkeypatch.setattr("connectors.http.retry.LONGEST_WAIT_S", 0.02)
    stargate.faults.status(500, b'{"description":"Server error: boom"}')
    make = rest_of(stargate, watched, attribution=ErrorAttribution(FastClock(step_s=60)))
    rows = [row_of(f"p{n}") for n in range(10)]

    async def use(writer):
        writing = asyncio.ensure_future(writer.write(rows))
        await until(lambda: stargate.stats.requests >= 400)
        stargate.faults.clear()
        return await writing

    assert with_writer(make, use) == {}
    assert len(stargate.vectors.rows) == 10


def test_a_writer_shows_no_secret(stargate, watched):
    async def use(writer):
        return f"{writer!r} {writer.session!r} {vars(writer)!r}"

    assert "demo-token" not in with_writer(rest_of(stargate, watched), use)
