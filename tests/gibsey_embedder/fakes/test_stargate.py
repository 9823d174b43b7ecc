"""The fake Stargate responds like the real version 2.0.51."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import quote

import aiohttp
import httpx
import pytest
from yarl import URL

from gibsey_embedder.fakes.ngrams import embed_text
from gibsey_embedder.fakes.stargate.auth import TOKEN_LIFE_S, IssuedTokens
from gibsey_embedder.fakes.stargate.server import Stargate
from tests.eventually import eventually

TOKEN = {"X-Cassandra-Token": "demo-token"}
TABLE = "/v2/keyspaces/gibsey/page_vectors"
BULK = (
    "mutation($v:[page_vectorsInput!]){bulkInsertpage_vectors(values:$v){applied value{page_id}}}"
)
VECTOR = [0.6, -0.8, 1e-07]


async def send(
    stargate: Stargate, method: str, path: str, body: bytes | None = None
) -> tuple[int, bytes]:
    """Send a path unchanged, which httpx would not do."""
    url = URL(stargate.url + path, encoded=True)
    async with (
        aiohttp.ClientSession(headers=TOKEN) as session,
        session.request(method, url, data=body) as response,
    ):
        return response.status, await response.read()


def put(stargate: Stargate, page_id: str, body: object = None) -> httpx.Response:
    given = {"vector": VECTOR} if body is None else body
    return httpx.put(f"{stargate.url}{TABLE}/{page_id}", json=given, headers=TOKEN)


def get(stargate: Stargate, path: str, **query: object) -> httpx.Response:
    return httpx.get(f"{stargate.url}{path}", params=query, headers=TOKEN)  # type: ignore[arg-type]


def bulk(stargate: Stargate, rows: Sequence[object], keyspace: str = "gibsey") -> httpx.Response:
    order = {"query": BULK, "variables": {"v": rows}}
    return httpx.post(f"{stargate.graphql_url}/{keyspace}", json=order, headers=TOKEN)


def test_a_put_returns_the_row_and_raw_omits_the_wrapper(stargate: Stargate) -> None:
    assert put(stargate, "a").json() == {"data": {"vector": VECTOR}}
    assert put(stargate, "a?raw=true").json() == {"vector": VECTOR}
    assert stargate.vectors.writes["a"] == 2
    assert [write.page_id for write in stargate.vectors.history] == ["a", "a"]


def test_a_row_is_returned_with_a_count_which_is_0_for_a_missing_row(stargate: Stargate) -> None:
    put(stargate, "a")
    row = {"page_id": "a", "vector": VECTOR}
    assert get(stargate, f"{TABLE}/a").json() == {"count": 1, "data": [row]}
    assert get(stargate, f"{TABLE}/a", raw="true").json() == [row]
    assert get(stargate, f"{TABLE}/b").json() == {"count": 0, "data": []}


def test_deleting_returns_204_even_without_a_row(stargate: Stargate) -> None:
    put(stargate, "a")
    for _ in range(2):
        assert httpx.delete(f"{stargate.url}{TABLE}/a", headers=TOKEN).status_code == 204
    assert not stargate.vectors.rows


def test_a_post_of_a_row_returns_201(stargate: Stargate) -> None:
    row = {"page_id": "a", "vector": VECTOR}
    response = httpx.post(f"{stargate.url}{TABLE}", json=row, headers=TOKEN)
    assert (response.status_code, response.json()) == (201, {"page_id": "a"})
    assert stargate.vectors.vector("a") == VECTOR


def test_rows_are_listed_page_by_page(stargate: Stargate) -> None:
    stargate.vectors.seed((f"p{n}", {"vector": VECTOR}) for n in range(7))
    seen, query = [], {"page-size": 3}
    while True:
        page = get(stargate, f"{TABLE}/rows", **query).json()
        assert page["count"] == len(page["data"]) <= 3
        seen += [row["page_id"] for row in page["data"]]
        if "pageState" not in page:
            break
        query["page-state"] = page["pageState"]
    assert seen == [f"p{n}" for n in range(7)]
    ids = get(stargate, f"{TABLE}/rows", fields="page_id").json()["data"]
    assert ids[0] == {"page_id": "p0"}


def test_floats_are_returned_as_the_shortest_text_of_their_float32(stargate: Stargate) -> None:
    put(stargate, "a", {"vector": [0.1234567890123, 0.1, 1e39, "NaN"]})
    row = get(stargate, f"{TABLE}/a").json()["data"][0]
    assert row["vector"] == [0.12345679, 0.1, "Infinity", "NaN"]


def test_vectors_of_the_fake_embedder_are_returned_unchanged(stargate: Stargate) -> None:
    vector = embed_text("some page about compressing archives")
    put(stargate, "a", {"vector": [*vector, 0.12345678901]})
    assert get(stargate, f"{TABLE}/a").json()["data"][0]["vector"][:768] == vector


@pytest.mark.parametrize(
    ("headers", "fault"),
    [
        ({}, "Missing token"),
        ({"X-Cassandra-Token": ""}, "authorization failed - missing token"),
        ({"X-Cassandra-Token": "x"}, "authorization failed - bad token"),
        (
            {"X-Cassandra-Token": "11111111-1111-1111-1111-111111111111"},
            "authorization failed",
        ),
    ],
)
def test_a_wrong_token_returns_401_with_the_reason(
    stargate: Stargate, headers: dict[str, str], fault: str
) -> None:
    response = httpx.get(f"{stargate.url}{TABLE}/a", headers=headers)
    body = {"description": f"Role unauthorized for operation: {fault}", "code": 401}
    assert (response.status_code, response.json()) == (401, body)
    response = httpx.post(f"{stargate.graphql_url}/gibsey", json={}, headers=headers)
    assert (response.status_code, response.json()) == (401, {"errors": ["Authentication required"]})


def test_tokens_are_issued_and_expire() -> None:
    with Stargate(token=None, users={"u": "p"}) as stargate:
        wrong = httpx.post(stargate.auth_url, json={"username": "u", "password": "x"})
        assert wrong.status_code == 401
        assert wrong.json()["description"].startswith("Failed to create token: ")
        given = httpx.post(stargate.auth_url, json={"username": "u", "password": "p"})
        assert given.status_code == 201
        headers = {"X-Cassandra-Token": given.json()["authToken"]}

        def status() -> int:
            return httpx.get(f"{stargate.url}{TABLE}/a", headers=headers).status_code

        assert status() == 200
        stargate.tokens.expire()
        assert status() == 401


def test_each_use_extends_a_token() -> None:
    now = 0.0
    tokens = IssuedTokens(None, {"u": "p"}, clock=lambda: now)
    token = tokens.issue("u", "p")
    for _ in range(3):
        now += TOKEN_LIFE_S - 1
        assert tokens.error(token) is None
    now += TOKEN_LIFE_S + 1
    assert tokens.error(token) == "authorization failed"


def test_unknown_keyspaces_tables_and_paths_return_404(stargate: Stargate) -> None:
    for path in ("/v2/keyspaces/no/page_vectors/a", "/v2/keyspaces/gibsey/no/a", "/else"):
        assert get(stargate, path).status_code == 404
    assert bulk(stargate, [], keyspace="no").status_code == 404
    table = stargate.drop_table("page_vectors")
    assert put(stargate, "a").status_code == 404
    stargate.add_table(table)
    assert put(stargate, "a").status_code == 200


def test_the_graphql_port_returns_404_for_all_rest_requests() -> None:
    with Stargate(rest_on_wrong_port=True) as stargate:
        response = put(stargate, "a")
    assert (response.status_code, response.json()) == (
        404,
        {"code": 404, "message": "HTTP 404 Not Found"},
    )


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"page_id":"a","vector":[1.0]}', 400),
        (b'{"colour":"red"}', 400),
        (b'{"vector":["word"]}', 400),
        (b'{"vector":[true]}', 400),
        (b'{"vector":[NaN]}', 400),
        (b"", 400),
        (b"not json", 400),
        (b'{"vector":[1.0,null]}', 500),
        (b"{}", 500),
        (b'{"vector":[1e39]}', 200),
        (b'{"vector":["NaN"]}', 200),
        (b'{"vector":[]}', 200),
    ],
)
def test_bodies_are_rejected_or_accepted_as_by_stargate(
    stargate: Stargate, body: bytes, status: int
) -> None:
    response = httpx.put(f"{stargate.url}{TABLE}/a", content=body, headers=TOKEN)
    assert response.status_code == status
    assert len(stargate.vectors.rows) == (status == 200)


EXACT = [
    "a/b",
    "a b",
    "né",
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
    "a\tb\nc",
]


def encoded(page_id: str) -> str:
    return quote(page_id, safe="").replace(".", "%2E")


@pytest.mark.parametrize("page_id", EXACT)
def test_most_ids_are_unchanged_in_the_path(stargate: Stargate, page_id: str) -> None:
    status, _ = asyncio.run(
        send(stargate, "PUT", f"{TABLE}/{encoded(page_id)}", b'{"vector":[1.0]}')
    )
    assert status == 200
    assert list(stargate.vectors.rows) == [page_id]


@pytest.mark.parametrize(
    ("sent", "stored"),
    [(" x", "x"), ("x\n", "x"), ("'a'", "a"), ("' x'", " x"), ("'it''s'", "it's"), ("''''", "'")],
)
def test_ids_are_trimmed_and_outer_quotes_are_removed(
    stargate: Stargate, sent: str, stored: str
) -> None:
    asyncio.run(send(stargate, "PUT", f"{TABLE}/{encoded(sent)}", b'{"vector":[1.0]}'))
    assert list(stargate.vectors.rows) == [stored]


@pytest.mark.parametrize("page_id", [" lead", "  ", "'", "''", "'a'", "..", ".", "it's", "x'"])
def test_an_id_in_quotes_is_unchanged(stargate: Stargate, page_id: str) -> None:
    wrapped = "'" + page_id.replace("'", "''") + "'"
    path = f"{TABLE}/{quote(wrapped, safe='')}"
    assert asyncio.run(send(stargate, "PUT", path, b'{"vector":[1.0]}'))[0] == 200
    assert list(stargate.vectors.rows) == [page_id]
    assert b'"count":1' in asyncio.run(send(stargate, "GET", path))[1]


@pytest.mark.parametrize(
    ("segment", "status"),
    [("", 405), ("%00", 400), ("%27", 500), ("a/b", 400), ("x" * 70_000, 414)],
)
def test_invalid_ids_are_rejected(stargate: Stargate, segment: str, status: int) -> None:
    path = f"{TABLE}/{segment}"
    assert asyncio.run(send(stargate, "PUT", path, b'{"vector":[1.0]}'))[0] == status


def test_literal_dot_segments_are_resolved(stargate: Stargate) -> None:
    assert asyncio.run(send(stargate, "PUT", f"{TABLE}/..", b'{"vector":[1.0]}'))[0] != 200
    assert not stargate.vectors.rows


def test_a_graphql_bulk_stores_ids_unchanged(stargate: Stargate) -> None:
    rows = [{"page_id": page_id, "vector": VECTOR} for page_id in (" x", "'a'", "..")]
    response = bulk(stargate, rows)
    done = response.json()["data"]["bulkInsertpage_vectors"]
    assert done[0] == {"applied": True, "value": {"page_id": " x"}}
    assert list(stargate.vectors.rows) == [" x", "'a'", ".."]
    assert stargate.stats.items == 3


@pytest.mark.parametrize(
    "bad",
    [
        {"page_id": "b", "vector": ["word"]},
        {"page_id": "b", "vector": [None]},
        {"page_id": "b", "colour": "red"},
        {"page_id": None, "vector": VECTOR},
    ],
)
def test_one_invalid_row_rejects_the_whole_bulk_without_an_index(
    stargate: Stargate, bad: object
) -> None:
    response = bulk(stargate, [{"page_id": "a", "vector": VECTOR}, bad])
    assert response.status_code == 200
    assert response.json()["errors"]
    assert not stargate.vectors.rows


@pytest.mark.parametrize("page_id", ["", "x" * 70_000])
def test_an_invalid_id_rejects_only_its_own_row_of_a_bulk(stargate: Stargate, page_id: str) -> None:
    rows = [{"page_id": name, "vector": VECTOR} for name in ("a", page_id, "c")]
    response = bulk(stargate, rows)
    assert (response.status_code, "errors" in response.json()) == (200, True)
    assert sorted(stargate.vectors.rows) == ["a", "c"]


def test_either_of_two_rows_with_one_id_wins_in_a_bulk(stargate: Stargate) -> None:
    winners = set()
    for _ in range(20):
        bulk(stargate, [{"page_id": "a", "vector": [float(n)]} for n in range(2)])
        winners.add(tuple(stargate.vectors.vector("a") or ()))
    assert winners == {(0.0,), (1.0,)}


def test_the_custom_bulk_stores_all_or_nothing(stargate: Stargate) -> None:
    rows = [{"page_id": name, "vector": VECTOR} for name in ("a", "b")]
    response = httpx.put(stargate.bulk_url, json=rows, headers=TOKEN)
    assert response.status_code == 204
    assert sorted(stargate.vectors.rows) == ["a", "b"]
    bad = [*rows, {"page_id": "c", "vector": ["word"]}]
    assert httpx.put(stargate.bulk_url, json=bad, headers=TOKEN).status_code == 400
    assert httpx.put(stargate.bulk_url, json=rows).status_code == 401
    assert "c" not in stargate.vectors.rows


def test_the_schema_contains_columns_and_key(stargate: Stargate) -> None:
    table = get(stargate, "/v2/schemas/keyspaces/gibsey/tables/page_vectors").json()["data"]
    types = {column["name"]: column["typeDefinition"] for column in table["columnDefinitions"]}
    assert types == {"page_id": "text", "vector": "frozen<list<float>>"}
    assert table["primaryKey"]["partitionKey"] == ["page_id"]
    assert get(stargate, "/v2/schemas/keyspaces/gibsey/tables/no").status_code == 404
    assert get(stargate, "/v2/schemas/keyspaces/no").status_code == 404
    assert httpx.get(f"{stargate.url}/checker/readiness").status_code == 200


def test_an_unknown_column_is_rejected_with_the_message_of_each_request(
    stargate: Stargate,
) -> None:
    """According to its source code: a read fails with a null pointer, a write with a message."""
    put(stargate, "a")
    for path in ("a", "rows"):
        response = get(stargate, f"{TABLE}/{path}", fields="page_id,model")
        assert (response.status_code, response.json()["description"]) == (500, "Server error: null")
    response = put(stargate, "a", {"vector": VECTOR, "model": "m"})
    assert response.status_code == 400
    assert response.json()["description"] == "Bad request: Unknown field name 'model'."
    response = bulk(stargate, [{"page_id": "b", "vector": VECTOR, "model": "m"}])
    assert response.json()["errors"][0]["message"] == (
        "The variables input contains a field name 'model' that is not defined "
        "for input object type 'page_vectorsInput' "
    )
    assert list(stargate.vectors.rows) == ["a"]


def test_other_columns_keep_their_values() -> None:
    tables = {"page_vectors": {"vector": "list<float>", "model": "text"}}
    with Stargate(tables=tables) as stargate:
        put(stargate, "a", {"vector": [1.0], "model": "m"})
        put(stargate, "a", {"vector": [2.0]})
        row = {"page_id": "a", "vector": [2.0], "model": "m"}
        assert get(stargate, f"{TABLE}/a").json()["data"] == [row]


def test_tests_can_wait_for_rows(stargate: Stargate) -> None:
    assert not stargate.vectors.wait_for(1, timeout_s=0.01)
    put(stargate, "a")
    assert stargate.vectors.wait_for(1)
    assert stargate.vectors.wait_for_writes(1)
    eventually(lambda: stargate.stats.requests == 1)
