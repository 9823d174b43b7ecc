"""Who makes the vectors: the endpoints of one model, and how texts are prepared for it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence

from connectors.core.errors import RetryableError, ServiceError, TransientError
from connectors.embedders import chunking
from connectors.embedders.base import EmbedderClient, ModelInfo
from connectors.embedders.batching.throughput import TARGET_S, Throughput
from connectors.embedders.cache import VectorCache
from connectors.embedders.endpoint import CONCURRENCY, MAX_PAUSE_S, MIN_PAUSE_S, Endpoint
from connectors.embedders.text_rules import TextRules

RECHECK_AFTER_SILENCE_S = 10.0
RECHECK_EVERY_S = 60.0
_CONTEXT_TOKENS = 2048


class EndpointPool:
    """Endpoints whose vectors are of one space.

    Args:
        clients: The endpoints.
        rules: How texts are prepared; `lowercase` may be corrected by what the server shows.
        detect_lowercase: Whether the server is asked if texts must be lower-cased.
        cache: Vectors of the latest texts, all of this pool's.
        chosen_by: The settings that say what and where it is, for messages.
        is_fallback: Whether it is the fallback, whose vectors are of another space.
        first_index: The number of its first endpoint in the metrics.
        concurrency: The most requests that each endpoint is to have at the same time.
        min_pause_s: Seconds of an endpoint's pause after a first failure.
        max_pause_s: Seconds of its longest pause.
        target_s: Seconds that one window should take.

    Attributes:
        endpoints: The endpoints.
        rules: As given or corrected; None until a server has told about its model.
        model_info: What it told.
        away: Set while no endpoint answers.
        latest_fault: Why not, as the latest one put it; None while one answers.
        pages: Pages it has made vectors of.
        recheck_after_silence_s: A server that was silent for so long may have been updated.
        recheck_every_s: A server is checked so often although it answers all the time.
    """

    def __init__(
        self,
        clients: Sequence[EmbedderClient],
        rules: TextRules,
        *,
        cache: VectorCache,
        detect_lowercase: bool = False,
        chosen_by: str = "EMBED_MODEL and EMBED_URL",
        is_fallback: bool = False,
        first_index: int = 0,
        concurrency: int = CONCURRENCY,
        min_pause_s: float = MIN_PAUSE_S,
        max_pause_s: float = MAX_PAUSE_S,
        target_s: float = TARGET_S,
    ) -> None:
        self.endpoints = [
            Endpoint(
                client,
                index,
                self,
                concurrency,
                min_pause_s,
                max_pause_s,
                Throughput(target_s),
            )
            for index, client in enumerate(clients, first_index)
        ]
        self.chosen_by = chosen_by
        self.is_fallback = is_fallback
        self.away = asyncio.Event()
        self.latest_fault: RetryableError | None = None
        self.pages = 0
        self.recheck_after_silence_s = RECHECK_AFTER_SILENCE_S
        self.recheck_every_s = RECHECK_EVERY_S
        self.rules: TextRules | None = None
        self.model_info: ModelInfo | None = None
        self._wanted_rules = rules
        self._detect_lowercase = detect_lowercase
        self._cache = cache
        self._piece_chars = chunking.chars_for(_CONTEXT_TOKENS)

    @property
    def model(self) -> str:
        """The model's name."""
        return self._wanted_rules.model

    @property
    def is_lowercased(self) -> bool:
        """Whether texts are lower-cased for what a server showed, and not as was wished."""
        return self.rules is not None and self.rules != self._wanted_rules

    def learn(self, model_info: ModelInfo) -> None:
        """Take what a server told about its model."""
        rules = self._wanted_rules
        if self._detect_lowercase and model_info.capitals_defect:
            rules = rules.lowercased()
        if model_info.context_tokens:
            self._piece_chars = chunking.chars_for(model_info.context_tokens)
        self.model_info, self.rules = model_info, rules
        for endpoint in self.endpoints:
            self.answered(endpoint)

    def needs_recheck(self, endpoint: Endpoint) -> bool:
        """Whether its server may need lower-cased texts by now, or ever since, unlike the others.

        That is a matter of Ollama's version; and whoever updates it stops it for a while.
        """
        if not self._detect_lowercase or self.rules is None or self.rules.lowercase:
            return False
        now = time.monotonic()
        silent_s = now - max(endpoint.free_since, endpoint.seen_at)
        since_check_s = now - endpoint.seen_at
        return silent_s > self.recheck_after_silence_s or since_check_s > self.recheck_every_s

    async def recheck(self, endpoint: Endpoint) -> bool:
        """Ask a server, if it is doubtful; whether that has changed the rules.

        Raises:
            ServiceError: It does not tell, or has not told one that asked just before.
        """
        since = time.monotonic()
        async with endpoint.looking:
            if endpoint.fault is not None and endpoint.failed_at > since:
                raise endpoint.fault  # or each window in flight would wait for its own time-out
            if not self.needs_recheck(endpoint):
                return False
            model_info = await endpoint.client.check()
            endpoint.seen_at = time.monotonic()
            if not model_info.capitals_defect or (self.rules and self.rules.lowercase):
                return False
            self.rules = self._wanted_rules.lowercased()
            return True

    def failed(self, endpoint: Endpoint, error: RetryableError, sent_at: float) -> None:
        """Note that an endpoint did not do what it was asked for at that moment."""
        endpoint.failed(error, sent_at)
        if all(one.faults for one in self.endpoints):
            self.latest_fault = error
            self.away.set()

    def answered(self, endpoint: Endpoint) -> None:
        """Note that an endpoint is sound."""
        endpoint.faults = 0
        self.latest_fault = None
        self.away.clear()

    @property
    def away_s(self) -> float:
        """For how long no endpoint has answered; 0 while one does."""
        if not self.away.is_set():
            return 0.0
        return time.monotonic() - max(one.failing_since for one in self.endpoints)

    async def answers(self) -> bool:
        """Ask all endpoints about their model; whether one of them tells."""
        asked = [asyncio.ensure_future(self._tells(one)) for one in self.endpoints]
        try:
            for answer in asyncio.as_completed(asked):
                if await answer:
                    return True
        finally:
            for one in asked:
                one.cancel()
        return False

    async def _tells(self, endpoint: Endpoint) -> bool:
        sent_at = time.monotonic()
        try:
            model_info = await endpoint.client.check()
        except ServiceError as error:
            fault = error if isinstance(error, RetryableError) else TransientError(error.detail)
            self.failed(endpoint, fault, sent_at)
            return False
        if self.rules is None:
            self.learn(model_info)
        endpoint.retry_at = 0.0
        self.answered(endpoint)
        endpoint.seen_at = -math.inf  # the texts that wait may not be as it needs them
        return True

    def texts_of(self, body: str) -> list[str]:
        """The texts that a page goes in; the body as it is until the rules are known."""
        rules = self.rules
        if rules is None:
            return [body]
        if rules.long_pages == "mean" and len(body) > self._piece_chars:
            return [rules.prepare(piece) for piece in chunking.split_text(body, self._piece_chars)]
        return [rules.prepare(body)]

    def remembered(self, body: str) -> bytes | None:
        """The vector of a body that was embedded lately."""
        return self._cache.get(self.rules, body) if self.rules else None

    def remember(self, body: str, vector: bytes) -> None:
        """Keep the vector of a body."""
        if self.rules is not None:
            self._cache.put(self.rules, body, vector)

    def forget(self) -> None:
        """Drop all vectors that are kept."""
        self._cache.clear()
