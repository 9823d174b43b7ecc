from __future__ import annotations

import asyncio
import math
import socket
import threading

import pytest

from connectors.core.errors import ConfigurationError, RejectedError, TransientError
from connectors.embedders.base import EmbedderClient, ModelInfo, TextTooLongError
from connectors.embedders.ollama.client import LEGACY_S, OllamaClient
from connectors.embedders.ollama.urls import root_of
from connectors.http.client import HttpClient
from gibsey_embedder.fakes.message import Request
from gibsey_embedder.fakes.ollama import Ollama
from tests.connectors.http.clients import using, vectors_of

MODEL = "nomic-embed-text"


def client_of(server: Ollama, **other):
    return lambda http: OllamaClient(http, server.embed_url, MODEL, 768, **other)


def is_batch(request: Request) -> bool:
    return request.path == "/api/embed"


def test_vectors_keep_the_text_of_the_server():
    with Ollama() as server:
        server.faults.status(200, b'{"model":"m","embeddings":[[6e-1,0.80],[-1,0E0]]}')
        embed = using(
            lambda http: OllamaClient(http, server.embed_url, MODEL, 2),
            lambda client: client.embed(["a", "b"], timeout_s=10, truncate=False),
        )
    assert embed == [b"[6e-1,0.80]", b"[-1,0E0]"]


def fail_with(server: Ollama, status: int, error_text: str, headers=None) -> None:
    body = b'{"error":"%s"}' % error_text.replace('"', '\\"').encode()
    server.faults.status(status, body, headers)


@pytest.mark.parametrize(
    ("given", "root"),
    [
        ("http://ollama:11434/api/embeddings", "http://ollama:11434"),
        ("http://ollama:11434/api/embed", "http://ollama:11434"),
        ("http://ollama:11434/api/embed/", "http://ollama:11434"),
        ("http://ollama:11434/api", "http://ollama:11434"),
        ("http://ollama:11434/v1/embeddings", "http://ollama:11434"),
        ("http://ollama:11434/", "http://ollama:11434"),
        ("http://ollama:11434", "http://ollama:11434"),
        ("https://proxy/gpu%20one/api/embeddings", "https://proxy/gpu%20one"),
        ("https://proxy/gpu", "https://proxy/gpu"),
        ("http://user:pass@proxy:80/api/embed", "http://user:pass@proxy"),
    ],
)
def test_the_root_is_found_from_any_url_that_people_set(given, root):
    assert root_of(given) == root


def test_a_client_is_an_embedder_client_and_shows_no_secret():
    http = HttpClient()
    url = "http://user:hunter2@127.0.0.1:1/secret-path/api/embeddings"
    client: EmbedderClient = OllamaClient(http, url, MODEL, 768, "sk-key")
    assert client.name == "http://127.0.0.1:1"
    shown = repr(client) + client.name + str(client)
    assert not any(secret in shown for secret in ("hunter2", "secret-path", "sk-key"))


def test_the_key_is_sent_as_bearer_and_the_error_of_a_missing_one_names_its_setting():
    with Ollama(api_key="sk-key") as server:
        assert len(vectors_of(client_of(server, api_key="sk-key"), ["a"])) == 1
        for key in (None, "sk-wrong"):
            with pytest.raises(ConfigurationError, match="credentials") as caught:
                vectors_of(client_of(server, api_key=key), ["a"])
            assert "EMBED_API_KEY" in caught.value.remedy
            assert "sk-" not in caught.value.detail + caught.value.remedy


def test_a_key_that_the_server_quotes_is_redacted():
    with Ollama() as server:
        fail_with(server, 500, "key sk-secret is odd")
        with pytest.raises(TransientError) as caught:
            vectors_of(client_of(server, api_key="sk-secret"), ["a"])
        assert "key *** is odd" in caught.value.detail


def test_a_password_in_the_url_is_sent_unless_there_is_a_key():
    seen: list[str | None] = []

    def note(request: Request) -> bool:
        seen.append(request.headers.get("Authorization"))
        return False

    with Ollama() as server:
        server.faults.drop(when=note)
        url = server.url.replace("http://", "http://user:pass@")
        for key in (None, "sk-key"):
            vectors_of(lambda http, key=key: OllamaClient(http, url, MODEL, 768, key), ["a"])
    assert seen == ["Basic dXNlcjpwYXNz", "Bearer sk-key"]


def test_the_error_of_a_missing_model_names_the_command_that_pulls_it():
    with Ollama(models=()) as server:
        for call in (lambda c: c.check(), lambda c: c.embed(["a"], timeout_s=5, truncate=False)):
            with pytest.raises(ConfigurationError, match=f"no model {MODEL}") as caught:
                using(client_of(server), call)
            assert f"ollama pull {MODEL}" in caught.value.remedy
        server.pull(MODEL)
        assert len(vectors_of(client_of(server), ["a"])[0] or []) == 768


@pytest.mark.parametrize(
    ("status", "error_text"),
    [
        (400, 'do embedding request: Post "http://127.0.0.1:34117/embedding": EOF'),
        (500, 'do embedding request: Post "http://127.0.0.1:34117/embedding": EOF'),
        (400, "llama runner process no longer running: -1 "),
        (500, "llama runner process has terminated: signal: killed"),
        (400, "dial tcp 127.0.0.1:34117: connect: connection refused"),
        (500, "unexpected server status: llm server loading model"),
        (400, "model requires more system memory (8.0 GiB) than is available (1.0 GiB)"),
        (499, "request canceled"),
        (500, "whatever"),
        (502, "Bad Gateway"),
    ],
)
def test_a_failing_server_is_transient_whatever_its_status(status, error_text):
    with Ollama() as server:
        fail_with(server, status, error_text)
        with pytest.raises(TransientError) as caught:
            vectors_of(client_of(server), ["a"])
        assert not isinstance(caught.value, ConfigurationError)
        assert caught.value.status == status


def test_a_full_queue_is_named_and_its_retry_after_is_kept():
    with Ollama() as server:
        error_text = "server busy, please try again.  maximum pending requests exceeded"
        fail_with(server, 503, error_text, {"Retry-After": "7"})
        with pytest.raises(TransientError, match="queue is full") as caught:
            vectors_of(client_of(server), ["a"])
        assert caught.value.retry_after_s == 7


@pytest.mark.parametrize("version", ["0.13", "0.24"])
def test_a_killed_runner_fails_the_request_in_flight_as_transient(version):
    with Ollama(version=version, request_s=30) as server:
        computing = threading.Event()
        server.faults.slow(0, when=lambda request: computing.set() or False)

        async def kill(client):
            embedding = asyncio.create_task(client.embed(["a"], timeout_s=20, truncate=False))
            await asyncio.to_thread(computing.wait)
            while not embedding.done():  # until the request has reached the runner
                server.kill_runner()
                await asyncio.sleep(0.01)
            return await embedding

        with pytest.raises(TransientError) as caught:
            using(client_of(server), kill)
        assert not isinstance(caught.value, ConfigurationError)


@pytest.mark.parametrize("version", ["0.13", "0.24"])
def test_a_text_longer_than_the_context_is_recognised_unless_it_may_be_truncated(version):
    texts = ["short", "word " * 3000]
    with Ollama(version=version) as server:
        with pytest.raises(TextTooLongError):
            vectors_of(client_of(server), texts)
        assert len(vectors_of(client_of(server), texts, truncate=True)) == 2


def test_a_request_that_is_too_large_for_a_proxy_counts_as_too_long():
    with Ollama() as server:
        server.faults.html(413)
        with pytest.raises(TextTooLongError):
            vectors_of(client_of(server), ["a", "b"])


def test_if_even_the_canary_is_too_long_no_text_is_the_cause():
    with Ollama() as server:
        server.faults.html(413)
        with pytest.raises(ConfigurationError, match="no usable vector of any text"):
            vectors_of(client_of(server), ["a"])


def test_a_refused_text_is_refused_in_any_request_and_alone():
    with Ollama() as server:
        server.add_quirk("rejected", match="bad")
        for texts in (["good", "bad"], ["bad"]):
            with pytest.raises(RejectedError, match="bad input"):
                vectors_of(client_of(server), texts)
        assert len(vectors_of(client_of(server), ["good"])) == 1


@pytest.mark.parametrize("version", ["0.13", "0.24"])
def test_a_vector_of_nan_refuses_its_text_and_not_the_others(version):
    with Ollama(version=version) as server:
        server.add_quirk("nan", match="bad")
        with pytest.raises(RejectedError, match="NaN"):
            vectors_of(client_of(server), ["bad"])


def test_a_text_without_a_utf_8_form_is_refused_and_not_sent():
    with Ollama() as server, pytest.raises(RejectedError, match="UTF-8"):
        vectors_of(client_of(server), ["\ud800"])


def test_texts_arrive_unchanged_whatever_they_contain():
    texts = ["nul \x00", "emoji \U0001f469\u200d\U0001f4bb", '"quoted" \\ ', "\u2028", "tab\t\n"]
    with Ollama() as server:
        vectors_of(client_of(server), texts)
        assert list(server.texts or ()) == texts


@pytest.mark.parametrize("status", [301, 302, 307])
def test_the_error_of_a_redirect_names_the_setting_and_the_target(status):
    with Ollama() as server:
        server.faults.status(status, headers={"Location": "https://other:444/secret?key=1"})
        with pytest.raises(ConfigurationError, match=r"https://other:444") as caught:
            vectors_of(client_of(server), ["a"])
        assert "EMBED_URL" in caught.value.remedy
        assert "secret" not in caught.value.detail


@pytest.mark.parametrize("status", [404, 405, 501])
def test_the_error_of_an_address_without_ollama_names_the_setting(status):
    with Ollama() as server:
        server.faults.html(status)
        with pytest.raises(ConfigurationError, match=f"answered {status}") as caught:
            vectors_of(client_of(server), ["a"])
        assert "EMBED_URL" in caught.value.remedy


def test_garbage_html_and_a_truncated_response_are_transient_and_quoted():
    with Ollama() as server:
        for add_fault, message in (
            (server.faults.garbage, "without vectors: {"),
            (server.faults.html, "Bad Gateway"),
            (server.faults.cut, "sent no complete response"),
            (server.faults.drop, "sent no complete response"),
        ):
            add_fault(times=1)
            with pytest.raises(TransientError, match=message):
                vectors_of(client_of(server), ["a"])
        server.faults.status(200, b'{"error":"odd"}')
        with pytest.raises(TransientError, match="odd"):
            vectors_of(client_of(server), ["a"])


def test_a_silent_or_missing_server_is_transient():
    with Ollama() as server:
        server.faults.hang()
        with pytest.raises(TransientError, match=r"within 0 s|within 1 s"):
            vectors_of(client_of(server), ["a"], timeout_s=0.3)
        server.refuse()
        with pytest.raises(TransientError, match="cannot connect"):
            vectors_of(client_of(server), ["a"])


def test_a_server_without_the_new_path_receives_one_text_per_request():
    texts = ["one", "two", "three"]
    with Ollama() as new, Ollama(legacy_only=True) as old:
        expected = vectors_of(client_of(new), texts)
        got = vectors_of(client_of(old), texts)
        assert list(old.batches) == [1, 1, 1]
    for vector, other in zip(got, expected, strict=True):
        assert math.hypot(*vector) == pytest.approx(1.0, abs=1e-6)
        assert math.dist(vector, other) < 1e-6


@pytest.mark.parametrize("body", [b"", b'{"detail":"Not Found"}', b"<html>no</html>"])
def test_the_legacy_path_is_used_however_the_server_reports_the_missing_one(body):
    with Ollama() as server:
        server.faults.status(404, body, when=is_batch)
        assert len(vectors_of(client_of(server), ["a", "b"])) == 2


def test_a_path_that_was_missing_only_for_a_moment_is_used_again():
    with Ollama() as server:
        server.faults.status(404, b"", times=1)
        client = client_of(server)

        async def ask_twice(client):
            for _ in range(2):
                await client.embed(["a", "b"], timeout_s=5, truncate=False)

        using(client, ask_twice)
        assert list(server.batches) == [1, 1, 2, 2]


def test_the_legacy_path_is_used_for_ten_minutes():
    now = [1000.0]
    with Ollama(legacy_only=True) as server:

        async def ask_thrice(client):
            call = lambda: client.embed(["a", "b"], timeout_s=5, truncate=False)  # noqa: E731
            await call()
            server.legacy_only = False  # updated meanwhile
            await call()
            now[0] += LEGACY_S
            await call()

        using(client_of(server, clock=lambda: now[0]), ask_thrice)
        assert list(server.batches) == [1, 1, 1, 1, 2]


def test_a_legacy_server_receives_no_text_that_it_could_truncate_silently():
    with Ollama(legacy_only=True, version="0.13") as server:
        with pytest.raises(TextTooLongError, match="may truncate"):
            vectors_of(client_of(server), ["word " * 3000])
        assert len(vectors_of(client_of(server), ["word " * 3000], truncate=True)) == 1


def test_a_legacy_call_has_one_timeout_for_all_of_its_texts():
    with Ollama(legacy_only=True) as server:
        server.faults.slow(0.2)
        with pytest.raises(TransientError, match="did not answer"):
            vectors_of(client_of(server), ["a"] * 20, timeout_s=0.5)


def test_the_check_describes_the_model():
    with Ollama(context=512) as server:
        facts = using(client_of(server), lambda client: client.check())
        assert facts == ModelInfo(dimensions=768, context_tokens=512, capitals_defect=False)


def test_the_check_detects_a_tokeniser_that_knows_no_capitals():
    with Ollama(capitals_defect=True) as server:
        assert using(client_of(server), lambda client: client.check()).capitals_defect


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_the_check_works_if_a_proxy_hides_a_path(status):
    with Ollama() as server:
        server.faults.status(status, when=lambda request: request.path == "/api/show")
        facts = using(client_of(server), lambda client: client.check())
        assert facts == ModelInfo(dimensions=768, context_tokens=None)


def test_the_check_rejects_a_model_that_makes_no_embeddings():
    with Ollama() as server:
        body = b'{"capabilities":["completion"],"model_info":{}}'
        server.faults.status(200, body, when=lambda request: request.path == "/api/show")
        with pytest.raises(ConfigurationError, match="no embeddings") as caught:
            using(client_of(server), lambda client: client.check())
        assert "EMBED_MODEL" in caught.value.remedy


def test_the_check_heeds_a_context_that_was_made_smaller():
    with Ollama() as server:
        body = b'{"parameters":"num_ctx    1024\\nstop x","model_info":{"a.context_length":2048}}'
        server.faults.status(200, body, when=lambda request: request.path == "/api/show")
        facts = using(client_of(server), lambda client: client.check())
        assert facts.context_tokens == 1024


def test_a_port_where_something_else_speaks_is_transient():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk() -> None:
            connection, _ = listener.accept()
            connection.recv(65536)
            connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
            connection.close()

        threading.Thread(target=talk, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(TransientError):
            vectors_of(lambda http: OllamaClient(http, url, MODEL, 768), ["a"])
