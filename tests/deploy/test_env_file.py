"""`.env.example` is fit for `docker run --env-file`, too, which reads such a file in its own way."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dataflow.config.settings import SECRETS, Settings, SettingsError
from tests.deploy.stack import EXAMPLE


def env_file(text: str) -> dict[str, str]:
    """What `docker run --env-file` makes of a file: the parser of the Docker CLI 28, as it was seen.

    Lines as they stand, without their leading spaces; no quotes, no `export`, no comment behind a
    value; a name alone is taken from the shell.
    """
    found = {}
    for line in filter(None, (line.lstrip() for line in text.split("\n"))):
        if line.startswith("#"):
            continue
        name, is_given, value = line.partition("=")
        assert name, f"no variable name on line {line!r}"
        assert not re.search(r"\s", name), f"variable {name!r} contains whitespaces"
        if is_given:
            found[name] = value
    return found


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # without a .env
    for name in (*Settings.names(), *(f"{name.upper()}_FILE" for name in SECRETS)):
        monkeypatch.delenv(name, raising=False)


def settings_of(text: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in env_file(text).items():
        monkeypatch.setenv(name, value)
    return Settings()


def test_the_example_as_it_is_changes_nothing(monkeypatch):
    assert env_file(EXAMPLE) == {}


def test_every_line_of_it_can_be_used(monkeypatch):
    text = re.sub(r"(?m)^#([A-Z][A-Z0-9_]*=)", r"\1", EXAMPLE)
    assert set(Settings.names()) <= env_file(text).keys()
    assert settings_of(text, monkeypatch) == Settings.model_construct()


def test_both_ways_to_read_it_give_the_same(monkeypatch, tmp_path):
    lines = ['KAFKA_OPTIONS={"fetch.wait.max.ms": 50}', "EMBED_URL=http://a:11434,http://b:11434"]
    lines += ["EMBED_MODEL=nomic-embed-text:v1.5", "LOG_FORMAT=json", "RAG_TIMEOUT=2.5"]
    text = "\n".join(lines) + "\n"
    (tmp_path / ".env").write_text(text)
    by_dotenv = Settings()
    (tmp_path / ".env").unlink()
    assert settings_of(text, monkeypatch) == by_dotenv


def test_a_space_at_the_end_counts_and_quotes_are_refused(monkeypatch):
    assert settings_of("EMBED_PREFIX=search_document: ", monkeypatch).embed_prefix[-1] == " "
    quoted = 'EMBED_PREFIX="search_document: "\nKAFKA_BROKER=\'kafka:9092\'\nKAFKA_GROUP="g"'
    with pytest.raises(SettingsError) as refused:
        settings_of(quoted, monkeypatch)
    assert [name for name, _ in refused.value.problems] == [
        "KAFKA_BROKER",
        "KAFKA_GROUP",
        "EMBED_PREFIX",
    ]
    assert all("--env-file" in fault for _, fault in refused.value.problems)


def test_a_password_in_quotes_may_be_one(monkeypatch):
    given = "STARGATE_AUTH_TOKEN='secret'"
    token = settings_of(given, monkeypatch).stargate_auth_token
    assert token is not None
    assert token.get_secret_value() == "'secret'"
