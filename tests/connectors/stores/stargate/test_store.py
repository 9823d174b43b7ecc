"""Stargate behind the interface of a vector store."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from connectors.core.errors import ConfigurationError
from connectors.observability.metrics import Metrics
from connectors.observability.stalls import Stalls
from connectors.stores.base import VectorStore
from connectors.stores.stargate.config import StargateConfig
from connectors.stores.stargate.custom import StargateCustom
from connectors.stores.stargate.graphql import StargateGraphql
from connectors.stores.stargate.rest import StargateRest
from connectors.stores.stargate.store import StargateStore
from gibsey_embedder.fakes.ngrams import embed_text
from gibsey_embedder.fakes.stargate.server import TOKEN, Stargate
from tests.connectors.http.clients import using

CONFIG = StargateConfig("http://stargate:8082", token="t0ken", password="s3cret")


def with_store(stargate: Stargate, use: Any, **changed: Any) -> Any:
    config = StargateConfig(stargate.url, token=TOKEN, **changed)
    return using(lambda http: StargateStore(config, http), use)


@pytest.mark.parametrize(
    ("bulk", "writer"),
    [("rest", StargateRest), ("graphql", StargateGraphql), ("custom", StargateCustom)],
)
def test_the_configuration_selects_the_writer(
    stargate: Stargate, bulk: str, writer: type[object]
) -> None:
    async def use(store: VectorStore) -> object:
        metrics = Metrics()
        return store.open_writer(Stalls(metrics), metrics)

    assert isinstance(with_store(stargate, use, bulk=bulk), writer)


def test_the_nearest_vectors_are_found_and_counted(stargate: Stargate) -> None:
    texts = {"zip": "compress archives with zip", "http": "a client for the http protocol"}
    stargate.vectors.seed((page, {"vector": embed_text(text)}) for page, text in texts.items())
    stargate.vectors.seed([("short", {"vector": [1.0]})])
    compared: list[int] = []

    async def use(store: VectorStore) -> Any:
        return await store.nearest(
            embed_text("zip archives"), 1, model=None, page_size=2, on_rows=compared.append
        )

    rows = with_store(stargate, use)
    assert [match.page_id for match in rows.matches] == ["zip"]
    assert (rows.compared, rows.unfit, rows.sizes) == (2, 1, {1: 1})
    assert sum(compared) == 3


def test_a_body_that_is_not_text_names_the_setting(stargate: Stargate) -> None:
    stargate.pages.seed([("p", {"body": 7})])
    with pytest.raises(ConfigurationError, match="is not text") as caught:
        with_store(stargate, lambda store: store.pages.get("p"))
    assert caught.value.remedy == "correct STARGATE_PAGES_TABLE"


def test_a_missing_token_is_a_warning(stargate: Stargate) -> None:
    async def use(store: VectorStore) -> Any:
        return store.check_settings()

    assert with_store(stargate, use) == []
    config = StargateConfig(stargate.url)
    (finding,) = using(lambda http: StargateStore(config, http), use)
    assert (finding.result, "STARGATE_AUTH_TOKEN" in finding.remedy) == ("warning", True)


def test_the_table_is_described(stargate: Stargate) -> None:
    (finding,) = with_store(stargate, lambda store: store.describe())
    assert (finding.check, finding.result) == ("stargate table", "good")


def test_no_secret_is_in_the_repr_of_the_configuration() -> None:
    assert "t0ken" not in repr(CONFIG)
    assert "s3cret" not in repr(dataclasses.replace(CONFIG, username="cassandra"))


def test_the_address_shows_no_secret(stargate: Stargate) -> None:
    async def use(store: VectorStore) -> str:
        return store.address

    url = stargate.url.replace("http://", "http://user:hidden@")
    store = using(lambda http: StargateStore(StargateConfig(url), http), use)
    assert store == stargate.url
