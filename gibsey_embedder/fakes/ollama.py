"""Ollama's stand-in: hashed n-grams behind the answers of 0.13 and 0.24, as seen on real ones."""

from __future__ import annotations

import argparse
import asyncio
import heapq
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import ClassVar, Literal

import orjson

from gibsey_embedder.fakes.message import Reply, Request, json_answer, text_answer
from gibsey_embedder.fakes.model import EmbeddingModel, Quirk, RefusedError
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
    """The model's process died under a request; the text is what Ollama answers."""


class Ollama(FakeServer):
    """An Ollama on a real socket.

    One request computes at a time, the others wait, as in the real one; several do where several
    servers stand behind its address. `stats.busy_s` is the time spent computing, `stats.items` the
    texts. Vectors of each model but the first are of a space of their own: each text is embedded
    behind the model's name.

    Args:
        request_s: Seconds that each request computes, beside `text_s`.
        text_s: Seconds that each text computes.
        servers: How many stand behind its address, each with a queue in common.
        version: Whose answers: `0.13` or `0.24`.
        legacy_only: Whether `/api/embed` is missing, as in old servers.
        queue: Requests that may wait before a 503; 512 is the real default.
        api_key: Bearer token asked for; None asks for none.
        models: Models that are pulled.
        context: TokenSource that a text may have.
        dimensions: Numbers of a vector.
        capitals_defect: Whether words with capitals become `[UNK]`.
        cheap: Whether vectors are drawn by hash, for benchmarks.
        load_s: Seconds that the first request waits for the model to be loaded.
        record: Whether `texts` keeps the last 200,000 texts.
        host: Address to listen on.
        port: Port; 0 takes a free one.
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
        self.renew()

    @property
    def embed_url(self) -> str:
        """What EMBED_URL is set to by default: the legacy endpoint."""
        return f"{self.url}/api/embeddings"

    def spoil(self, quirk: Quirk, match: str | None = None, times: int | None = None) -> None:
        """Gives wrong vectors or errors for texts that hold `match`.

        Args:
            quirk: `nan` (an error that says NaN), `nan_literal`, `infinity`, `zero`, `short`
                (767 numbers), `few` (a vector is missing), `many` (one too many), `refused`
                (400 for the request that holds the text), `unnormalised` (not unit length).
            match: Text to look for; None is every text.
            times: For how many texts; None is for ever.
        """
        self.model.spoil(quirk, match, times)

    def heal(self) -> None:
        """Ends all that `spoil` began."""
        self.model.heal()

    def right_vector(self, text: str, model: str) -> list[float]:
        """The vector that a model gives for a short text."""
        return list(orjson.loads(self.model.encode([self._as_seen(text, model)])[0]))

    def pull(self, model: str) -> None:
        """Makes a model present."""
        self.models.add(_full_name(model))

    def remove(self, model: str) -> None:
        """Makes a model absent."""
        self.models.discard(_full_name(model))

    def kill_runner(self, recover_s: float = 0.5) -> None:
        """Kills the model's process: requests in flight fail, the next waits `recover_s`."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._kill, recover_s)

    def renew(self) -> None:
        """Makes the computing places anew."""
        self._computing = asyncio.Semaphore(len(self._free_at))
        self._killed = asyncio.Event()

    def details(self) -> dict[str, object]:
        """Texts of each of the last requests."""
        return {"batches": list(self.batches)[-1000:]}

    async def answer(self, request: Request) -> Reply:
        """Answers one request."""
        if self.api_key is not None and request.bearer() != self.api_key:
            return _error("unauthorized", 401)
        if request.method in ("GET", "HEAD"):
            return self._get(request.path)
        handler = self._posts().get(request.path)
        if handler is None:
            return text_answer("404 page not found", 404)
        try:
            order = orjson.loads(request.body)
        except orjson.JSONDecodeError:
            return _error("missing request body" if not request.body else "invalid JSON", 400)
        if not isinstance(order, dict):
            return _error("json: cannot unmarshal into Go value of type api.EmbedRequest", 400)
        return await handler(order)

    def _posts(self) -> dict[str, Handler]:
        posts: dict[str, Handler] = {
            "/api/embeddings": self._legacy,
            "/api/show": self._show,
            "/api/pull": self._pull,
        }
        return posts if self.legacy_only else posts | {"/api/embed": self._embed}

    def _get(self, path: str) -> Reply:
        if path == "/":
            return text_answer("Ollama is running")
        if path == "/api/version":
            return json_answer({"version": f"{self.version}.0"})
        if path == "/api/tags":
            models = [{"name": name, "model": name} for name in sorted(self.models)]
            return json_answer({"models": models})
        return text_answer("404 page not found", 404)

    async def _embed(self, order: dict[str, object]) -> Reply:
        if (fault := self._order_fault(order)) is not None:
            return fault
        given = order.get("input") or []
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            return _error("invalid input type", 400)
        if order.get("truncate") is False and any(map(self.model.too_long, texts)):
            return _error(TOO_LONG[self.version], 400)
        size = order.get("dimensions")
        began = time.perf_counter_ns()
        failed = 500 if self.version == "0.13" else 400
        try:
            size = size if isinstance(size, int) else None
            vectors = await self._compute(texts, str(order["model"]), size=size)
        except KilledError as killed:
            return _error(str(killed), failed)
        except RefusedError as refused:
            return _error(NAN, failed) if refused.quirk == "nan" else _error("bad input", 400)
        head = {
            "model": order["model"],
            "total_duration": time.perf_counter_ns() - began,
            "load_duration": 1_000_000,
            "prompt_eval_count": sum(map(len, texts)) // 4,
        }
        tail = orjson.dumps(head)[1:]
        return Reply(200, b'{"embeddings":[' + b",".join(vectors) + b"]," + tail)

    async def _legacy(self, order: dict[str, object]) -> Reply:
        if (fault := self._order_fault(order)) is not None:
            return fault
        prompt = order.get("prompt") or ""
        if not isinstance(prompt, str):
            return _error("json: cannot unmarshal into Go struct field .prompt of type string", 400)
        if not prompt:
            return json_answer({"embedding": []})
        if self.version == "0.24" and self.model.too_long(prompt):
            return _error(TOO_LONG[self.version], 500)
        try:
            vectors = await self._compute([prompt], str(order["model"]), length=LEGACY_LENGTH)
        except KilledError as killed:
            return _error(str(killed), 500)
        except RefusedError as refused:
            return _error(NAN if refused.quirk == "nan" else "bad input", 500)
        return Reply(200, b'{"embedding":' + (vectors[0] if vectors else b"[]") + b"}")

    async def _compute(
        self, texts: list[str], model: str, *, size: int | None = None, length: float = 1.0
    ) -> list[bytes]:
        if not texts:
            return []
        self._waiting += 1
        try:
            await self._take_turn(len(texts))
        finally:
            self._waiting -= 1
        self.batches.append(len(texts))
        self.stats.carry_out(len(texts))
        if self.texts is not None:
            self.texts.extend(texts)
        fitting = [self._as_seen(self.model.truncate(text), model) for text in texts]
        return self.model.encode(fitting, size=size, length=length)

    def _as_seen(self, text: str, model: str) -> str:
        return text if _full_name(model) == self._plain_model else f"{model} {text} {model}"

    async def _take_turn(self, texts: int) -> None:
        received, killed = time.monotonic(), self._killed
        async with self._computing:
            if killed.is_set():
                raise KilledError(NO_RUNNER)
            # not now: a late timer is no idle embedder
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

    def _order_fault(self, order: dict[str, object]) -> Reply | None:
        name = order.get("model")
        if not isinstance(name, str) or not name:
            return _error("model is required", 400)
        if order.get("keep_alive") == "-1":
            return _error('time: missing unit in duration "-1"', 400)
        if _full_name(name) not in self.models:
            return _error(f'model "{name}" not found, try pulling it first', 404)
        if self._waiting > self.queue:
            return _error(BUSY, 503)
        return None

    async def _show(self, order: dict[str, object]) -> Reply:
        name = str(order.get("model") or order.get("name") or "")
        if _full_name(name) not in self.models:
            return _error(f"model '{name}' not found", 404)
        info = {
            "general.architecture": "nomic-bert",
            "nomic-bert.embedding_length": self.model.dimensions,
            "nomic-bert.context_length": self.model.context,
        }
        return json_answer({"model_info": info, "capabilities": ["embedding"]})

    async def _pull(self, order: dict[str, object]) -> Reply:
        self.pull(str(order.get("model") or order.get("name") or ""))
        if order.get("stream") is False:
            return json_answer({"status": "success"})
        lines = b'{"status":"pulling manifest"}\n{"status":"success"}\n'
        return Reply(200, lines, "application/x-ndjson")


def _full_name(name: str) -> str:
    return name if ":" in name else f"{name}:latest"


def _error(text: str, status: int) -> Reply:
    return json_answer({"error": text}, status)


def main() -> None:
    """Runs an Ollama as a process of its own."""
    parser = argparse.ArgumentParser(
        prog="python -m gibsey_embedder.fakes.ollama", description=__doc__
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--request-s", type=float, default=0.0, help="seconds a request")
    parser.add_argument("--text-s", type=float, default=0.0, help="seconds a text")
    parser.add_argument("--servers", type=int, default=1, help="how many stand behind the address")
    parser.add_argument("--version", choices=("0.13", "0.24"), default="0.24")
    parser.add_argument("--queue", type=int, default=512)
    parser.add_argument("--cheap", action="store_true", help="vectors by hash, for benchmarks")
    parser.add_argument("--legacy-only", action="store_true")
    parser.add_argument("--capitals-defect", action="store_true")
    parser.add_argument("--api-key")
    wait_until_terminated(Ollama(record=False, **vars(parser.parse_args())))


if __name__ == "__main__":
    main()
