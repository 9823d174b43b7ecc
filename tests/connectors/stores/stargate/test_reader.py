"""Rows read through Stargate's REST API, over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
from rich.console import Console

from connectors.http.client import HttpClient
from connectors.stores.base import PageStateError
from connectors.stores.stargate.auth import FixedToken
from connectors.stores.stargate.reader import StargateReader
from connectors.stores.stargate.session import StargateSession
from connectors.stores.stargate.table import StargateTable
from gibsey_embedder.fakes.stargate.server import TOKEN, Stargate
from gibsey_embedder.terminal.retry_policy import GaveUpError, RetryPolicy

T = TypeVar("T")


def over(
    stargate: Stargate,
    work: Callable[[StargateReader[str]], Awaitable[T]],
    *,
    table: str = "pages",
    limit_s: float = 5.0,
    console: Console | None = None,
) -> T:
    """Use a reader of a table, whose rows are their ids."""

    async def use() -> T:
        http = HttpClient()
        retry_policy = RetryPolicy(console or Console(quiet=True), limit_s)
        reader = StargateReader(
            StargateSession(http, FixedToken(TOKEN)),
            StargateTable(stargate.url, "gibsey", table),
            "STARGATE_PAGES_TABLE",
            ["page_id", "body"],
            _id_of,
            retry_policy.call,
        )
        try:
            return await work(reader)
        finally:
            await http.close()

    return asyncio.run(use())


def _id_of(row: object) -> str:
    assert isinstance(row, dict)
    return str(row["page_id"])


def listed(
    size: int, state: str | None = None
) -> Callable[[StargateReader[str]], Awaitable[list[str]]]:
    async def work(reader: StargateReader[str]) -> list[str]:
        return [row async for chunk in reader.scan(size, state) for row in chunk.rows]

    return work


def seed(stargate: Stargate, count: int) -> list[str]:
    ids = [f"page {number}" for number in range(count)]
    stargate.pages.seed((page, {"body": "text"}) for page in ids)
    return ids


@pytest.mark.parametrize("count", [0, 1, 5, 6, 7])
def test_all_rows_are_listed_in_chunks(stargate: Stargate, count: int) -> None:
    ids = seed(stargate, count)
    assert over(stargate, listed(3)) == ids


def test_a_listing_goes_on_behind_a_state(stargate: Stargate) -> None:
    ids = seed(stargate, 10)

    async def first_state(reader: StargateReader[str]) -> str | None:
        async for chunk in reader.scan(4):
            return chunk.next_position
        return None

    assert over(stargate, listed(4, over(stargate, first_state))) == ids[4:]


def test_a_chunk_without_rows_is_not_the_end(stargate: Stargate) -> None:
    ids = seed(stargate, 3)
    stargate.faults.status(200, b'{"count":0,"pageState":"1+0/==","data":[]}', times=1)
    assert over(stargate, listed(5)) == ids


def test_a_state_that_comes_again_ends_the_listing(stargate: Stargate) -> None:
    stargate.faults.status(200, b'{"count":0,"pageState":"again","data":[]}')
    with pytest.raises(GaveUpError, match="again and again"):
        over(stargate, listed(5))


def test_a_state_that_is_none_any_more_is_told(stargate: Stargate) -> None:
    seed(stargate, 3)
    with pytest.raises(PageStateError, match="page-state"):
        over(stargate, listed(5, "of another time"))


@pytest.mark.parametrize("page_id", ["a/b", " x", "'a'", "..", "it's", "ü?#%", "rows"])
def test_one_row_is_read_and_removed_whatever_its_id(stargate: Stargate, page_id: str) -> None:
    stargate.pages.seed([("other", {"body": "text"}), (page_id, {"body": "text"})])
    assert over(stargate, lambda reader: reader.get(page_id)) == page_id
    over(stargate, lambda reader: reader.delete(page_id))
    assert over(stargate, lambda reader: reader.get(page_id)) is None
    assert list(stargate.pages.rows) == ["other"]


def test_numbers_that_are_no_json_are_read_all_the_same(stargate: Stargate) -> None:
    stargate.faults.status(200, b'{"count":1,"data":[{"page_id":"p","body":NaN}]}', times=1)
    assert over(stargate, listed(5)) == ["p"]


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_fault_that_passes_is_said_and_waited_for(stargate: Stargate, status: int) -> None:
    ids = seed(stargate, 3)
    stargate.faults.status(status, b"overloaded", times=2)
    console = Console(width=200)
    with console.capture() as said:
        assert over(stargate, listed(5), console=console) == ids
    assert f"answered {status}: overloaded" in said.get()


def test_a_fault_that_does_not_pass_is_given_up_on(stargate: Stargate) -> None:
    stargate.faults.status(503, b"overloaded")
    with pytest.raises(GaveUpError, match=r"answered 503: overloaded \(retried for 0 s\)"):
        over(stargate, listed(5), limit_s=0.2)


def test_what_will_not_heal_is_told_at_once_with_its_remedy(stargate: Stargate) -> None:
    with pytest.raises(
        GaveUpError, match=r"no table gibsey.no_pages.*correct STARGATE_PAGES_TABLE"
    ):
        over(stargate, listed(5), table="no_pages")
    stargate.rest_on_wrong_port = True
    with pytest.raises(GaveUpError, match="set STARGATE_URL to the REST API v2"):
        over(stargate, listed(5))
    stargate.rest_on_wrong_port = False
    stargate.tokens.fixed = None
    with pytest.raises(GaveUpError, match=r"refuses the token.*set STARGATE_AUTH_TOKEN"):
        over(stargate, listed(5))
