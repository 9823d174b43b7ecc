"""The doctor's checks of Stargate; every error is a real one of the fake Stargate."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from connectors.core.findings import Finding
from connectors.http.client import HttpClient
from connectors.stores.stargate.checks import REST_PORTS, StargateChecks
from connectors.stores.stargate.config import StargateConfig
from connectors.stores.stargate.store import token_source
from gibsey_embedder.fakes.faults import Fault
from gibsey_embedder.fakes.message import Reply
from gibsey_embedder.fakes.stargate.server import TOKEN, Stargate
from gibsey_embedder.fakes.stargate.table import Table
from tests.connectors.http.clients import using
from tests.flow.worker import free_port

FORBIDDEN = Reply(401, b'{"description":"Role unauthorized for operation: x","code":401}')


class Findings:
    """The findings of all checks."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = findings

    def has(self, check: str, result: str, *phrases: str) -> None:
        """Assert that there is a finding with all the phrases."""
        for finding in self.findings:
            text = f"{finding.found} -> {finding.remedy}"
            is_meant = (finding.check, finding.result) == (check, result)
            if is_meant and all(phrase in text for phrase in phrases):
                assert bool(finding.remedy) is (result != "good")
                return
        raise AssertionError(f"{check} {result} {phrases} is not in {self.findings}")


def check(
    stargate: Stargate,
    *,
    write: bool = False,
    rest_ports: Sequence[int] = REST_PORTS,
    **changed: Any,
) -> Findings:
    """Run the checks with a configuration that is right, except for the changes."""
    config = StargateConfig(
        **{"url": stargate.url, "token": TOKEN, "graphql_url": stargate.graphql_url, **changed}
    )

    def checks(http: HttpClient) -> StargateChecks:
        return StargateChecks(config, http, token_source(config, http), rest_ports)

    return Findings(using(checks, lambda checks: checks.run(dimensions=768, write=write)))


def fail(stargate: Stargate, method: str, reply: Reply) -> None:
    stargate.faults.add(Fault("reply", reply=reply, when=lambda r: r.method == method))


def describe_as(stargate: Stargate, schema: object) -> None:
    """Let Stargate describe the table of vectors in another way."""
    reply = Reply(200, json.dumps({"data": schema}).encode())
    stargate.faults.add(
        Fault("reply", reply=reply, when=lambda r: r.path.endswith("/page_vectors"))
    )


def test_all_checks_of_a_right_setup_are_good(stargate: Stargate) -> None:
    findings = check(stargate, write=True, bulk="graphql").findings
    assert {finding.check for finding in findings} == {
        "stargate",
        "stargate table",
        "stargate pages",
        "stargate graphql",
        "stargate write",
    }
    assert {finding.result for finding in findings} == {"good"}


def test_the_rest_api_on_another_port_of_the_host_is_found(stargate: Stargate) -> None:
    with Stargate(rest_on_wrong_port=True) as graphql_port:
        findings = check(graphql_port, rest_ports=(free_port(), stargate.port))
    findings.has("stargate", "bad", "no REST API v2", f"set STARGATE_URL={stargate.url}")


def test_a_missing_stargate_is_bad(stargate: Stargate) -> None:
    findings = check(stargate, url=f"http://127.0.0.1:{free_port()}")
    findings.has("stargate", "bad", "cannot connect", "start Stargate")


def test_a_wrong_token_is_bad(stargate: Stargate) -> None:
    findings = check(stargate, token="s3cret")
    findings.has("stargate", "bad", "refuses the token", "STARGATE_AUTH_TOKEN")


def test_a_wrong_password_is_bad(stargate: Stargate) -> None:
    login: dict[str, Any] = {"token": "", "auth_url": stargate.auth_url, "username": "cassandra"}
    check(stargate, password="cassandra", **login).has("stargate", "good", "takes the token")
    findings = check(stargate, password="wrong", **login)
    findings.has("stargate", "bad", "gives no token", "correct STARGATE_USERNAME")


def test_a_missing_keyspace_and_a_missing_table_are_bad(stargate: Stargate) -> None:
    missing = check(stargate, keyspace="other")
    missing.has("stargate", "bad", "no keyspace other", "CREATE KEYSPACE other")
    stargate.drop_table("page_vectors")
    stargate.drop_table("pages")
    check(stargate).has("stargate", "bad", "no table gibsey.page_vectors", "CREATE TABLE")


def test_a_missing_table_of_pages_is_a_warning(stargate: Stargate) -> None:
    stargate.drop_table("pages")
    check(stargate).has("stargate pages", "warning", "gibsey.pages", "STARGATE_PAGES_TABLE")
    stargate.add_table(Table("pages", {"text": "text"}, 0))
    check(stargate).has("stargate pages", "warning", "no column body")


@pytest.mark.parametrize(
    ("columns", "phrases"),
    [
        ({"vector": "list<double>"}, ("vector", "is list<double>", "frozen<list<float>>")),
        ({"embedding": "list<float>"}, ("no column vector", "ADD vector")),
    ],
)
def test_wrong_columns_are_bad(
    stargate: Stargate, columns: dict[str, str], phrases: tuple[str, ...]
) -> None:
    stargate.add_table(Table("page_vectors", columns, 0))
    check(stargate).has("stargate table", "bad", *phrases)


def test_a_missing_model_column_is_bad(stargate: Stargate) -> None:
    findings = check(stargate, model_column="model")
    findings.has("stargate table", "bad", "no column model", "ADD model text")


def test_a_key_of_several_columns_is_bad(stargate: Stargate) -> None:
    schema = {
        "columnDefinitions": [
            {"name": "page_id", "typeDefinition": "text"},
            {"name": "vector", "typeDefinition": "list<float>"},
        ],
        "primaryKey": {"partitionKey": ["page_id"], "clusteringKey": ["at"]},
    }
    describe_as(stargate, schema)
    check(stargate).has("stargate table", "bad", "page_id, at", "create it again")


def test_a_table_without_page_ids_is_bad(stargate: Stargate) -> None:
    schema = {"columnDefinitions": [{"name": "vector", "typeDefinition": "list<float>"}]}
    describe_as(stargate, schema)
    check(stargate).has("stargate table", "bad", "no column page_id", "create it again")


def test_a_schema_without_columns_is_a_warning(stargate: Stargate) -> None:
    describe_as(stargate, {"name": "page_vectors"})
    check(stargate).has("stargate table", "warning", "lists no columns", "CREATE TABLE")


def test_a_write_happens_only_on_request_and_leaves_nothing(stargate: Stargate) -> None:
    check(stargate)
    assert stargate.vectors.writes.total() == 0
    check(stargate, write=True).has("stargate write", "good", "wrote and deleted")
    assert stargate.vectors.writes.total() == 1
    assert not stargate.vectors.rows


def test_a_role_that_may_not_write_is_bad(stargate: Stargate) -> None:
    fail(stargate, "PUT", FORBIDDEN)
    check(stargate, write=True).has("stargate write", "bad", "lacks MODIFY")


def test_a_row_that_the_doctor_cannot_delete_is_named(stargate: Stargate) -> None:
    fail(stargate, "DELETE", FORBIDDEN)
    findings = check(stargate, write=True)
    (remaining,) = stargate.vectors.rows
    findings.has("stargate write", "bad", f"the row {remaining} remains")


def test_a_wrong_graphql_url_is_bad(stargate: Stargate) -> None:
    check(stargate, bulk="graphql").has("stargate graphql", "good")
    findings = check(stargate, bulk="graphql", graphql_url=f"{stargate.url}/no")
    findings.has("stargate graphql", "bad", "404", "STARGATE_GRAPHQL_URL")


def test_an_unavailable_graphql_is_bad(stargate: Stargate) -> None:
    url = f"http://127.0.0.1:{free_port()}/graphql"
    findings = check(stargate, bulk="graphql", graphql_url=url)
    findings.has("stargate graphql", "bad", "cannot connect", "STARGATE_GRAPHQL_URL")


def test_a_stargate_with_server_errors_is_bad(stargate: Stargate) -> None:
    reply = Reply(503, b"no coordinator")
    stargate.faults.add(Fault("reply", reply=reply, when=lambda r: r.path.startswith("/v2")))
    check(stargate).has("stargate", "bad", "503", "start Stargate")
