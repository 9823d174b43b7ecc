"""What the doctor says of Stargate; each fault is really there."""

from __future__ import annotations

import json

import pytest

from gibsey_embedder.doctor import stargate as stargate_check
from gibsey_embedder.fakes.faults import Fault
from gibsey_embedder.fakes.message import Reply
from gibsey_embedder.fakes.stargate.server import Stargate
from gibsey_embedder.fakes.stargate.table import Table
from tests.flow.worker import free_port
from tests.gibsey_embedder.doctor.examination import Examine


def test_rest_on_another_port_of_the_host_is_found(
    examine: Examine, stargate: Stargate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stargate_check, "REST_PORTS", (free_port(), stargate.port))
    with Stargate(rest_on_wrong_port=True) as graphql_port:
        examined = examine(STARGATE_URL=graphql_port.url)
    examined.told("stargate", "bad", "no REST API v2", f"set STARGATE_URL={stargate.url}")


def test_a_stargate_that_is_nowhere_is_told(examine: Examine) -> None:
    examined = examine(STARGATE_URL=f"http://127.0.0.1:{free_port()}")
    examined.told("stargate", "bad", "cannot connect", "start Stargate")


def test_a_wrong_token_is_told(examine: Examine) -> None:
    examined = examine(STARGATE_AUTH_TOKEN="s3cret")
    examined.told("stargate", "bad", "refuses the token", "STARGATE_AUTH_TOKEN")


def test_a_wrong_password_is_told(examine: Examine, stargate: Stargate) -> None:
    login = {"STARGATE_AUTH_TOKEN": "", "STARGATE_AUTH_URL": stargate.auth_url}
    login |= {"STARGATE_USERNAME": "cassandra"}
    examine(STARGATE_PASSWORD="cassandra", **login).told("stargate", "good", "takes the token")
    examined = examine(STARGATE_PASSWORD="wrong", **login)
    examined.told("stargate", "bad", "gives no token", "correct STARGATE_USERNAME")


def test_a_missing_keyspace_and_a_missing_table_are_told(
    examine: Examine, stargate: Stargate
) -> None:
    missing = examine(STARGATE_KEYSPACE="other")
    missing.told("stargate", "bad", "no keyspace other", "CREATE KEYSPACE other")
    stargate.drop_table("page_vectors")
    stargate.drop_table("pages")
    examined = examine(STARGATE_KEYSPACE="gibsey")
    examined.told("stargate", "bad", "no table gibsey.page_vectors", "CREATE TABLE")


def test_a_missing_pages_table_is_a_warning(examine: Examine, stargate: Stargate) -> None:
    stargate.drop_table("pages")
    examined = examine()
    examined.told("stargate pages", "warning", "gibsey.pages", "STARGATE_PAGES_TABLE")
    stargate.add_table(Table("pages", {"text": "text"}, 0))
    examine().told("stargate pages", "warning", "no column body")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"vector": "list<double>"}, ("vector", "is list<double>", "frozen<list<float>>")),
        ({"embedding": "list<float>"}, ("no column vector", "ADD vector")),
    ],
)
def test_wrong_columns_are_told(
    examine: Examine, stargate: Stargate, columns: dict[str, str], words: tuple[str, ...]
) -> None:
    stargate.add_table(Table("page_vectors", columns, 0))
    examine().told("stargate table", "bad", *words)


def test_a_missing_model_column_is_told(examine: Examine) -> None:
    examined = examine(STARGATE_MODEL_COLUMN="model")
    examined.told("stargate table", "bad", "no column model", "ADD model text")


def test_a_key_of_several_columns_is_told(examine: Examine, stargate: Stargate) -> None:
    described = {
        "columnDefinitions": [
            {"name": "page_id", "typeDefinition": "text"},
            {"name": "vector", "typeDefinition": "list<float>"},
        ],
        "primaryKey": {"partitionKey": ["page_id"], "clusteringKey": ["at"]},
    }
    answer = Reply(200, json.dumps({"data": described}).encode())
    stargate.faults.add(
        Fault("reply", reply=answer, when=lambda r: r.path.endswith("/page_vectors"))
    )
    examine().told("stargate table", "bad", "page_id, at", "make the table anew")


def test_a_write_is_tried_only_when_allowed_and_leaves_nothing(
    examine: Examine, stargate: Stargate
) -> None:
    examine("--write").told("stargate write", "good", "written and deleted")
    assert stargate.vectors.writes.total() == 1
    assert not stargate.vectors.rows


def test_a_role_that_may_not_write_is_told(examine: Examine, stargate: Stargate) -> None:
    refusal = Reply(401, b'{"description":"Role unauthorized for operation: x","code":401}')
    stargate.faults.add(Fault("reply", reply=refusal, when=lambda r: r.method == "PUT"))
    examine("--write").told("stargate write", "bad", "lacks MODIFY")


def test_graphql_that_is_not_there_is_told(examine: Examine, stargate: Stargate) -> None:
    examine(STARGATE_BULK="graphql").told("stargate graphql", "good")
    examined = examine(STARGATE_BULK="graphql", STARGATE_GRAPHQL_URL=f"{stargate.url}/no")
    examined.told("stargate graphql", "bad", "404", "STARGATE_GRAPHQL_URL")


def test_a_stargate_that_is_ill_is_told(examine: Examine, stargate: Stargate) -> None:
    ill = Reply(503, b"no coordinator")
    stargate.faults.add(Fault("reply", reply=ill, when=lambda r: r.path.startswith("/v2")))
    examine().told("stargate", "bad", "503", "start Stargate")


def test_a_row_that_the_doctor_cannot_delete_again_is_named(
    examine: Examine, stargate: Stargate
) -> None:
    refusal = Reply(401, b'{"description":"Role unauthorized for operation: x","code":401}')
    stargate.faults.add(Fault("reply", reply=refusal, when=lambda r: r.method == "DELETE"))
    examined = examine("--write")
    (left,) = stargate.vectors.rows
    examined.told("stargate write", "bad", f"the row {left} is left")


def test_columns_that_are_not_told_are_a_warning(examine: Examine, stargate: Stargate) -> None:
    answer = Reply(200, b'{"data":{"name":"page_vectors"}}')
    stargate.faults.add(
        Fault("reply", reply=answer, when=lambda r: r.path.endswith("/page_vectors"))
    )
    examine().told("stargate table", "warning", "tells no columns", "CREATE TABLE")


def test_a_graphql_that_is_away_is_told(examine: Examine) -> None:
    at = f"http://127.0.0.1:{free_port()}/graphql"
    examined = examine(STARGATE_BULK="graphql", STARGATE_GRAPHQL_URL=at)
    examined.told("stargate graphql", "bad", "cannot connect", "STARGATE_GRAPHQL_URL")


def test_a_table_without_page_ids_is_told(examine: Examine, stargate: Stargate) -> None:
    described = {"columnDefinitions": [{"name": "vector", "typeDefinition": "list<float>"}]}
    answer = Reply(200, json.dumps({"data": described}).encode())
    stargate.faults.add(
        Fault("reply", reply=answer, when=lambda r: r.path.endswith("/page_vectors"))
    )
    examine().told("stargate table", "bad", "no column page_id", "make the table anew")
