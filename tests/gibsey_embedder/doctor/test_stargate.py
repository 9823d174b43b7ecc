"""The doctor and Stargate: each problem is real."""

from __future__ import annotations

import json

import pytest

from gibsey_embedder.doctor import stargate as stargate_check
from gibsey_embedder.fakes.faults import Fault
from gibsey_embedder.fakes.message import Reply
from gibsey_embedder.fakes.stargate.server import Stargate
from gibsey_embedder.fakes.stargate.table import Table
from tests.flow.worker import free_port
from tests.gibsey_embedder.doctor.doctor_report import RunDoctor


def test_the_rest_api_on_another_port_of_the_host_is_found(
    run_doctor: RunDoctor, stargate: Stargate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stargate_check, "REST_PORTS", (free_port(), stargate.port))
    with Stargate(rest_on_wrong_port=True) as graphql_port:
        report = run_doctor(STARGATE_URL=graphql_port.url)
    report.assert_finding("stargate", "bad", "no REST API v2", f"set STARGATE_URL={stargate.url}")


def test_a_stargate_that_is_down_is_reported(run_doctor: RunDoctor) -> None:
    report = run_doctor(STARGATE_URL=f"http://127.0.0.1:{free_port()}")
    report.assert_finding("stargate", "bad", "cannot connect", "start Stargate")


def test_a_wrong_token_is_reported(run_doctor: RunDoctor) -> None:
    report = run_doctor(STARGATE_AUTH_TOKEN="s3cret")
    report.assert_finding("stargate", "bad", "refuses the token", "STARGATE_AUTH_TOKEN")


def test_a_wrong_password_is_reported(run_doctor: RunDoctor, stargate: Stargate) -> None:
    login = {"STARGATE_AUTH_TOKEN": "", "STARGATE_AUTH_URL": stargate.auth_url}
    login |= {"STARGATE_USERNAME": "cassandra"}
    run_doctor(STARGATE_PASSWORD="cassandra", **login).assert_finding(
        "stargate", "good", "takes the token"
    )
    report = run_doctor(STARGATE_PASSWORD="wrong", **login)
    report.assert_finding("stargate", "bad", "gives no token", "correct STARGATE_USERNAME")


def test_a_missing_keyspace_and_a_missing_table_are_reported(
    run_doctor: RunDoctor, stargate: Stargate
) -> None:
    missing = run_doctor(STARGATE_KEYSPACE="other")
    missing.assert_finding("stargate", "bad", "no keyspace other", "CREATE KEYSPACE other")
    stargate.drop_table("page_vectors")
    stargate.drop_table("pages")
    report = run_doctor(STARGATE_KEYSPACE="gibsey")
    report.assert_finding("stargate", "bad", "no table gibsey.page_vectors", "CREATE TABLE")


def test_a_missing_pages_table_is_a_warning(run_doctor: RunDoctor, stargate: Stargate) -> None:
    stargate.drop_table("pages")
    report = run_doctor()
    report.assert_finding("stargate pages", "warning", "gibsey.pages", "STARGATE_PAGES_TABLE")
    stargate.add_table(Table("pages", {"text": "text"}, 0))
    run_doctor().assert_finding("stargate pages", "warning", "no column body")


@pytest.mark.parametrize(
    ("columns", "texts"),
    [
        ({"vector": "list<double>"}, ("vector", "is list<double>", "frozen<list<float>>")),
        ({"embedding": "list<float>"}, ("no column vector", "ADD vector")),
    ],
)
def test_wrong_columns_are_reported(
    run_doctor: RunDoctor, stargate: Stargate, columns: dict[str, str], texts: tuple[str, ...]
) -> None:
    stargate.add_table(Table("page_vectors", columns, 0))
    run_doctor().assert_finding("stargate table", "bad", *texts)


def test_a_missing_model_column_is_reported(run_doctor: RunDoctor) -> None:
    report = run_doctor(STARGATE_MODEL_COLUMN="model")
    report.assert_finding("stargate table", "bad", "no column model", "ADD model text")


def test_a_key_of_several_columns_is_reported(run_doctor: RunDoctor, stargate: Stargate) -> None:
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
    run_doctor().assert_finding("stargate table", "bad", "page_id, at", "make the table anew")


def test_a_row_is_written_only_with_the_option_and_deleted_again(
    run_doctor: RunDoctor, stargate: Stargate
) -> None:
    run_doctor("--write").assert_finding("stargate write", "good", "written and deleted")
    assert stargate.vectors.writes.total() == 1
    assert not stargate.vectors.rows


def test_a_role_that_may_not_write_is_reported(run_doctor: RunDoctor, stargate: Stargate) -> None:
    refusal = Reply(401, b'{"description":"Role unauthorized for operation: x","code":401}')
    stargate.faults.add(Fault("reply", reply=refusal, when=lambda r: r.method == "PUT"))
    run_doctor("--write").assert_finding("stargate write", "bad", "lacks MODIFY")


def test_a_missing_graphql_api_is_reported(run_doctor: RunDoctor, stargate: Stargate) -> None:
    run_doctor(STARGATE_BULK="graphql").assert_finding("stargate graphql", "good")
    report = run_doctor(STARGATE_BULK="graphql", STARGATE_GRAPHQL_URL=f"{stargate.url}/no")
    report.assert_finding("stargate graphql", "bad", "404", "STARGATE_GRAPHQL_URL")


def test_a_stargate_that_fails_is_reported(run_doctor: RunDoctor, stargate: Stargate) -> None:
    failure = Reply(503, b"no coordinator")
    stargate.faults.add(Fault("reply", reply=failure, when=lambda r: r.path.startswith("/v2")))
    run_doctor().assert_finding("stargate", "bad", "503", "start Stargate")


def test_a_test_row_that_cannot_be_deleted_is_reported(
    run_doctor: RunDoctor, stargate: Stargate
) -> None:
    refusal = Reply(401, b'{"description":"Role unauthorized for operation: x","code":401}')
    stargate.faults.add(Fault("reply", reply=refusal, when=lambda r: r.method == "DELETE"))
    report = run_doctor("--write")
    (left,) = stargate.vectors.rows
    report.assert_finding("stargate write", "bad", f"the row {left} is left")


def test_unknown_columns_are_a_warning(run_doctor: RunDoctor, stargate: Stargate) -> None:
    answer = Reply(200, b'{"data":{"name":"page_vectors"}}')
    stargate.faults.add(
        Fault("reply", reply=answer, when=lambda r: r.path.endswith("/page_vectors"))
    )
    run_doctor().assert_finding("stargate table", "warning", "tells no columns", "CREATE TABLE")


def test_a_graphql_api_that_is_down_is_reported(run_doctor: RunDoctor) -> None:
    at = f"http://127.0.0.1:{free_port()}/graphql"
    report = run_doctor(STARGATE_BULK="graphql", STARGATE_GRAPHQL_URL=at)
    report.assert_finding("stargate graphql", "bad", "cannot connect", "STARGATE_GRAPHQL_URL")


def test_a_table_without_page_ids_is_reported(run_doctor: RunDoctor, stargate: Stargate) -> None:
    described = {"columnDefinitions": [{"name": "vector", "typeDefinition": "list<float>"}]}
    answer = Reply(200, json.dumps({"data": described}).encode())
    stargate.faults.add(
        Fault("reply", reply=answer, when=lambda r: r.path.endswith("/page_vectors"))
    )
    run_doctor().assert_finding("stargate table", "bad", "no column page_id", "make the table anew")
