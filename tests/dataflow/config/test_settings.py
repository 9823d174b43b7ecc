"""The settings: valid and invalid values, error messages, and secrets."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import example, given
from hypothesis import strategies as st

from dataflow.config.documentation import default_of, env_example, markdown
from dataflow.config.settings import SECRETS, Settings, SettingsError, load_settings
from dataflow.config.values import parse_brokers, parse_embed_urls

ROOT = Path(__file__).parents[3]

OURS = {*Settings.names(), *(f"{name.upper()}_FILE" for name in SECRETS)}


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """Start each test in an empty directory without the program's variables."""
    for name in OURS & set(os.environ):
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def env(monkeypatch):
    def put(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


def problems():
    with pytest.raises(SettingsError) as raised:
        load_settings()
    return dict(raised.value.problems)


def rejection(parse, text):
    """Return the reason why a text is rejected, or None."""
    try:
        parse(text)
    except ValueError as error:
        return str(error)
    return None


# --- defaults and sources


def test_without_variables_the_defaults_apply():
    settings = load_settings()
    assert settings.brokers == "kafka:9092"
    assert settings.kafka_topic == "cdc.pages"
    assert settings.dead_letter_topic == "cdc.pages.dlq"
    assert settings.embed_endpoints == ("http://ollama:11434",)
    assert settings.embed_dimensions == 768
    assert settings.stargate_graphql_url == "http://stargate:8080/graphql"
    assert settings.rag_refresh_url == "http://rag_service:8001/refresh"
    assert settings.stargate_auth_token is None
    assert not settings.kafka_tls


def test_the_dead_letter_topic_follows_the_topic(env):
    env(KAFKA_TOPIC="edits")
    assert load_settings().dead_letter_topic == "edits.dlq"


def test_graphql_follows_stargate(env):
    env(STARGATE_URL="https://stargate.example/base/v2/")
    settings = load_settings()
    assert settings.stargate_url == "https://stargate.example/base"
    assert settings.stargate_graphql_url == "https://stargate.example/base/graphql"


def test_the_environment_takes_precedence_over_dot_env(env, tmp_path):
    (tmp_path / ".env").write_text("KAFKA_TOPIC=from-file\nWORKERS=3\nOTHER=1\n")
    env(KAFKA_TOPIC="from-environment")
    settings = load_settings()
    assert (settings.kafka_topic, settings.workers) == ("from-environment", 3)


def test_an_empty_variable_counts_as_not_set(env):
    env(**dict.fromkeys(OURS, ""))
    assert load_settings() == Settings()
    assert load_settings().stargate_bulk_url is None


def test_spaces_in_a_prefix_are_kept(env, tmp_path):
    (tmp_path / ".env").write_text('EMBED_QUERY_PREFIX="search_query: "\n')
    env(EMBED_PREFIX="search_document: ")
    settings = load_settings()
    assert settings.embed_prefix == "search_document: "
    assert settings.embed_query_prefix == "search_query: "


def test_a_dot_env_that_is_not_text_is_reported_without_a_traceback(tmp_path):
    (tmp_path / ".env").write_bytes(b"KAFKA_TOPIC=\xff\xfe\n")
    assert ".env" in problems()


def test_choices_are_not_case_sensitive(env):
    env(ON_DELETE="Delete", LOG_LEVEL="WARNING", KAFKA_SASL_MECHANISM="scram-sha-256")
    env(KAFKA_USERNAME="u", KAFKA_PASSWORD="pppp")
    settings = load_settings()
    assert (settings.on_delete, settings.log_level) == ("delete", "warning")
    assert settings.sasl_mechanism == "SCRAM-SHA-256"


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        load_settings().workers = 2


# --- secrets in files


@pytest.mark.parametrize("field", SECRETS)
def test_every_secret_can_be_read_from_a_file(env, tmp_path, field):
    (tmp_path / "secret").write_text("from file\n")
    env(**{f"{field.upper()}_FILE": str(tmp_path / "secret")})
    env(KAFKA_USERNAME="u", STARGATE_USERNAME="u", STARGATE_AUTH_URL="http://auth:8081")
    for other in {"kafka_password", "stargate_password"} - {field}:
        env(**{other.upper(): "other"})
    assert getattr(load_settings(), field).get_secret_value() == "from file"


def test_a_missing_secret_file_is_reported(env):
    env(STARGATE_AUTH_TOKEN_FILE="/run/secrets/nowhere")
    sentence = problems()["STARGATE_AUTH_TOKEN"]
    assert "/run/secrets/nowhere" in sentence
    assert "STARGATE_AUTH_TOKEN_FILE" in sentence


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xff", b"a\nb\n", b"x" * 100_000])
def test_a_secret_file_must_contain_one_line_of_text(env, tmp_path, content):
    (tmp_path / "secret").write_bytes(content)
    env(RAG_AUTH_TOKEN_FILE=str(tmp_path / "secret"))
    assert set(problems()) == {"RAG_AUTH_TOKEN"}


def test_a_secret_that_is_set_twice_is_rejected(env, tmp_path):
    (tmp_path / "secret").write_text("one")
    env(RAG_AUTH_TOKEN="two", RAG_AUTH_TOKEN_FILE=str(tmp_path / "secret"))
    assert "RAG_AUTH_TOKEN_FILE" in problems()["RAG_AUTH_TOKEN"]


def test_a_secret_in_the_environment_takes_precedence_over_a_file_in_dot_env(env, tmp_path):
    (tmp_path / ".env").write_text("RAG_AUTH_TOKEN_FILE=/nowhere\nEMBED_API_KEY=plain\n")
    (tmp_path / "key").write_text("file")
    env(RAG_AUTH_TOKEN="mine", EMBED_API_KEY_FILE=str(tmp_path / "key"))
    settings = load_settings()
    assert settings.rag_auth_token.get_secret_value() == "mine"
    assert settings.embed_api_key.get_secret_value() == "file"


# --- Kafka


@pytest.mark.parametrize(
    ("text", "brokers", "tls"),
    [
        ("kafka:9092", "kafka:9092", False),
        ("kafka://a:1, kafka://b:2/", "a:1,b:2", False),
        ("kafka://a:1,b", "a:1,b:9092", False),
        ("kafka+ssl://a:9093,kafka+ssl://b:9093", "a:9093,b:9093", True),
        ("KAFKA+SSL://a:9093", "a:9093", True),
        ("[::1]:9092", "[::1]:9092", False),
        ("10.0.0.1:09092", "10.0.0.1:9092", False),
    ],
)
def test_brokers_are_parsed_with_and_without_a_scheme(env, text, brokers, tls):
    env(KAFKA_BROKER=text)
    assert (load_settings().brokers, load_settings().kafka_tls) == (brokers, tls)


@pytest.mark.parametrize(
    "text",
    [
        "http://kafka:9092",
        "kafka+ssl://a:1,b:1",
        "kafka:0",
        "kafka:65536",
        "kafka:port",
        "kafka:",
        "a:1:2",
        "a b:1",
        ",",
        "kafka://",
        "kafka://a:1/path",
    ],
)
def test_invalid_brokers_are_rejected(env, text):
    env(KAFKA_BROKER=text)
    assert set(problems()) == {"KAFKA_BROKER"}


def test_a_broker_with_a_password_is_rejected_without_repeating_it(env):
    env(KAFKA_BROKER="kafka://user:hunter22@host:1")
    sentence = problems()["KAFKA_BROKER"]
    assert "hunter22" not in sentence
    assert "KAFKA_PASSWORD" in sentence


@given(st.text())
@example("kafka://[")
def test_any_broker_text_is_parsed_or_rejected_with_a_sentence(text):
    sentence = rejection(parse_brokers, text)
    if sentence is not None:
        assert sentence.startswith(("is ", "has ", "mixes ", "contains "))
    else:
        brokers, _ = parse_brokers(text)
        assert all(1 <= int(broker.rpartition(":")[2]) <= 65535 for broker in brokers)


def test_kafka_options_are_a_json_object_of_scalars(env):
    env(
        KAFKA_OPTIONS='{"fetch.wait.max.ms": 5, "client.rack": "a", "socket.keepalive.enable": true}'
    )
    assert load_settings().kafka_options == {
        "fetch.wait.max.ms": 5,
        "client.rack": "a",
        "socket.keepalive.enable": True,
    }


@pytest.mark.parametrize(
    "text", ["[]", "5", "{", '{"a": []}', '{"a": null}', '{"group.id": "x"}', "[" * 100_000]
)
def test_invalid_kafka_options_are_rejected(env, text):
    env(KAFKA_OPTIONS=text)
    assert set(problems()) == {"KAFKA_OPTIONS"}


@pytest.mark.parametrize(
    ("given_", "missing"),
    [
        ({"KAFKA_USERNAME": "u"}, "KAFKA_PASSWORD"),
        ({"KAFKA_PASSWORD": "p"}, "KAFKA_USERNAME"),
        ({"KAFKA_SASL_MECHANISM": "PLAIN"}, "KAFKA_SASL_MECHANISM"),
    ],
)
def test_a_user_name_without_a_password_is_rejected(env, given_, missing):
    env(**given_)
    assert set(problems()) == {missing}


def test_a_user_name_alone_means_plain(env):
    env(KAFKA_USERNAME="u", KAFKA_PASSWORD="p")
    assert load_settings().sasl_mechanism == "PLAIN"


def test_a_ca_file_for_brokers_without_tls_is_rejected(env, tmp_path):
    (tmp_path / "ca.pem").write_text("")
    env(KAFKA_CA_FILE=str(tmp_path / "ca.pem"))
    assert "kafka+ssl://" in problems()["KAFKA_CA_FILE"]
    env(KAFKA_BROKER="kafka+ssl://kafka:9093")
    assert load_settings().kafka_tls


@pytest.mark.parametrize("name", ["KAFKA_CA_FILE", "HTTP_CA_FILE"])
def test_a_ca_file_that_does_not_exist_is_rejected(env, name):
    env(KAFKA_BROKER="kafka+ssl://kafka", **{name: "/nowhere.pem"})
    assert "/nowhere.pem" in problems()[name]


def test_dead_letters_cannot_go_to_the_topic_itself(env):
    env(KAFKA_TOPIC="a", DEAD_LETTER_TOPIC="a")
    assert set(problems()) == {"DEAD_LETTER_TOPIC"}


@pytest.mark.parametrize("topic", ["a b", "a/b", "..", "x" * 250, "é"])
def test_a_topic_name_that_kafka_does_not_allow_is_rejected(env, topic):
    env(KAFKA_TOPIC=topic)
    assert set(problems()) == {"KAFKA_TOPIC"}


# --- URLs


@pytest.mark.parametrize(
    ("text", "endpoints"),
    [
        ("http://ollama:11434/api/embeddings", ("http://ollama:11434",)),
        ("http://api", ("http://api",)),
        ("http://ollama:11434/api/embed/", ("http://ollama:11434",)),
        ("http://ollama:11434", ("http://ollama:11434",)),
        ("http://ollama:11434/", ("http://ollama:11434",)),
        (" http://a/api/embed , https://b/gpu/api/embeddings ", ("http://a", "https://b/gpu")),
        ("http://a/api/embed,http://a", ("http://a",)),
    ],
)
def test_an_ollama_server_may_be_given_by_any_of_its_urls(env, text, endpoints):
    env(EMBED_URL=text)
    assert load_settings().embed_endpoints == endpoints


@pytest.mark.parametrize(
    "text",
    [
        "ollama:11434",
        "ftp://ollama",
        "http://",
        "http://:11434",
        "http://a:99999",
        "http://a b",
        "http://a/#x",
        "http://a?x=1",
        "http://a/api/generate",
        "http://[::1",
    ],
)
def test_an_invalid_url_is_rejected(env, text):
    env(EMBED_URL=text)
    assert set(problems()) == {"EMBED_URL"}


def test_an_openai_url_in_embed_url_is_rejected_with_the_right_setting(env):
    env(EMBED_URL="http://vllm:8000/v1/embeddings")
    assert "OPENAI_URL" in problems()["EMBED_URL"]


@given(st.text().map(lambda text: "http://" + text))
def test_any_url_is_parsed_or_rejected_with_a_sentence(text):
    sentence = rejection(parse_embed_urls, text)
    assert sentence is None or sentence.startswith(("is ", "has ", "names "))


@pytest.mark.parametrize(
    ("given_", "used"),
    [
        ("http://stargate:8081", "http://stargate:8081/v1/auth"),
        ("http://stargate:8081/", "http://stargate:8081/v1/auth"),
        ("http://stargate:8081/v1/auth", "http://stargate:8081/v1/auth"),
        ("http://gateway/auth", "http://gateway/auth"),
    ],
)
def test_the_auth_url_gets_a_default_path(env, given_, used):
    env(STARGATE_USERNAME="u", STARGATE_PASSWORD="p", STARGATE_AUTH_URL=given_)
    assert load_settings().stargate_auth_url == used


@pytest.mark.parametrize(
    "url", ["https://api.openai.com/v1/", "https://api.openai.com/v1/embeddings"]
)
def test_the_openai_url_may_include_its_path(env, url):
    env(OPENAI_URL=url)
    assert load_settings().openai_url == "https://api.openai.com/v1"


# --- settings that need each other


@pytest.mark.parametrize("variable", ["EMBED_PROVIDER", "EMBED_FALLBACK"])
def test_openai_needs_a_key_unless_the_url_is_another_server(env, variable):
    env(**{variable: "openai"})
    assert variable in problems()["OPENAI_API_KEY"]
    env(OPENAI_URL="http://vllm:8000/v1")
    assert load_settings().openai_api_key is None


def test_openai_cannot_be_its_own_fallback(env):
    env(EMBED_PROVIDER="openai", EMBED_FALLBACK="openai", OPENAI_API_KEY="k")
    assert set(problems()) == {"EMBED_FALLBACK"}
    assert "EMBED_PROVIDER=ollama" in problems()["EMBED_FALLBACK"]


def test_a_fallback_on_the_embedders_own_server_is_rejected(env):
    env(EMBED_FALLBACK="openai", OPENAI_URL="http://two:11434/v1")
    assert load_settings().embed_fallback == "openai"
    env(EMBED_URL="http://one:11434,http://two:11434/api/embed")
    assert set(problems()) == {"OPENAI_URL"}
    env(OPENAI_URL="http://two:8000/v1")
    assert load_settings().embed_fallback == "openai"


def test_custom_bulk_needs_its_url(env):
    env(STARGATE_BULK="custom")
    assert set(problems()) == {"STARGATE_BULK_URL"}
    env(STARGATE_BULK_URL="http://bulk:9000/rows?source=gibsey")
    assert load_settings().stargate_bulk_url == "http://bulk:9000/rows?source=gibsey"


@pytest.mark.parametrize("left_out", ["USERNAME", "PASSWORD", "AUTH_URL"])
def test_an_incomplete_stargate_login_is_rejected(env, left_out):
    parts = {"USERNAME": "u", "PASSWORD": "p", "AUTH_URL": "http://auth"}
    del parts[left_out]
    env(**{f"STARGATE_{part}": value for part, value in parts.items()})
    assert set(problems()) == {f"STARGATE_{left_out}"}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("STARGATE_BULK_ROWS", ["0", "101", "ten", "1.5"]),
        ("WINDOW_PAGES", ["0", "2049"]),
        ("WINDOW_MS", ["-1"]),
        ("RAG_TIMEOUT", ["0", "-1", "nan", "inf", "5s"]),
        ("EMBED_DIMENSIONS", ["0", "-768"]),
        ("WORKERS", ["0", "many"]),
        ("SNAPSHOT_SECONDS", ["0", "0.5"]),
        ("STATUS_PORT", ["-1", "65536"]),
        ("STATUS_HOST", ["http://x"]),
        ("LOG_LEVEL", ["loud"]),
        ("STARGATE_KEYSPACE", ["a/b", "1x", "a b"]),
        ("EMBED_LOWERCASE", ["yes"]),
    ],
)
def test_a_value_out_of_range_is_rejected_with_the_valid_range(env, name, values):
    for value in values:
        env(**{name: value})
        found = problems()
        assert set(found) == {name}
        assert "; " in found[name] or "give" in found[name]


def test_all_problems_are_reported_at_once_in_order(env):
    env(RAG_TIMEOUT="0", KAFKA_BROKER="x://", STARGATE_BULK="custom", WORKERS="0")
    env(EMBED_FALLBACK="openai", ON_DELETE="maybe", STARGATE_USERNAME="u")
    with pytest.raises(SettingsError) as raised:
        load_settings()
    names = [name for name, _ in raised.value.problems]
    assert names == [
        "KAFKA_BROKER",
        "OPENAI_API_KEY",
        "STARGATE_PASSWORD",
        "STARGATE_AUTH_URL",
        "STARGATE_BULK_URL",
        "RAG_TIMEOUT",
        "ON_DELETE",
        "WORKERS",
    ]
    lines = str(raised.value).splitlines()
    assert lines[0] == "8 settings are wrong:"
    assert "  WORKERS is '0'; give a whole number from 1 to 1024" in lines


# --- misspelt names


def test_misspelt_names_are_found_with_the_most_similar_setting(env, tmp_path):
    env(STARGATE_TOKN="x", EMBED_URLS="x", RAG_URL="x", KAFKA_BROKERS="x")
    (tmp_path / ".env").write_text("WINDOW_PAGE=3\nRAG_AUTH_TOKEN_FILES=x\n")
    found = dict(Settings.unknown_names())
    assert found["STARGATE_TOKN"] == "STARGATE_AUTH_TOKEN"
    assert found["EMBED_URLS"] == "EMBED_URL"
    assert found["RAG_URL"] == "RAG_REFRESH_URL"
    assert found["KAFKA_BROKERS"] == "KAFKA_BROKER"
    assert found["WINDOW_PAGE"] == "WINDOW_PAGES"
    assert found["RAG_AUTH_TOKEN_FILES"] == "RAG_AUTH_TOKEN_FILE"


def test_settings_and_variables_of_other_programs_are_not_misspelt(env):
    env(RAG_AUTH_TOKEN_FILE="x", PATHS="x", KAFKA_PORT_9092_TCP_ADDR="x", STARGATE_SERVICE_HOST="x")
    env(STARGATE_PORT="tcp://10.0.0.1:8080", BYTEWAX_WORKERS_PER_PROCESS="2")
    assert not {name for name, _ in Settings.unknown_names()} & {
        "RAG_AUTH_TOKEN_FILE",
        "PATHS",
        "KAFKA_PORT_9092_TCP_ADDR",
        "STARGATE_SERVICE_HOST",
        "STARGATE_PORT",
        "BYTEWAX_WORKERS_PER_PROCESS",
    }


# --- no secret shows

HIDDEN = {
    "KAFKA_PASSWORD": "s3cret-kafka",
    "EMBED_API_KEY": "s3cret-embed",
    "OPENAI_API_KEY": "s3cret-openai",
    "STARGATE_AUTH_TOKEN": "s3cret-token",
    "STARGATE_PASSWORD": "s3cret-stargate",
    "RAG_AUTH_TOKEN": "s3cret-rag",
    "KAFKA_OPTIONS": json.dumps(
        {
            "ssl.key.password": "s3cret-key",
            "sasl.password": "s3cret-sasl",
            "ssl.key.pem": "s3cret-pem",
        }
    ),
    "EMBED_URL": "http://u:s3cret-a@one,http://u:s3cret-b@two/api/embed",
    "STARGATE_URL": "http://u:s3cret-c@stargate",
    "RAG_REFRESH_URL": "http://rag/refresh?key=s3cret-d",
}

OTHERS = {
    "KAFKA_USERNAME": "user",
    "STARGATE_USERNAME": "user",
    "STARGATE_AUTH_URL": "http://auth",
}


def test_no_secret_is_in_repr_str_or_the_redacted_settings(env):
    env(**HIDDEN, **OTHERS)
    settings = load_settings()
    shown = [
        repr(settings),
        str(settings),
        f"{settings}",
        repr([settings]),
        str(settings.redacted()),
    ]
    assert not [text for text in shown if "s3cret" in text]
    assert settings.redacted()["STARGATE_AUTH_TOKEN"] == "***"
    assert settings.redacted()["STARGATE_URL"] == "http://***@stargate"
    assert "user" in settings.redacted()["KAFKA_USERNAME"]


def test_the_log_gets_all_secrets_to_redact(env):
    env(**HIDDEN, **OTHERS)
    secrets = set(load_settings().secret_values())
    names = [
        "kafka",
        "embed",
        "openai",
        "token",
        "stargate",
        "rag",
        "key",
        "sasl",
        "pem",
        "a",
        "b",
        "c",
    ]
    assert {f"s3cret-{word}" for word in names} <= secrets


@pytest.mark.parametrize("name", HIDDEN)
def test_no_secret_is_in_the_problems(env, name):
    env(**OTHERS, **{other: value for other, value in HIDDEN.items() if other != name})
    env(**{name: HIDDEN[name] + "\n"}, WORKERS="0", WINDOW_MS="x")
    with pytest.raises(SettingsError) as raised:
        load_settings()
    assert "s3cret" not in str(raised.value) + repr(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EMBED_URL", "ftp://u:s3cret@host"),
        ("EMBED_URL", "http://u:s3cret@host:99999"),
        ("EMBED_URL", "http://u:s3cret@host/api/chat"),
        ("STARGATE_URL", "http://u:s3cret@host?x=s3cret"),
        ("RAG_REFRESH_URL", "http://u:s3 s3cret@host"),
        ("KAFKA_BROKER", "kafka://u:s3cret@host"),
        ("KAFKA_BROKER", "u:s3cret@host:1:2"),
        ("KAFKA_OPTIONS", '{"sasl.password": "s3cret"'),
        ("KAFKA_OPTIONS", '{"sasl.password": ["s3cret"]}'),
    ],
)
def test_no_problem_repeats_a_password_in_a_value(env, name, value):
    env(**{name: value})
    assert "s3cret" not in str(problems())


def test_a_traceback_of_a_settings_error_contains_no_secret(tmp_path):
    script = "from dataflow.config.settings import load_settings; load_settings()"
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env={**HIDDEN, **OTHERS, "WORKERS": "0", "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "WORKERS is '0'" in ended.stderr
    assert "s3cret" not in ended.stderr


# --- .env.example


def test_env_example_is_up_to_date():
    assert (ROOT / ".env.example").read_text() == env_example()


def test_the_unchanged_env_example_sets_nothing(tmp_path):
    text = (ROOT / ".env.example").read_text()
    active = "\n".join(
        line[1:] if line.startswith("#") and line[1:2].isupper() else line
        for line in text.splitlines()
    )
    (tmp_path / ".env").write_text(active)
    assert set(dotenv_values(tmp_path / ".env")) == OURS
    assert load_settings() == Settings(_env_file=None)


def test_every_setting_has_an_explanation_and_a_valid_default(env):
    for name in Settings.names():
        field = Settings.model_fields[name.lower()]
        assert field.description, name
        if default_of(name):
            env(**{name: default_of(name)})
    assert load_settings() == Settings(_env_file=None)


def test_docs_settings_is_up_to_date() -> None:
    assert (ROOT / "docs/settings.md").read_text(encoding="utf-8") == markdown()
