"""A fake Ollama: vectors of hashed n-grams in the responses of Ollama 0.13 and 0.24."""

from __future__ import annotations

import argparse
import asyncio
import heapq
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import ClassVar, Literal

import orjson

from gibsey_embedder.fakes.message import Reply, Request, json_reply, text_reply
from gibsey_embedder.fakes.model import EmbeddingModel, Quirk, RejectedInputError
from gibsey_embedder.fakes.server import FakeServer, wait_until_terminated

Version = Literal["0.13", "0.24"]
Handler = Callable[[dict[str, object]], Awaitable[Reply]]

LEGACY_LENGTH = 22.5
TEXTS_KEPT = 200_000
BUSY = "server busy, please try again.  maximum pending requests exceeded"
TOO_LONG = {
    "0.13": "input exceeds maximum context length",
    "0.24": "the input length exceeds the context length",
}
NAN = "failed to encode response: json: unsupported value: NaN"
EOF = 'do embedding request: Post "http://127.0.0.1:34117/embedding": EOF'
NO_RUNNER = "llama runner process no longer running: -1 "


class KilledError(Exception):
    """The model's process died during a request; `str()` is Ollama's error message."""


class Ollama(FakeServer):
    """An Ollama on a real socket.

    Like the real one, each server computes one request at a time, and the other requests wait.
    `stats.busy_s` is the time spent computing, and `stats.items` counts texts. Each model except
    the first has a vector space of its own: it embeds each text together with the model's name.

    Args:
        request_s: Seconds of computing per request, in addition to `text_s`.
        text_s: Seconds of computing per text.
        servers: Number of servers behind the address; they share one queue.
        version: The version to imitate: `0.13` or `0.24`.
        legacy_only: Whether `/api/embed` is missing, as in old servers.
        queue: Requests that may wait before the reply is 503; Ollama's default is 512.
        api_key: The Bearer token that requests need; None accepts all requests.
        models: The models that are present.
        context: Maximum number of tokens in a text.
        dimensions: Length of the vectors.
        capitals_defect: Whether words with capitals become `[UNK]`.
        cheap: Whether a hash selects a precomputed vector, for benchmarks.
        load_s: Seconds that the first request waits until the model is loaded.
        record: Whether `texts` keeps the last 200,000 texts.
        host: Address to listen on.
        port: Port; 0 chooses a free one.
    """

    CONTROLS: ClassVar[frozenset[str]] = frozenset(
        {"delay_s", "request_s", "text_s", "legacy_only", "load_s"}
    )

    def __init__(
        self,
        *,
        request_s: float = 0.0,
        text_s: float = 0.0,
        servers: int = 1,
        version: Version = "0.24",
        legacy_only: bool = False,
        queue: int = 512,
        api_key: str | None = None,
        models: tuple[str, ...] = ("nomic-embed-text",),
        context: int = 2048,
        dimensions: int = 768,
        capitals_defect: bool = False,
        cheap: bool = False,
        load_s: float = 0.0,
        record: bool = True,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        super().__init__(host=host, port=port)
        self.stats.counts_busy = False
        self.request_s, self.text_s, self.load_s = request_s, text_s, load_s
        self.version, self.legacy_only = version, legacy_only
        self.queue, self.api_key = queue, api_key
        self.model = EmbeddingModel(
            dimensions, context, capitals_defect=capitals_defect, cheap=cheap
        )
        self.models = {_full_name(name) for name in models}
        self._plain_model = _full_name(models[0]) if models else ""
        self.texts: deque[str] | None = deque(maxlen=TEXTS_KEPT) if record else None
        self.batches: deque[int] = deque(maxlen=TEXTS_KEPT)
        self._waiting = 0
        self._free_at = [0.0] * servers
        self.create_loop_objects()

    @property
    def embed_url(self) -> str:
        """The value for EMBED_URL: the legacy endpoint."""
        return f"{self.url}/api/embeddings"

    def add_quirk(self, quirk: Quirk, match: str | None = None, times: int | None = None) -> None:
        """Return wrong vectors or errors for texts that contain `match`.

        Args:
            quirk: `nan` (an error message about NaN), `nan_literal`, `infinity`, `zero`, `short`
                (767 numbers), `few` (a vector is missing), `many` (one vector too many),
                `rejected` (400 for the request), `unnormalised` (not unit length).
            match: Selects texts; None selects all.
            times: The number of texts; None means no limit.
        """
        self.model.add_quirk(quirk, match, times)

    def clear_quirks(self) -> None:
        """Remove all quirks."""
        self.model.clear_quirks()

    def expected_vector(self, text: str, model: str) -> list[float]:
        """Return the vector that a model returns for a short text."""
        return list(orjson.loads(self.model.encode([self._as_seen(text, model)])[0]))

    def pull(self, model: str) -> None:
        """Add a model."""
        self.models.add(_full_name(model))

    def remove(self, model: str) -> None:
        """Remove a model."""
        self.models.discard(_full_name(model))

    def kill_runner(self, recover_s: float = 0.5) -> None:
        """Kill the model's process: requests in flight fail, and the next one waits `recover_s`."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._kill, recover_s)

    def create_loop_objects(self) -> None:
        """Create the semaphore of the servers and the event of a killed model."""
        self._computing = asyncio.Semaphore(len(self._free_at))
        self._killed = asyncio.Event()

    def details(self) -> dict[str, object]:
        """Return the number of texts of each of the last requests."""
        return {"batches": list(self.batches)[-1000:]}

    async def reply_to(self, request: Request) -> Reply:
        """Return the reply to one request."""
        if self.api_key is not None and request.bearer() != self.api_key:
            return _error("unauthorized", 401)
        if request.method in ("GET", "HEAD"):
            return self._get(request.path)
        handler = self._posts().get(request.path)
        if handler is None:
            return text_reply("404 page not found", 404)
        try:
            body = orjson.loads(request.body)
        except orjson.JSONDecodeError:
            return _error("missing request body" if not request.body else "invalid JSON", 400)
        if not isinstance(body, dict):
            return _error("json: cannot unmarshal into Go value of type api.EmbedRequest", 400)
        return await handler(body)

    def _posts(self) -> dict[str, Handler]:
        posts: dict[str, Handler] = {
            "/api/embeddings": self._legacy,
            "/api/show": self._show,
            "/api/pull": self._pull,
        }
        return posts if self.legacy_only else posts | {"/api/embed": self._embed}

    def _get(self, path: str) -> Reply:
        if path == "/":
            return text_reply("Ollama is running")
        if path == "/api/version":
            return json_reply({"version": f"{self.version}.0"})
        if path == "/api/tags":
            models = [{"name": name, "model": name} for name in sorted(self.models)]
            return json_reply({"models": models})
        return text_reply("404 page not found", 404)

    async def _embed(self, body: dict[str, object]) -> Reply:
        if (error := self._request_error(body)) is not None:
            return error
        given = body.get("input") or []
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            return _error("invalid input type", 400)
        if body.get("truncate") is False and any(map(self.model.too_long, texts)):
            return _error(TOO_LONG[self.version], 400)
        size = body.get("dimensions")
        began = time.perf_counter_ns()
        failed = 500 if self.version == "0.13" else 400
        try:
            size = size if isinstance(size, int) else None
            vectors = await self._compute(texts, str(body["model"]), size=size)
        except KilledError as killed:
            return _error(str(killed), failed)
        except RejectedInputError as rejected:
            return _error(NAN, failed) if rejected.quirk == "nan" else _error("bad input", 400)
        head = {
            "model": body["model"],
            "total_duration": time.perf_counter_ns() - began,
            "load_duration": 1_000_000,
            "prompt_eval_count": sum(map(len, texts)) // 4,
        }
        tail = orjson.dumps(head)[1:]
        return Reply(200, b'{"embeddings":[' + b",".join(vectors) + b"]," + tail)

    async def _legacy(self, body: dict[str, object]) -> Reply:
        if (error := self._request_error(body)) is not None:
            return error
        prompt = body.get("prompt") or ""
        if not isinstance(prompt, str):
            return _error("json: cannot unmarshal into Go struct field .prompt of type string", 400)
        if not prompt:
            return json_reply({"embedding": []})
        if self.version == "0.24" and self.model.too_long(prompt):
            return _error(TOO_LONG[self.version], 500)
        try:
            vectors = await self._compute([prompt], str(body["model"]), length=LEGACY_LENGTH)
        except KilledError as killed:
            return _error(str(killed), 500)
        except RejectedInputError as rejected:
            return _error(NAN if rejected.quirk == "nan" else "bad input", 500)
        return Reply(200, b'{"embedding":' + (vectors[0] if vectors else b"[]") + b"}")

    async def _compute(
        self, texts: list[str], model: str, *, size: int | None = None, length: float = 1.0
    ) -> list[bytes]:
        if not texts:
            return []
        self._waiting += 1
        try:
            await self._wait_for_slot(len(texts))
        finally:
            self._waiting -= 1
        self.batches.append(len(texts))
        self.stats.count_done(len(texts))
        if self.texts is not None:
            self.texts.extend(texts)
        fitting = [self._as_seen(self.model.truncate(text), model) for text in texts]
        return self.model.encode(fitting, size=size, length=length)

    def _as_seen(self, text: str, model: str) -> str:
        return text if _full_name(model) == self._plain_model else f"{model} {text} {model}"

    async def _wait_for_slot(self, texts: int) -> None:
        received, killed = time.monotonic(), self._killed
        async with self._computing:
            if killed.is_set():
                raise KilledError(NO_RUNNER)
            # a late timer must not count as idle time, so this is not the current time
            began = max(received, heapq.heappop(self._free_at))
            ends = began + self.load_s + self.request_s + self.text_s * texts
            self.load_s = 0.0
            self.stats.hold(began)
            try:
                if (wait_s := ends - time.monotonic()) > 0:
                    await asyncio.wait_for(killed.wait(), wait_s)
                    raise KilledError(EOF)
            except asyncio.TimeoutError:
                pass
            except BaseException:
                ends = max(began, min(time.monotonic(), ends))
                raise
            finally:
                self.stats.busy_s += ends - began
                self.stats.release(ends)
                heapq.heappush(self._free_at, ends)

    def _kill(self, recover_s: float) -> None:
        killed, self._killed = self._killed, asyncio.Event()
        self.load_s = recover_s
        killed.set()

    def _request_error(self, body: dict[str, object]) -> Reply | None:
        name = body.get("model")
        if not isinstance(name, str) or not name:
            return _error("model is required", 400)
        if body.get("keep_alive") == "-1":
            return _error('time: missing unit in duration "-1"', 400)
        if _full_name(name) not in self.models:
            return _error(f'model "{name}" not found, try pulling it first', 404)
        if self._waiting > self.queue:
            return _error(BUSY, 503)
        return None

    async def _show(self, body: dict[str, object]) -> Reply:
        name = str(body.get("model") or body.get("name") or "")
        if _full_name(name) not in self.models:
            return _error(f"model '{name}' not found", 404)
        info = {
            "general.architecture": "nomic-bert",
            "nomic-bert.embedding_length": self.model.dimensions,
            "nomic-bert.context_length": self.model.context,
        }
        return json_reply({"model_info": info, "capabilities": ["embedding"]})

    async def _pull(self, body: dict[str, object]) -> Reply:
        self.pull(str(body.get("model") or body.get("name") or ""))
        if body.get("stream") is False:
            return json_reply({"status": "success"})
        lines = b'{"status":"pulling manifest"}\n{"status":"success"}\n'
        return Reply(200, lines, "application/x-ndjson")


def _full_name(name: str) -> str:
    return name if ":" in name else f"{name}:latest"


def _error(text: str, status: int) -> Reply:
    return json_reply({"error": text}, status)


def main() -> None:
    """Run an Ollama as a process of its own."""
    parser = argparse.ArgumentParser(
        prog="python -m gibsey_embedder.fakes.ollama", description=__doc__
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--request-s", type=float, default=0.0, help="seconds per request")
    parser.add_argument("--text-s", type=float, default=0.0, help="seconds per text")
    parser.add_argument("--servers", type=int, default=1, help="servers behind the address")
    parser.add_argument("--version", choices=("0.13", "0.24"), default="0.24")
    parser.add_argument("--queue", type=int, default=512)
    parser.add_argument("--cheap", action="store_true", help="precomputed vectors, for benchmarks")
    parser.add_argument("--legacy-only", action="store_true")
    parser.add_argument("--capitals-defect", action="store_true")
    parser.add_argument("--api-key")
    wait_until_terminated(Ollama(record=False, **vars(parser.parse_args())))


if __name__ == "__main__":
    main()
