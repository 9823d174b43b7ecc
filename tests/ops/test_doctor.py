"""The doctor over the stand-ins: each fault is really there, and each is told with its remedy."""

from __future__ import annotations

import email.utils
import functools
import json
import os
import shutil
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from typer.testing import CliRunner

from connectors import logs
from dataflow.launch import Launch
from dataflow.settings import Settings
from demo.faults import Fault
from demo.kafka import MockKafka
from demo.message import Answer
from demo.ollama import Ollama
from demo.openai import OpenAI
from demo.rag import Rag
from demo.stargate import TOKEN, Stargate
from demo.table import Table
from ops import doctor, kafka_hearing
from ops.checks import embedder, kafka, kafka_limits
from ops.checks import stargate as stargate_check
from ops.cli import app
from ops.recovery_store import make_store
from tests.flow.worker import free_port
from tests.ops import listening
from tests.ops.listening import silent, tls

ROOT = Path(__file__).parents[2]
Limits = Mapping[str, Mapping[str, str]]
AUTHORITIES = functools.cache(ssl.create_default_context)
"""Reading the system's authorities anew for each run takes longer than all the rest."""
READ_LIMITS = kafka_limits.read_limits
GOOD_LIMITS = {
    "cdc.pages": {"retention.ms": "604800000", "max.message.bytes": "1048588"},
    "cdc.pages.dlq": {"retention.ms": "-1", "max.message.bytes": "1048588"},
}


class Examined:
    """What the doctor said.

    Attributes:
        code: Its exit code.
        checks: Its findings, as in its JSON.
    """

    def __init__(self, code: int, output: str) -> None:
        self.code = code
        self.output = output
        self.checks: list[dict[str, str]] = json.loads(output)["checks"]

    def told(self, check: str, result: str, *words: str) -> None:
        """Assert that there is a finding of a check whose name begins so, with all the words."""
        for finding in self.checks:
            text = finding["found"] + " → " + finding["remedy"]
            is_meant = finding["check"].startswith(check) and finding["result"] == result
            if is_meant and all(word in text for word in words):
                assert bool(finding["remedy"]) is (result != "good")
                assert self.code == int(any(f["result"] == "bad" for f in self.checks))
                return
        raise AssertionError(f"{check} {result} {words} is not in {self.output}")


Examine = Callable[..., Examined]


@pytest.fixture
def limits() -> dict[str, dict[str, str]]:
    """What the broker tells of the topics' settings; the mock one cannot be asked."""
    return {topic: dict(values) for topic, values in GOOD_LIMITS.items()}


@pytest.fixture
def examine(
    ollama: Ollama,
    stargate: Stargate,
    rag: Rag,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Examine:
    """Runs `doctor --json` with options and settings; all is well unless they say otherwise.

    Kafka is left out: `examine_kafka` asks it, too.
    """
    for name in list(os.environ):
        if name in Settings.names() or name.startswith("BYTEWAX_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(doctor, "check_kafka", lambda *_: [])
    monkeypatch.setattr(ssl, "create_default_context", AUTHORITIES)
    monkeypatch.setattr(logs, "configure", lambda *_: None)
    settings = {
        "EMBED_URL": ollama.embed_url,
        "STARGATE_URL": stargate.url,
        "STARGATE_AUTH_TOKEN": TOKEN,
        "RAG_REFRESH_URL": rag.refresh_url,
    }

    def run(*options: str, **changed: str) -> Examined:
        for name, value in (settings | changed).items():
            monkeypatch.setenv(name, value)
        result = CliRunner().invoke(app, ["doctor", "--json", *options])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return Examined(result.exit_code, result.stdout)

    return run


@pytest.fixture
def examine_kafka(
    examine: Examine, mock_kafka: MockKafka, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> Examine:
    """The same with Kafka."""
    monkeypatch.setattr(doctor, "check_kafka", kafka.check_kafka)
    monkeypatch.setattr(kafka_hearing, "TRIES_S", (0.7,))
    monkeypatch.setattr(
        kafka_limits, "read_limits", lambda _, topics: {name: limits[name] for name in topics}
    )
    monkeypatch.setenv("KAFKA_BROKER", mock_kafka.broker)
    return examine


# --- the whole


def test_a_right_set_up_is_good_and_nothing_is_changed(
    examine_kafka: Examine, stargate: Stargate, rag: Rag, tmp_path: Path
) -> None:
    examined = examine_kafka()
    assert examined.code == 0, examined.output
    assert {finding["result"] for finding in examined.checks} == {"good"}, examined.output
    assert stargate.vectors.writes.total() == 0
    assert not rag.counts
    assert not any(tmp_path.iterdir())


def test_people_get_a_table_with_remedies(examine: Examine, rag: Rag) -> None:
    examine()
    rag.refuse()
    shown = CliRunner().invoke(app, ["doctor"])
    assert shown.exit_code == 1
    assert "→ start the RAG service, or correct RAG_REFRESH_URL" in shown.stdout
    assert "1 of " in shown.stdout


def test_wrong_settings_exit_2_with_each_named(examine: Examine) -> None:
    result = examine(WORKERS="0", RAG_TIMEOUT="x")
    assert result.code == 2
    assert [f["remedy"] for f in result.checks] == ["correct RAG_TIMEOUT", "correct WORKERS"]


def test_services_that_hang_cost_no_more_than_20_s(tmp_path: Path) -> None:
    with listening.listening(silent) as dead:
        variables = {
            "KAFKA_BROKER": dead,
            "EMBED_URL": f"http://{dead}",
            "STARGATE_URL": f"http://{dead}",
            "STARGATE_AUTH_TOKEN": "s3cret-token",
            "RAG_REFRESH_URL": f"http://{dead}/refresh",
        }
        began = time.monotonic()
        ended = subprocess.run(
            [sys.executable, "-m", "ops.cli", "doctor", "--json", "--write", "--send-test"],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | variables,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert time.monotonic() - began < 20
    assert "Traceback" not in ended.stderr
    examined = Examined(ended.returncode, ended.stdout)
    failed = {f["check"].split()[0] for f in examined.checks if f["result"] == "bad"}
    assert failed == {"kafka", "embedder", "stargate", "rag"}


def test_a_check_that_breaks_does_not_take_the_others_along(
    examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("oh")

    monkeypatch.setattr(doctor, "check_rag", broken)
    examined = examine()
    examined.told("rag", "bad", "RuntimeError: oh")
    examined.told("stargate", "good")


def test_a_secret_that_a_service_quotes_is_struck_out(examine: Examine, rag: Rag) -> None:
    rag.faults.add(Fault("answer", answer=Answer(500, b"bad token s3cret-rag")))
    examined = examine(RAG_AUTH_TOKEN="s3cret-rag")
    examined.told("rag", "bad", "bad token ***")
    assert "s3cret" not in examined.output


# --- settings and versions


def test_a_misspelt_setting_and_a_missing_token_are_told(
    examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STARGATE_TABEL", "x")
    examined = examine(STARGATE_AUTH_TOKEN="")
    examined.told("settings", "warning", "STARGATE_TABEL", "did you mean STARGATE_TABLE")
    examined.told("settings", "warning", "no token", "set STARGATE_AUTH_TOKEN")


def test_another_bytewax_is_told(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda n: "0.9" if n == "bytewax" else real(n))
    examine().told("versions", "warning", "Bytewax 0.9", "pip install bytewax==")


# --- Kafka


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    """A certificate that nobody trusts, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    paths = (str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem"))
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=other"]
    command += ["-days", "2", "-out", paths[0], "-keyout", paths[1]]
    subprocess.run(command, check=True, capture_output=True)
    return paths


LOGIN = {"KAFKA_USERNAME": "u", "KAFKA_PASSWORD": "s3cret"}


@pytest.mark.parametrize(
    ("serve", "settings", "words"),
    [
        (tls(), {}, ("that port speaks TLS", "kafka+ssl://")),
        (listening.kafka(listening.wants_login), {}, ("wants a login", "set KAFKA_USERNAME")),
        (listening.kafka(listening.wants_login), LOGIN, ("refuses the login", "KAFKA_PASSWORD")),
        (
            listening.kafka(listening.other_mechanism),
            LOGIN | {"KAFKA_SASL_MECHANISM": "SCRAM-SHA-256"},
            ("login mechanism SCRAM-SHA-256", "PLAIN"),
        ),
        (listening.kafka(listening.takes_no_login), LOGIN, ("no login", "remove KAFKA_USERNAME")),
        (lambda c: c.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), {}, ("like Kafka", "own port")),
    ],
    ids=["speaks TLS", "wants login", "password", "mechanism", "no login", "no Kafka"],
)
def test_each_wrong_way_to_kafka_is_told_apart(
    examine_kafka: Examine, serve: Any, settings: dict[str, str], words: tuple[str, ...]
) -> None:
    with listening.listening(serve) as broker:
        examined = examine_kafka(KAFKA_BROKER=broker, **settings)
    examined.told("kafka", "bad", *words)
    assert "s3cret" not in examined.output


def test_tls_to_a_plain_port_is_told(examine_kafka: Examine, mock_kafka: MockKafka) -> None:
    with listening.listening(listening.deaf) as broker:
        examined = examine_kafka(KAFKA_BROKER=f"kafka+ssl://{broker}")
    examined.told("kafka", "bad", "does not speak TLS", "without kafka+ssl://")


def test_a_certificate_that_is_not_trusted_is_told(
    examine_kafka: Examine, certificate: tuple[str, str]
) -> None:
    with listening.listening(tls(*certificate)) as broker:
        examined = examine_kafka(KAFKA_BROKER=f"kafka+ssl://{broker}")
    examined.told("kafka", "bad", "not trusted", "KAFKA_CA_FILE")


def test_a_broker_that_is_down_or_unknown_is_told(examine_kafka: Examine) -> None:
    examine_kafka(KAFKA_BROKER=f"127.0.0.1:{free_port()}").told(
        "kafka", "bad", "refused", "start Kafka"
    )
    unknown = examine_kafka(KAFKA_BROKER="no-such-host.invalid:9092")
    unknown.told("kafka", "bad", "is not known here", "KAFKA_BROKER")


def test_options_that_librdkafka_refuses_are_told(examine_kafka: Examine, tmp_path: Path) -> None:
    examine_kafka(KAFKA_OPTIONS='{"no.such": 1}').told("kafka", "bad", "'no.such'", "KAFKA_OPTIONS")
    (tmp_path / "empty.pem").write_text("")
    examined = examine_kafka(KAFKA_CA_FILE=str(tmp_path / "empty.pem"), KAFKA_OPTIONS="{}")
    assert examined.code in (1, 2)
    assert "KAFKA_CA_FILE" in examined.output


def test_a_missing_topic_is_told_with_those_that_are_alike(examine_kafka: Examine) -> None:
    examined = examine_kafka(KAFKA_TOPIC="gibsey.pages")
    examined.told("kafka topic", "bad", "no topic gibsey.pages", "there is cdc.pages", "create it")
    examined.told("kafka dead letters", "warning", "gibsey.pages.dlq", "create it")


def test_more_workers_than_partitions_are_told(examine_kafka: Examine) -> None:
    examined = examine_kafka(WORKERS="5")
    examined.told("kafka topic", "warning", "3 partitions", "2 of them read nothing", "WORKERS")


def test_workers_of_all_processes_are_counted(
    examine_kafka: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BYTEWAX_PROCESS_ID", "1")
    monkeypatch.setenv("BYTEWAX_ADDRESSES", "a:1;b:1")
    examined = examine_kafka(WORKERS="2")
    examined.told("cluster", "good", "process 1 of 2, at b:1")
    examined.told("kafka topic", "warning", "1 of them read nothing")


def test_a_cluster_that_cannot_start_is_told(
    examine: Examine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BYTEWAX_PROCESS_ID", "2")
    monkeypatch.setenv("BYTEWAX_ADDRESSES", "a:1;b:1")
    examine().told("cluster", "bad", "-i is 2, but -a has 2 addresses")
    monkeypatch.delenv("BYTEWAX_ADDRESSES")
    monkeypatch.setenv("BYTEWAX_HOSTFILE_PATH", str(tmp_path / "hosts"))
    examine().told("cluster", "bad", "BYTEWAX_HOSTFILE_PATH", "cannot be read")


def test_a_position_that_retention_has_passed_is_told(
    examine_kafka: Examine, mock_kafka: MockKafka
) -> None:
    for number in range(5):
        mock_kafka.produce("cdc.pages", "k", str(number), partition=0)
    mock_kafka.flush()
    consumer = Consumer({"bootstrap.servers": mock_kafka.broker, "group.id": "gibsey-embedder"})
    consumer.commit(offsets=[TopicPartition("cdc.pages", 0, 1)], asynchronous=False)
    consumer.close()
    examine_kafka().told("kafka position", "good", "4 messages wait")
    mock_kafka.delete_records("cdc.pages", 0, 3)
    examine_kafka().told("kafka position", "bad", "2 changes were deleted", "backfill")


def test_topics_that_keep_too_little_are_told(
    examine_kafka: Examine, limits: dict[str, dict[str, str]]
) -> None:
    limits["cdc.pages"] |= {"retention.ms": "3600000", "max.message.bytes": "2000000"}
    limits["cdc.pages.dlq"] |= {"cleanup.policy": "compact"}
    examined = examine_kafka()
    examined.told("kafka retention", "warning", "cdc.pages is kept for 1 h", "retention.ms")
    examined.told("kafka dead letters", "warning", "is compacted", "cleanup.policy")
    examined.told("kafka dead letters", "warning", "1,048,588 bytes", "max.message.bytes")


def test_a_broker_that_does_not_tell_its_limits_is_told(
    examine_kafka: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_limits, "read_limits", READ_LIMITS)
    monkeypatch.setattr(kafka_limits, "CONFIG_S", 0.3)
    examine_kafka().told("kafka limits", "warning", "cannot be read", "does not need them")


# --- the embedder


def test_a_missing_model_is_told_and_pulled_when_allowed(examine: Examine, ollama: Ollama) -> None:
    ollama.remove("nomic-embed-text")
    examine().told("embedder", "bad", "no model", "ollama pull nomic-embed-text", "--pull")
    assert "nomic-embed-text:latest" not in ollama.models
    pulled = examine("--pull")
    pulled.told("embedder", "good", "was pulled")
    assert pulled.code == 0


def test_a_pull_that_fails_is_told(examine: Examine, ollama: Ollama) -> None:
    refusal = Answer(200, b'{"status":"pulling"}\n{"error":"file does not exist"}\n')
    ollama.faults.add(Fault("answer", answer=refusal, when=lambda r: r.path == "/api/pull"))
    examined = examine("--pull", EMBED_MODEL="nope")
    examined.told("embedder", "bad", "could not be pulled: file does not exist", "EMBED_MODEL")


def test_an_embedder_that_is_down_is_told(examine: Examine, ollama: Ollama) -> None:
    ollama.refuse()
    examine().told("embedder", "bad", "cannot connect", "EMBED_URL")


def test_an_embedder_that_hangs_is_told(
    examine: Examine, ollama: Ollama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedder, "FACTS_S", 0.3)
    ollama.faults.add(Fault("hang", when=lambda request: request.method == "POST"))
    examine().told("embedder", "bad", "did not answer within", "try again")


def test_wrong_dimensions_are_told(examine: Examine) -> None:
    with Ollama(dimensions=384) as small:
        examined = examine(EMBED_URL=small.url)
    examined.told("embedder", "bad", "384 dimensions", "wanted are 768", "EMBED_DIMENSIONS")


def test_a_short_context_is_told(examine: Examine) -> None:
    with Ollama(context=512) as short:
        examine(EMBED_URL=short.url).told("embedder", "warning", "512 tokens", "num_ctx")


def test_lost_capitals_are_bad_only_where_nothing_mends_them(examine: Examine) -> None:
    with Ollama(capitals_defect=True) as defect:
        examine(EMBED_URL=defect.url).told("embedder", "good", "look the same", "lower-cased")
        bad = examine(EMBED_URL=defect.url, EMBED_LOWERCASE="off")
    bad.told("embedder", "bad", "look the same", "EMBED_LOWERCASE=auto")


def test_a_slow_embedder_is_told(
    examine: Examine, ollama: Ollama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedder, "SLOW_S", 0.1)
    ollama.text_s = 0.2
    examine().told("embedder", "warning", "s a page", "GPU")


def test_each_endpoint_is_asked_and_one_of_another_model_is_told(
    examine: Examine, ollama: Ollama
) -> None:
    with Ollama(cheap=True) as other:
        examined = examine(EMBED_URL=f"{ollama.url},{other.url}")
        examined.told("embedder agreement", "bad", other.url, "other vectors", "ollama show")
        other.refuse()
        examine(EMBED_URL=f"{ollama.url},{other.url}").told(f"embedder {other.url}", "bad")


def test_a_wrong_openai_key_is_told(examine: Examine, openai_stand_in: OpenAI) -> None:
    at = {"EMBED_PROVIDER": "openai", "OPENAI_URL": openai_stand_in.url}
    examine(OPENAI_API_KEY="sk-demo", **at).told("embedder", "good", "text-embedding-3-small")
    examined = examine(OPENAI_API_KEY="sk-s3cret", **at)
    examined.told("embedder", "bad", "does not accept the key", "OPENAI_API_KEY")
    assert "s3cret" not in examined.output


def test_a_fallback_that_cannot_take_over_is_told(
    examine: Examine, openai_stand_in: OpenAI
) -> None:
    given = {"EMBED_FALLBACK": "openai", "OPENAI_URL": openai_stand_in.url}
    examined = examine(OPENAI_API_KEY="sk-wrong", **given)
    examined.told("embedder", "bad", "does not accept the key")


# --- Stargate


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
    answer = Answer(200, json.dumps({"data": described}).encode())
    stargate.faults.add(
        Fault("answer", answer=answer, when=lambda r: r.path.endswith("/page_vectors"))
    )
    examine().told("stargate table", "bad", "page_id, at", "make the table anew")


def test_a_write_is_tried_only_when_allowed_and_leaves_nothing(
    examine: Examine, stargate: Stargate
) -> None:
    examine("--write").told("stargate write", "good", "written and deleted")
    assert stargate.vectors.writes.total() == 1
    assert not stargate.vectors.rows


def test_a_role_that_may_not_write_is_told(examine: Examine, stargate: Stargate) -> None:
    refusal = Answer(401, b'{"description":"Role unauthorized for operation: x","code":401}')
    stargate.faults.add(Fault("answer", answer=refusal, when=lambda r: r.method == "PUT"))
    examine("--write").told("stargate write", "bad", "lacks MODIFY")


def test_graphql_that_is_not_there_is_told(examine: Examine, stargate: Stargate) -> None:
    examine(STARGATE_BULK="graphql").told("stargate graphql", "good")
    examined = examine(STARGATE_BULK="graphql", STARGATE_GRAPHQL_URL=f"{stargate.url}/no")
    examined.told("stargate graphql", "bad", "404", "STARGATE_GRAPHQL_URL")


# --- the RAG service


def test_a_notification_is_sent_only_when_allowed(examine: Examine, rag: Rag) -> None:
    examine("--send-test").told("rag", "good", "took a notification")
    assert dict(rag.counts) == {"gibsey-embedder-doctor": 1}


def test_a_wrong_path_a_wrong_token_and_a_broken_service_are_told(
    examine: Examine, rag: Rag
) -> None:
    examine(RAG_REFRESH_URL=f"{rag.url}/no").told("rag", "bad", "404", "set RAG_REFRESH_URL")
    examine("--send-test", RAG_REFRESH_URL=f"{rag.url}/no").told("rag", "bad", "set RAG_REFRESH")
    rag.token = "wanted"
    examined = examine("--send-test", RAG_REFRESH_URL=rag.refresh_url)
    examined.told("rag", "bad", "401", "correct RAG_AUTH_TOKEN")
    rag.faults.add(Fault("answer", answer=Answer(502, b"oops")))
    examine("--send-test").told("rag", "bad", "502", "log")


# --- the recovery directory


def test_a_directory_that_cannot_be_made_is_told(examine: Examine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    examine(RECOVERY_DIR=str(tmp_path / "file")).told("recovery", "bad", "no directory")
    examine(RECOVERY_DIR=str(tmp_path / "file" / "a")).told("recovery", "bad", "cannot be made")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_is_told(examine: Examine, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(0o500)
    examined = examine(RECOVERY_DIR=str(tmp_path / "closed"))
    examined.told("recovery", "bad", "cannot be written", "give user")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    directory = tmp_path / "recovery"
    make_store(Launch(recovery_dir=directory), 2)
    return directory


def test_a_whole_store_is_good_and_one_that_others_may_read_is_told(
    examine: Examine, store: Path
) -> None:
    examine().told("recovery", "good", "is whole: 2 partitions")
    store.chmod(0o755)
    examine().told("recovery mode", "warning", "mode 755", "chmod 700")
    assert stat.S_IMODE(store.stat().st_mode) == 0o755


def test_a_store_with_a_missing_or_a_broken_partition_is_told(
    examine: Examine, store: Path
) -> None:
    (store / "part-0.sqlite3").rename(store / "gone")
    examine().told("recovery", "bad", "lacks part-0.sqlite3", "put back")
    (store / "part-0.sqlite3").write_text("garbage")
    examine().told("recovery", "bad", "is no recovery partition", "restore")


# --- clocks


def test_a_clock_that_is_far_off_is_told(examine: Examine, stargate: Stargate) -> None:
    date = {"Date": "Wed, 01 Jan 2020 00:00:00 GMT"}
    answer = Answer(404, b"", headers=date)
    stargate.faults.add(Fault("answer", answer=answer, when=lambda r: r.path == "/"))
    examine().told("clock", "bad", "Stargate's clock", "behind ours", "NTP")


def test_a_clock_that_is_a_little_off_is_a_warning(examine: Examine, rag: Rag) -> None:
    answer = Answer(
        404, b"", headers={"Date": email.utils.formatdate(time.time() + 20, usegmt=True)}
    )
    rag.faults.add(Fault("answer", answer=answer, when=lambda r: r.path == "/"))
    examine().told("clock", "warning", "the RAG service's clock", "ahead of ours")
