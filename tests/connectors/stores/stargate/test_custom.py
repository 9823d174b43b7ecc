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
    FastClock,
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


def test_rows_are_one_put_in_the_documented_form(stargate, watched):
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
def test_any_2xx_means_that_all_rows_are_stored(stargate, watched, status):
    stargate.faults.status(status, b"fine" if status != 204 else b"")
    assert write(custom_of(stargate, watched), *pages(3)) == {}
    assert watched.upserts == 3


def test_an_html_page_is_not_an_acknowledgement(stargate, watched):
    stargate.faults.html(times=1)
    assert write(custom_of(stargate, watched), *pages(3)) == {}
    assert len(stargate.vectors.rows) == 3


@pytest.mark.parametrize("status", [400, 409, 413, 422])
def test_a_rejected_row_is_found_by_halving(stargate, watched, status):
    stargate.faults.status(status, b"will not", when=holds("bad"))
    rows = pages(100)
    rows[63] = row_of("bad")
    rejected = write(custom_of(stargate, watched), *rows)
    assert set(rejected) == {63}
    assert "will not" in rejected[63].detail
    assert len(stargate.vectors.rows) == 99


def test_a_rejection_of_every_row_causes_no_dead_letter(stargate, watched):
    stargate.faults.status(422, b"not like that")

    async def use(writer):
        writing = asyncio.ensure_future(writer.write(pages(40)))
        await until(lambda: "every row is rejected" in watched.stall("stargate"))
        stargate.faults.clear()
        return await writing

    assert with_writer(custom_of(stargate, watched), use) == {}
    assert len(stargate.vectors.rows) == 40


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_busy_service_is_retried(stargate, watched, status):
    stargate.faults.status(status, times=2)
    assert write(custom_of(stargate, watched), *pages(10)) == {}
    assert stargate.stats.requests == 3


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_a_missing_or_forbidden_service_is_a_setup_error(stargate, watched, status):
    stargate.faults.status(status, b"no")

    async def use(writer):
        writing = asyncio.ensure_future(writer.write(pages(10)))
        stall = await until(lambda: watched.stall("stargate"))
        stargate.faults.clear()
        return stall, await writing

    stall, rejected = with_writer(custom_of(stargate, watched), use)
    assert ("STARGATE_AUTH_TOKEN" if status == 401 else "STARGATE_BULK_URL") in stall
    assert rejected == {}


def test_a_row_that_always_gets_500_is_rejected_alone(stargate, watched, monkeypatch):
    monkeypatch.setattr("connectors.http.retry.LONGEST_WAIT_S", 0.02)
    stargate.faults.status(500, b"stumbled", when=holds("bad"))
    rows = pages(20)
    rows[4] = row_of("bad")
    rejected = write(
        custom_of(
            stargate,
            watched,
            failing_s=0.05,
            attribution=ErrorAttribution(FastClock(step_s=4)),
        ),
        *rows,
    )
    assert set(rejected) == {4}
    assert "stumbled" in rejected[4].detail
    assert len(stargate.vectors.rows) == 19


def test_deletes_use_rest(stargate, watched):
    make = custom_of(stargate, watched)
    write(make, row_of("a"), row_of("b"))
    assert write(make, delete_of("a"), row_of("c")) == {}
    assert set(stargate.vectors.rows) == {"b", "c"}
