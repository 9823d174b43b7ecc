"""A real schema registry, over HTTP."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import httpx
import pytest

from tests.real.servers import given

pytestmark = [pytest.mark.real, pytest.mark.registry]

PAGE = {
    "type": "record",
    "name": "Page",
    "fields": [{"name": "page_id", "type": "string"}, {"name": "body", "type": "string"}],
}


@pytest.fixture
def registry() -> Iterator[httpx.Client]:
    with httpx.Client(base_url=given("TEST_SCHEMA_REGISTRY_URL"), timeout=30) as client:
        yield client


def test_an_avro_schema_is_read_back_by_its_id(registry: httpx.Client):
    subject = f"test-{uuid.uuid4().hex}-value"
    registered = registry.post(f"/subjects/{subject}/versions", json={"schema": json.dumps(PAGE)})
    schema_id = registered.raise_for_status().json()["id"]
    found = registry.get(f"/schemas/ids/{schema_id}").raise_for_status().json()
    assert json.loads(found["schema"]) == PAGE


def test_an_unknown_id_is_not_found(registry: httpx.Client):
    assert registry.get("/schemas/ids/1000000").status_code == 404
