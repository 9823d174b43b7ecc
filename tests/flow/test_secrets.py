"""No secret appears in anything that the program puts out."""

from __future__ import annotations

import httpx

from demo.stargate import Stargate
from tests.deadline import eventually
from tests.flow.stream import DONE_S, Stream

SECRETS = {
    "STARGATE_PASSWORD": "pass-word-of-stargate",
    "RAG_AUTH_TOKEN": "token-of-rag",
    "EMBED_API_KEY": "key-of-embedder",
    "OPENAI_API_KEY": "key-of-openai",
}
PAGES = ("", "status.json", "metrics", "healthz", "readyz")


def test_secrets_are_in_no_log_line_and_on_no_page_of_the_status_port(stream: Stream) -> None:
    with Stargate(users={"alice": SECRETS["STARGATE_PASSWORD"]}) as stargate:
        worker = stream.start(
            **SECRETS,
            STARGATE_URL=stargate.url,
            STARGATE_AUTH_TOKEN="",
            STARGATE_USERNAME="alice",
            STARGATE_AUTH_URL=f"{stargate.url}/v1/auth",
            EMBED_URL=stream.ollama.url.replace("//", "//user:pass-in-the-url@"),
            LOG_LEVEL="debug",
        )
        stream.rag.faults.status(401, b'{"error":"who are you"}')
        stream.write("a", "a page")
        stream.raw(b"garbage")
        stream.kafka.flush()
        eventually(lambda: len(stream.kafka.read("cdc.pages.dlq")) == 2, DONE_S)
        eventually(lambda: stargate.vectors.vector("a") is not None, DONE_S)
        answers = [httpx.get(f"http://127.0.0.1:{worker.status_port}/{page}") for page in PAGES]
        worker.stop()
    told = "\n".join([worker.log, *(answer.text for answer in answers)])
    assert "Upsert OK" in told
    for secret in [*SECRETS.values(), "pass-in-the-url"]:
        assert secret not in told
