"""`.env.example` also works with `docker run --env-file`, which has its own parser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dataflow.config.settings import SECRETS, Settings, SettingsError
from tests.deploy.stack import EXAMPLE


def env_file(text: str) -> dict[str, str]:
    """The variables that `docker run --env-file` reads, as observed with the Docker CLI 28.

    It strips leading spaces only. It knows no quotes, no `export` and no comment after a value. It
    takes the value of a name without `=` from the shell.
    """
    variables = {}
    for line in filter(None, (line.lstrip() for line in text.split("\n"))):
        if line.startswith("#"):
            continue
        name, is_given, value = line.partition("=")
        assert name, f"no variable name on line {line!r}"
        assert not re.search(r"\s", name), f"variable {name!r} contains whitespaces"
        if is_given:
            variables[name] = value
    return variables


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # without a .env
    for name in (*Settings.names(), *(f"{name.upper()}_FILE" for name in SECRETS)):
        monkeypatch.delenv(name, raising=False)


def settings_of(text: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in env_file(text).items():
        monkeypatch.setenv(name, value)
    return Settings()


def test_the_unchanged_example_sets_nothing(monkeypatch):
    assert env_file(EXAMPLE) == {}


def test_every_line_of_the_example_is_valid(monkeypatch):
    text = re.sub(r"(?m)^#([A-Z][A-Z0-9_]*=)", r"\1", EXAMPLE)
    assert set(Settings.names()) <= env_file(text).keys()
    assert settings_of(text, monkeypatch) == Settings.model_construct()


def test_both_parsers_read_the_same_settings(monkeypatch, tmp_path):
    lines = ['KAFKA_OPTIONS={"fetch.wait.max.ms": 50}', "EMBED_URL=http://a:11434,http://b:11434"]
    lines += ["EMBED_MODEL=nomic-embed-text:v1.5", "LOG_FORMAT=json", "RAG_TIMEOUT=2.5"]
    text = "\n".join(lines) + "\n"
    (tmp_path / ".env").write_text(text)
    by_dotenv = Settings()
    (tmp_path / ".env").unlink()
    assert settings_of(text, monkeypatch) == by_dotenv


def test_a_space_at_the_end_counts_and_quotes_are_rejected(monkeypatch):
    assert settings_of("EMBED_PREFIX=search_document: ", monkeypatch).embed_prefix[-1] == " "
    quoted = 'EMBED_PREFIX="search_document: "\nKAFKA_BROKER=\'kafka:9092\'\nKAFKA_GROUP="g"'
    with pytest.raises(SettingsError) as rejected:
        settings_of(quoted, monkeypatch)
    assert [name for name, _ in rejected.value.problems] == [
        "KAFKA_BROKER",
        "KAFKA_GROUP",
        "EMBED_PREFIX",
    ]
    assert all("--env-file" in problem for _, problem in rejected.value.problems)


def test_quotes_may_be_part_of_a_password(monkeypatch):
    token = settings_of("STARGATE_AUTH_TOKEN='secret'", monkeypatch).stargate_auth_token
    assert token is not None
    assert token.get_secret_value() == "'secret'"
