"""OpenAI's stand-in: `/v1/embeddings` with its limits, answers out of order by `index`."""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import time
from collections import deque
from dataclasses import dataclass
from typing import ClassVar, Literal

import orjson

from gibsey_embedder.fakes.faults import When
from gibsey_embedder.fakes.message import Reply, Request, json_answer
from gibsey_embedder.fakes.model import EmbeddingModel, Quirk, RefusedError
from gibsey_embedder.fakes.server import FakeServer, wait_until_terminated

API_KEY = "sk-demo"
MAX_INPUTS = 2048
MAX_TOKENS = 8192
MAX_REQUEST_TOKENS = 300_000
LARGEST = 1536
Inputs = list[str]


@dataclass(slots=True)
class Rate:
    """So many requests in each window of time.

    Attributes:
        requests: How many.
        seconds: Length of a window; it begins with its first request.
        ends_at: When the present one ends (monotonic seconds).
        served: Requests served in it.
        refused: Requests refused, in all windows.
        windows: Windows begun.
    """

    requests: int
    seconds: float
    ends_at: float = 0.0
    served: int = 0
    refused: int = 0
    windows: int = 0

    def refuses_for(self) -> float:
        """Count a request; seconds after which it may come again, 0 if it is served."""
        now = time.monotonic()
        if now >= self.ends_at:
            self.ends_at, self.served = now + self.seconds, 0
            self.windows += 1
        if self.served < self.requests:
            self.served += 1
            return 0.0
        self.refused += 1
        return self.ends_at - now


class OpenAI(FakeServer):
    """An OpenAI-compatible server on a real socket.

    Its vectors are of another space than Ollama's: each text is embedded behind a mark.

    Args:
        api_key: Bearer key asked for; None asks for none.
        models: Models that exist.
        shuffle: Whether `data` comes out of order, told apart by `index`.
        max_inputs: Texts that one request may have.
        max_request_tokens: TokenSource that all of them may have.
        request_s: Seconds that each request takes.
        text_s: Seconds that each text takes.
        workers: How many requests are served at once; 0 is no limit.
        host: Address to listen on.
        port: Port; 0 takes a free one.

    Attributes:
        rate: How many requests are served in which time; None is no limit.
        batches: Texts of each of the last requests that were served.
        refusals: Requests refused for what they hold.
    """

    CONTROLS: ClassVar[frozenset[str]] = frozenset({"delay_s", "text_s"})

    def __init__(
        self,
        *,
        api_key: str | None = API_KEY,
        models: tuple[str, ...] = ("text-embedding-3-small", "text-embedding-3-large"),
        shuffle: bool = True,
        max_inputs: int = MAX_INPUTS,
        max_request_tokens: int = MAX_REQUEST_TOKENS,
        request_s: float = 0.0,
        text_s: float = 0.0,
        workers: int = 0,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        super().__init__(host=host, port=port, delay_s=request_s, workers=workers)
        self.api_key, self.models, self.shuffle, self.text_s = api_key, models, shuffle, text_s
        self.max_inputs, self.max_request_tokens = max_inputs, max_request_tokens
        self.rate: Rate | None = None
        self.refusals = 0
        self.model = EmbeddingModel(LARGEST, MAX_TOKENS)
        self.batches: deque[int] = deque(maxlen=100_000)
        self._random = random.Random(0)

    @property
    def openai_url(self) -> str:
        """What OPENAI_URL is set to."""
        return f"{self.url}/v1"

    def limit(
        self,
        seconds: float = 1.0,
        times: int | None = None,
        header: Literal["retry-after", "retry-after-ms"] = "retry-after-ms",
        when: When | None = None,
    ) -> None:
        """Answers 429 `rate_limit_exceeded`, with when to come again."""
        wait = str(round(seconds * 1000) if header == "retry-after-ms" else round(seconds))
        self.faults.status(429, RATE_LIMITED, {header: wait}, times=times, when=when)

    def exhaust(self) -> None:
        """Answers 429 `insufficient_quota` until the faults are cleared."""
        text = "You exceeded your current quota, please check your plan and billing details."
        body = _error_body(text, "insufficient_quota", "insufficient_quota")
        self.faults.status(429, body)

    def spoil(self, quirk: Quirk, match: str | None = None, times: int | None = None) -> None:
        """Gives wrong vectors for texts that hold `match`; quirks as `Ollama.spoil`'s."""
        self.model.spoil(quirk, match, times)

    def right_vector(self, text: str, size: int = 768) -> list[float]:
        """The vector that the server gives for a text."""
        return list(orjson.loads(self.model.encode([_mark(text)], size=size)[0]))

    def details(self) -> dict[str, object]:
        """Texts of each of the last requests."""
        return {"batches": list(self.batches)[-1000:]}

    async def answer(self, request: Request) -> Reply:
        """Answers one request."""
        if self.api_key is not None and request.bearer() != self.api_key:
            text = "Incorrect API key provided. You can find your API key at /account/api-keys."
            return _error(401, text, "invalid_request_error", "invalid_api_key")
        if request.path == "/v1/models" and request.method == "GET":
            data = [{"id": name, "object": "model"} for name in self.models]
            return json_answer({"object": "list", "data": data})
        if self.rate is not None and (wait_s := self.rate.refuses_for()):
            headers = {"retry-after-ms": str(math.ceil(wait_s * 1000))}
            return Reply(429, RATE_LIMITED, headers=headers)
        if request.path != "/v1/embeddings" or request.method != "POST":
            return _error(404, f"Unknown request URL: {request.method} {request.path}")
        try:
            order = orjson.loads(request.body)
        except orjson.JSONDecodeError:
            return _error(400, "We could not parse the JSON body of your request.")
        return await self._embed(order)

    async def _embed(self, order: dict[str, object]) -> Reply:
        model, size = order.get("model"), order.get("dimensions", LARGEST)
        if model not in self.models:
            text = f"The model `{model}` does not exist or you do not have access to it."
            return _error(404, text, "invalid_request_error", "model_not_found")
        if not isinstance(size, int) or not 0 < size <= LARGEST:
            return _error(400, "Invalid value for 'dimensions'.")
        texts = [given] if isinstance(given := order.get("input"), str) else given
        if not isinstance(texts, list):
            return _error(400, "'$.input' is invalid. Please check the API reference.")
        if (fault := self._input_fault(texts)) is not None:
            self.refusals += 1
            return _error(400, fault)
        if self.text_s:
            await asyncio.sleep(self.text_s * len(texts))
        try:
            return self._vectors(str(model), texts, size)
        except RefusedError:
            return _error(400, "The input was refused.")

    def _input_fault(self, texts: list[object]) -> str | None:
        if not texts or not all(isinstance(text, str) and text for text in texts):
            return "'$.input' is invalid. Please check the API reference."
        if len(texts) > self.max_inputs:
            return f"'input' must have at most {self.max_inputs} items."
        tokens = [self.model.tokens(str(text)) for text in texts]
        if max(tokens) > MAX_TOKENS:
            return (
                f"This model's maximum context length is {MAX_TOKENS} tokens, however you "
                f"requested {max(tokens)} tokens. Please reduce your prompt."
            )
        most = self.max_request_tokens
        if sum(tokens) > most:
            return f"Requested {sum(tokens)} tokens, max {most} tokens per request"
        return None

    def _vectors(self, model: str, texts: Inputs, size: int) -> Reply:
        vectors = self.model.encode([_mark(text) for text in texts], size=size)
        data = [
            {"object": "embedding", "index": index, "embedding": orjson.Fragment(vector)}
            for index, vector in enumerate(vectors)
        ]
        if self.shuffle:
            self._random.shuffle(data)
        self.batches.append(len(texts))
        self.stats.carry_out(len(texts))
        tokens = sum(map(self.model.tokens, texts))
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return json_answer({"object": "list", "data": data, "model": model, "usage": usage})


def _mark(text: str) -> str:
    return f"openai {text} openai"


def _error_body(message: str, kind: str, code: str | None) -> bytes:
    error = {"message": message, "type": kind, "param": None, "code": code}
    return orjson.dumps({"error": error})


def _error(
    status: int, message: str, kind: str = "invalid_request_error", code: str | None = None
) -> Reply:
    return Reply(status, _error_body(message, kind, code))


RATE_LIMITED = _error_body("Rate limit reached for requests", "requests", "rate_limit_exceeded")


def main() -> None:
    """Runs an OpenAI-compatible server as a process of its own."""
    parser = argparse.ArgumentParser(
        prog="python -m gibsey_embedder.fakes.openai", description=__doc__
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--request-s", type=float, default=0.0, help="seconds a request")
    parser.add_argument("--text-s", type=float, default=0.0, help="seconds a text")
    parser.add_argument("--api-key", default=API_KEY)
    wait_until_terminated(OpenAI(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
