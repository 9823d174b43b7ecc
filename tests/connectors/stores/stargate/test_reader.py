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
def test_a_scan_reads_all_rows_in_pages(stargate: Stargate, count: int) -> None:
    ids = seed(stargate, count)
    assert over(stargate, listed(3)) == ids


def test_a_scan_continues_after_a_position(stargate: Stargate) -> None:
    ids = seed(stargate, 10)

    async def first_state(reader: StargateReader[str]) -> str | None:
        async for chunk in reader.scan(4):
            return chunk.next_position
        return None

    assert over(stargate, listed(4, over(stargate, first_state))) == ids[4:]


def test_an_empty_page_is_not_the_end(stargate: Stargate) -> None:
    ids = seed(stargate, 3)
    stargate.faults.status(200, b'{"count":0,"pageState":"1+0/==","data":[]}', times=1)
    assert over(stargate, listed(5)) == ids


def test_a_repeated_position_ends_the_scan(stargate: Stargate) -> None:
    stargate.faults.status(200, b'{"count":0,"pageState":"again","data":[]}')
    with pytest.raises(GaveUpError, match="again and again"):
        over(stargate, listed(5))


def test_an_invalid_position_is_rejected(stargate: Stargate) -> None:
    seed(stargate, 3)
    with pytest.raises(PageStateError, match="page-state"):
        over(stargate, listed(5, "of another time"))


@pytest.mark.parametrize("page_id", ["a/b", " x", "'a'", "..", "it's", "ü?#%", "rows"])
def test_one_row_is_read_and_deleted_whatever_its_id(stargate: Stargate, page_id: str) -> None:
    stargate.pages.seed([("other", {"body": "text"}), (page_id, {"body": "text"})])
    assert over(stargate, lambda reader: reader.get(page_id)) == page_id
    over(stargate, lambda reader: reader.delete(page_id))
    assert over(stargate, lambda reader: reader.get(page_id)) is None
    assert list(stargate.pages.rows) == ["other"]


def test_nan_without_quotes_is_read(stargate: Stargate) -> None:
    stargate.faults.status(200, b'{"count":1,"data":[{"page_id":"p","body":NaN}]}', times=1)
    assert over(stargate, listed(5)) == ["p"]


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_transient_error_is_printed_and_retried(stargate: Stargate, status: int) -> None:
    ids = seed(stargate, 3)
    stargate.faults.status(status, b"overloaded", times=2)
    console = Console(width=200)
    with console.capture() as stall:
        assert over(stargate, listed(5), console=console) == ids
    assert f"answered {status}: overloaded" in stall.get()


def test_a_lasting_error_is_given_up(stargate: Stargate) -> None:
    stargate.faults.status(503, b"overloaded")
    with pytest.raises(GaveUpError, match=r"answered 503: overloaded \(retried for 0 s\)"):
        over(stargate, listed(5), limit_s=0.2)


def test_a_setup_error_has_a_remedy_at_once(stargate: Stargate) -> None:
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
