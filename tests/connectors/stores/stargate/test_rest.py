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
    HurriedClock,
    Watched,
    delete_of,
    heals,
    rest_of,
    row_of,
    until,
    with_writer,
    write,
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


def test_a_row_is_put_with_its_vector_passed_through(stargate, watched):
    assert write(rest_of(stargate, watched), row_of("42", 7)) == {}
    assert stargate.vectors.rows["42"] == b'{"vector":' + row_of("42", 7).vector + b"}"
    assert watched.upserts == 1
    assert watched.requests("stargate") == 1
    assert watched.stall("stargate") == ""


def test_the_model_is_written_where_a_column_is_named_for_it(watched):
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
def test_hard_times_are_waited_for(stargate, watched, status):
    stargate.faults.status(status, b'{"description":"later"}', times=3)
    assert write(rest_of(stargate, watched), row_of("a")) == {}
    assert set(stargate.vectors.rows) == {"a"}
    assert watched.count("gibsey_retries_total", service="stargate") == 3
    assert watched.stall("stargate") == ""


def test_retry_after_is_honoured(stargate, watched):
    stargate.faults.status(429, headers={"Retry-After": "1"}, times=1)
    write(rest_of(stargate, watched), row_of("a"))
    assert stargate.stats.last_at - stargate.stats.first_at >= 0.9


def test_retry_after_zero_is_no_loop_without_pause(stargate, watched):
    stargate.faults.status(503, headers={"Retry-After": "0"}, times=4)
    write(rest_of(stargate, watched), row_of("a"))
    assert stargate.stats.last_at - stargate.stats.first_at >= 0.3


@pytest.mark.parametrize("fault", ["cut", "drop", "garbage", "html"])
def test_what_is_no_answer_is_asked_again(stargate, watched, fault):
    getattr(stargate.faults, fault)(times=2)
    assert write(rest_of(stargate, watched), row_of("a")) == {}
    assert set(stargate.vectors.rows) == {"a"}


def test_a_hanging_stargate_is_asked_again_after_the_time_limit(stargate, watched):
    stargate.faults.hang(times=1)
    assert write(rest_of(stargate, watched, timeout_s=0.2), row_of("a")) == {}
    assert set(stargate.vectors.rows) == {"a"}


def test_a_write_that_was_answered_500_and_stored_is_harmless_again(stargate, watched):
    words = b'{"description":"Server error: WriteTimeoutException: received only 0 responses"}'
    stargate.faults.status(500, words, times=2, done=True)
    assert write(rest_of(stargate, watched), row_of("a")) == {}
    assert stargate.vectors.writes["a"] == 3


def test_a_stargate_that_is_not_there_yet_is_waited_for(watched):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    server = Stargate(port=port)
    words, refused = heals(rest_of(server, watched), watched, server.start, row_of("a"))
    server.stop()
    assert "cannot connect" in words
    assert refused == {}


def test_a_missing_table_is_named_with_its_cql_and_heals(stargate, watched):
    table = stargate.drop_table("page_vectors")
    words, refused = heals(
        rest_of(stargate, watched), watched, lambda: stargate.add_table(table), row_of("a")
    )
    assert "CREATE TABLE gibsey.page_vectors (page_id text PRIMARY KEY, vector" in words
    assert "STARGATE_TABLE" in words
    assert refused == {}
    assert set(table.rows) == {"a"}


def test_a_missing_keyspace_is_named_with_its_cql(watched):
    with Stargate(keyspace="other") as server:

        def heal():
            server.keyspace = "gibsey"

        words, _ = heals(rest_of(server, watched), watched, heal, row_of("a"))
    assert "CREATE KEYSPACE gibsey" in words
    assert "STARGATE_KEYSPACE" in words


def test_a_port_without_rest_is_recognised(watched):
    with Stargate(rest_on_wrong_port=True) as server:

        def heal():
            server.rest_on_wrong_port = False

        words, refused = heals(rest_of(server, watched), watched, heal, row_of("a"))
    assert "STARGATE_URL" in words
    assert "8082" in words
    assert refused == {}


@pytest.mark.parametrize("column", ["vector", "model"])
def test_a_missing_column_is_the_setups_fault_from_the_first_row_on(watched, column):
    columns = {"vector": "frozen<list<float>>", "model": "text"}
    with Stargate(tables={"page_vectors": columns}) as server:
        kind = server.vectors.columns.pop(column)

        def heal():
            server.vectors.columns[column] = kind

        make = rest_of(server, watched, model_column="model")
        words, refused = heals(make, watched, heal, row_of("a"))
    assert f"ALTER TABLE gibsey.page_vectors ADD {column} " in words
    assert refused == {}


def test_the_separate_rest_service_has_its_own_words_for_a_missing_column(stargate, watched):
    stargate.vectors.columns["model"] = "text"
    words = (
        b'{"description":"Invalid path for row to update, problem: Unknown field name \'model\' '
        b'(table \'page_vectors\'); known fields: [page_id, vector]","code":400}'
    )
    stargate.faults.status(400, words)
    make = rest_of(stargate, watched, model_column="model")
    said, refused = heals(make, watched, stargate.faults.clear, row_of("a"))
    assert "ALTER TABLE gibsey.page_vectors ADD model text" in said
    assert refused == {}


def test_a_redirect_is_not_followed_and_said(stargate, watched):
    stargate.faults.status(308, headers={"Location": "http://elsewhere/"})
    words, refused = heals(rest_of(stargate, watched), watched, stargate.faults.clear, row_of("a"))
    assert "redirects" in words
    assert "STARGATE_URL" in words
    assert refused == {}


def is_for(page_id: str):
    return lambda request: request.path.endswith("/" + page_id)


def test_a_refused_row_does_not_take_its_neighbours_along(stargate, watched):
    words = b'{"description":"Bad request: odd","code":400}'
    stargate.faults.status(400, words, when=is_for("bad"))
    refused = write(rest_of(stargate, watched), row_of("bad"), row_of("a"), row_of("b"))
    assert set(stargate.vectors.rows) == {"a", "b"}
    assert list(refused) == [0]
    assert refused[0].reason == "refused-by-stargate"
    assert "Bad request: odd" in refused[0].detail
    assert watched.stall("stargate") == ""


def test_a_400_that_passes_costs_no_row(stargate, watched):
    async def use(writer):
        await writer.write([row_of("before")])
        stargate.faults.status(400, b'{"description":"Bad request: not now","code":400}', times=3)
        return await writer.write([row_of("a"), row_of("b"), row_of("c")])

    assert with_writer(rest_of(stargate, watched), use) == {}
    assert set(stargate.vectors.rows) == {"before", "a", "b", "c"}


def test_a_400_that_every_row_gets_empties_nothing_into_dead_letters(stargate, watched):
    stargate.faults.status(400, b'{"description":"Bad request: beyond us","code":400}')
    rows = [row_of(f"p{n}") for n in range(50)]

    async def use(writer):
        writing = asyncio.ensure_future(writer.write(rows))
        await until(lambda: "every row is rejected" in watched.stall("stargate"))
        words = watched.stall("stargate")
        stargate.faults.clear()
        return words, await writing

    words, refused = with_writer(rest_of(stargate, watched), use)
    assert "beyond us" in words
    assert "CREATE TABLE" in words
    assert refused == {}
    assert len(stargate.vectors.rows) == 50


def test_an_empty_and_a_huge_id_are_refused_at_once(stargate, watched):
    refused = write(rest_of(stargate, watched), row_of(""), row_of("x" * 70_000), row_of("a"))
    assert set(refused) == {0, 1}
    assert "empty" in refused[0].detail
    assert "too long" in refused[1].detail


def test_a_lone_surrogate_is_refused_without_a_request(stargate, watched):
    refused = write(rest_of(stargate, watched), row_of("\ud800"))
    assert "surrogate" in refused[0].detail
    assert stargate.stats.requests == 0


def is_bad_put(request: Request) -> bool:
    return request.method == "PUT" and request.path.endswith("/bad")


def test_500s_that_never_heal_end_as_that_rows_refusal_alone(stargate, watched, monkeypatch):
    monkeypatch.setattr("connectors.http.retry.LONGEST_WAIT_S", 0.05)
    stargate.faults.status(500, b'{"description":"Server error: index 1"}', when=is_bad_put)
    make = rest_of(stargate, watched, attribution=ErrorAttribution(HurriedClock(step_s=4)))
    refused = write(make, row_of("bad"), row_of("a"), row_of("b"))
    assert set(stargate.vectors.rows) == {"a", "b"}
    assert list(refused) == [0]
    assert "Server error: index 1" in refused[0].detail


def test_500s_to_everybody_are_waited_for_however_long(stargate, watched, monkeypatch):
    monkeypatch.setattr("connectors.http.retry.LONGEST_WAIT_S", 0.02)
    stargate.faults.status(500, b'{"description":"Server error: boom"}')
    make = rest_of(stargate, watched, attribution=ErrorAttribution(HurriedClock(step_s=60)))
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
