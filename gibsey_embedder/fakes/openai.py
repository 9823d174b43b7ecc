"""A fake OpenAI: `/v1/embeddings` with its limits; `index` gives the order of the vectors."""

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
from gibsey_embedder.fakes.message import Reply, Request, json_reply
from gibsey_embedder.fakes.model import EmbeddingModel, Quirk, RejectedInputError
from gibsey_embedder.fakes.server import FakeServer, wait_until_terminated

API_KEY = "sk-demo"
MAX_INPUTS = 2048
MAX_TOKENS = 8192
MAX_REQUEST_TOKENS = 300_000
LARGEST = 1536
Inputs = list[str]


@dataclass(slots=True)
class Rate:
    """A rate limit: a number of requests per period.

    Attributes:
        requests: Requests per period.
        seconds: Length of a period, which begins with its first request.
        ends_at: Monotonic time when the current period ends.
        served: Requests served in the current period.
        rejected: Requests rejected in all periods.
        periods: Number of periods so far.
    """

    requests: int
    seconds: float
    ends_at: float = 0.0
    served: int = 0
    rejected: int = 0
    periods: int = 0

    def retry_after_s(self) -> float:
        """Count a request, and return 0 if it is served, or else the seconds until a retry."""
        now = time.monotonic()
        if now >= self.ends_at:
            self.ends_at, self.served = now + self.seconds, 0
            self.periods += 1
        if self.served < self.requests:
            self.served += 1
            return 0.0
        self.rejected += 1
        return self.ends_at - now


class OpenAI(FakeServer):
    """An OpenAI-compatible server on a real socket.

    Its vector space differs from Ollama's: it embeds each text together with a marker.

    Args:
        api_key: The Bearer token that requests need; None accepts all requests.
        models: The models that exist.
        shuffle: Whether the vectors in `data` are out of order.
        max_inputs: Maximum number of texts in a request.
        max_request_tokens: Maximum number of tokens in a request.
        request_s: Seconds per request.
        text_s: Seconds per text.
        workers: Maximum number of requests served at once; 0 means no limit.
        host: Address to listen on.
        port: Port; 0 chooses a free one.

    Attributes:
        rate: The rate limit; None means no limit.
        batches: The number of texts of each of the last requests.
        rejected: Requests rejected because of their input.
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
        self.rejected = 0
        self.model = EmbeddingModel(LARGEST, MAX_TOKENS)
        self.batches: deque[int] = deque(maxlen=100_000)
        self._random = random.Random(0)

    @property
    def openai_url(self) -> str:
        """The value for OPENAI_URL."""
        return f"{self.url}/v1"

    def limit(
        self,
        seconds: float = 1.0,
        times: int | None = None,
        header: Literal["retry-after", "retry-after-ms"] = "retry-after-ms",
        when: When | None = None,
    ) -> None:
        """Reply 429 `rate_limit_exceeded` with the time until a retry."""
        wait = str(round(seconds * 1000) if header == "retry-after-ms" else round(seconds))
        self.faults.status(429, RATE_LIMITED, {header: wait}, times=times, when=when)

    def exhaust(self) -> None:
        """Reply 429 `insufficient_quota` until the faults are cleared."""
        text = "You exceeded your current quota, please check your plan and billing details."
        body = _error_body(text, "insufficient_quota", "insufficient_quota")
        self.faults.status(429, body)

    def add_quirk(self, quirk: Quirk, match: str | None = None, times: int | None = None) -> None:
        """Return wrong vectors for texts that contain `match`; see `Ollama.add_quirk`."""
        self.model.add_quirk(quirk, match, times)

    def expected_vector(self, text: str, size: int = 768) -> list[float]:
        """Return the vector that the server returns for a text."""
        return list(orjson.loads(self.model.encode([_mark(text)], size=size)[0]))

    def details(self) -> dict[str, object]:
        """Return the number of texts of each of the last requests."""
        return {"batches": list(self.batches)[-1000:]}

    async def reply_to(self, request: Request) -> Reply:
        """Return the reply to one request."""
        if self.api_key is not None and request.bearer() != self.api_key:
            text = "Incorrect API key provided. You can find your API key at /account/api-keys."
            return _error(401, text, "invalid_request_error", "invalid_api_key")
        if request.path == "/v1/models" and request.method == "GET":
            data = [{"id": name, "object": "model"} for name in self.models]
            return json_reply({"object": "list", "data": data})
        if self.rate is not None and (wait_s := self.rate.retry_after_s()):
            headers = {"retry-after-ms": str(math.ceil(wait_s * 1000))}
            return Reply(429, RATE_LIMITED, headers=headers)
        if request.path != "/v1/embeddings" or request.method != "POST":
            return _error(404, f"Unknown request URL: {request.method} {request.path}")
        try:
            body = orjson.loads(request.body)
        except orjson.JSONDecodeError:
            return _error(400, "We could not parse the JSON body of your request.")
        return await self._embed(body)

    async def _embed(self, body: dict[str, object]) -> Reply:
        model, size = body.get("model"), body.get("dimensions", LARGEST)
        if model not in self.models:
            text = f"The model `{model}` does not exist or you do not have access to it."
            return _error(404, text, "invalid_request_error", "model_not_found")
        if not isinstance(size, int) or not 0 < size <= LARGEST:
            return _error(400, "Invalid value for 'dimensions'.")
        texts = [given] if isinstance(given := body.get("input"), str) else given
        if not isinstance(texts, list):
            return _error(400, "'$.input' is invalid. Please check the API reference.")
        if (error := self._input_error(texts)) is not None:
            self.rejected += 1
            return _error(400, error)
        if self.text_s:
            await asyncio.sleep(self.text_s * len(texts))
        try:
            return self._vectors(str(model), texts, size)
        except RejectedInputError:
            return _error(400, "The input was rejected.")

    def _input_error(self, texts: list[object]) -> str | None:
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
        limit = self.max_request_tokens
        if sum(tokens) > limit:
            return f"Requested {sum(tokens)} tokens, max {limit} tokens per request"
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
        self.stats.count_done(len(texts))
        tokens = sum(map(self.model.tokens, texts))
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return json_reply({"object": "list", "data": data, "model": model, "usage": usage})


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
    """Run an OpenAI-compatible server as a process of its own."""
    parser = argparse.ArgumentParser(
        prog="python -m gibsey_embedder.fakes.openai", description=__doc__
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--request-s", type=float, default=0.0, help="seconds per request")
    parser.add_argument("--text-s", type=float, default=0.0, help="seconds per text")
    parser.add_argument("--api-key", default=API_KEY)
    wait_until_terminated(OpenAI(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
