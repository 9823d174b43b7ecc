from __future__ import annotations

import asyncio

import orjson
import pytest

from connectors.stores.error_attribution import ErrorAttribution
from connectors.stores.stargate.bulk import FAILING_S
from connectors.stores.stargate.custom import StargateCustom
from gibsey_embedder.fakes.message import Request
from gibsey_embedder.fakes.stargate.server import Stargate
from tests.connectors.stores.writers import (
    HurriedClock,
    Watched,
    delete_of,
    pages,
    rest_of,
    row_of,
    until,
    with_writer,
    write,
)


def custom_of(server: Stargate, watched: Watched, rows=100, url=None, failing_s=FAILING_S, **rest):
    return lambda http: StargateCustom(
        rest_of(server, watched, **rest)(http), url or server.bulk_url, rows, failing_s
    )


def holds(page_id: str):
    return lambda request: f'"{page_id}"'.encode() in request.body


def test_rows_are_one_put_in_the_agreed_shape(stargate, watched):
    seen: list[Request] = []

    async def reply_to(request):
        seen.append(request)
        return await Stargate.reply_to(stargate, request)

    stargate.reply_to = reply_to
    rows = pages(100)
    assert write(custom_of(stargate, watched), *rows) == {}
    assert len(seen) == 1
    assert (seen[0].method, seen[0].path) == ("PUT", "/bulk")
    assert seen[0].headers["X-Cassandra-Token"] == "demo-token"
    sent = orjson.loads(seen[0].body)
    assert [set(row) for row in sent] == [{"page_id", "vector"}] * 100
    assert [row["page_id"] for row in sent] == [row.page_id for row in rows]
    assert stargate.vectors.vector("p5") == orjson.loads(rows[5].vector)
    assert watched.upserts == 100


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_any_2xx_means_that_all_are_stored(stargate, watched, status):
    stargate.faults.status(status, b"fine" if status != 204 else b"")
    assert write(custom_of(stargate, watched), *pages(3)) == {}
    assert watched.upserts == 3


def test_a_gateways_page_is_no_acknowledgement(stargate, watched):
    stargate.faults.html(times=1)
    assert write(custom_of(stargate, watched), *pages(3)) == {}
    assert len(stargate.vectors.rows) == 3


@pytest.mark.parametrize("status", [400, 409, 413, 422])
def test_a_refused_row_is_found_by_halving(stargate, watched, status):
    stargate.faults.status(status, b"will not", when=holds("bad"))
    rows = pages(100)
    rows[63] = row_of("bad")
    refused = write(custom_of(stargate, watched), *rows)
    assert set(refused) == {63}
    assert "will not" in refused[63].detail
    assert len(stargate.vectors.rows) == 99


def test_a_refusal_of_everything_empties_nothing_into_dead_letters(stargate, watched):
    stargate.faults.status(422, b"not like that")

    async def use(writer):
        writing = asyncio.ensure_future(writer.write(pages(40)))
        await until(lambda: "every row is rejected" in watched.stall("stargate"))
        stargate.faults.clear()
        return await writing

    assert with_writer(custom_of(stargate, watched), use) == {}
    assert len(stargate.vectors.rows) == 40


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_hard_times_are_waited_for(stargate, watched, status):
    stargate.faults.status(status, times=2)
    assert write(custom_of(stargate, watched), *pages(10)) == {}
    assert stargate.stats.requests == 3


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_a_service_that_is_not_there_or_closed_is_the_setups_fault(stargate, watched, status):
    stargate.faults.status(status, b"no")

    async def use(writer):
        writing = asyncio.ensure_future(writer.write(pages(10)))
        words = await until(lambda: watched.stall("stargate"))
        stargate.faults.clear()
        return words, await writing

    words, refused = with_writer(custom_of(stargate, watched), use)
    assert ("STARGATE_AUTH_TOKEN" if status == 401 else "STARGATE_BULK_URL") in words
    assert refused == {}


def test_500s_that_never_heal_end_as_that_rows_refusal_alone(stargate, watched, monkeypatch):
    monkeypatch.setattr("connectors.http.retry.LONGEST_WAIT_S", 0.02)
    stargate.faults.status(500, b"stumbled", when=holds("bad"))
    rows = pages(20)
    rows[4] = row_of("bad")
    refused = write(
        custom_of(
            stargate,
            watched,
            failing_s=0.05,
            attribution=ErrorAttribution(HurriedClock(step_s=4)),
        ),
        *rows,
    )
    assert set(refused) == {4}
    assert "stumbled" in refused[4].detail
    assert len(stargate.vectors.rows) == 19


def test_deletes_go_by_rest(stargate, watched):
    make = custom_of(stargate, watched)
    write(make, row_of("a"), row_of("b"))
    assert write(make, delete_of("a"), row_of("c")) == {}
    assert set(stargate.vectors.rows) == {"b", "c"}
