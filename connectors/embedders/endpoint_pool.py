"""The endpoints of one model, and how texts are prepared for it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence

from connectors.core.errors import RetryableError, ServiceError
from connectors.embedders import chunking
from connectors.embedders.base import EmbedderClient, ModelInfo
from connectors.embedders.batching.throughput import TARGET_S, Throughput
from connectors.embedders.cache import VectorCache
from connectors.embedders.endpoint import (
    CONCURRENCY,
    MAX_PAUSE_S,
    MIN_PAUSE_S,
    Endpoint,
    as_retryable,
)
from connectors.embedders.text_rules import TextRules

RECHECK_AFTER_SILENCE_S = 10.0
RECHECK_EVERY_S = 60.0
_CONTEXT_TOKENS = 2048


class EndpointPool:
    """Endpoints of one model; their vectors are comparable.

    Used on the event loop only; other threads may read `rules` and `model_info`.

    Args:
        clients: One client for each endpoint.
        rules: How texts are prepared; the pool may switch on `lowercase`.
        cache: The latest vectors of this pool.
        detect_lowercase: Whether a server shows if its texts must be lower-cased.
        chosen_by: The settings that choose the model and its address, for messages.
        is_fallback: Whether the pool is the fallback, whose vectors cannot be compared with the
            primary's.
        first_index: The number of the first endpoint in the metrics.
        concurrency: The most requests in flight to each endpoint.
        min_pause_s: Seconds of an endpoint's pause after a first failure.
        max_pause_s: Seconds of its longest pause.
        target_s: Seconds that one window should take.

    Attributes:
        endpoints: The endpoints.
        rules: How texts are prepared; None until a server has described its model.
        model_info: What the server reported about its model.
        unavailable: Set while every endpoint fails.
        last_error: The latest error while every endpoint fails; else None.
        pages: Pages that the pool has embedded.
        recheck_after_silence_s: A server may have been updated if it was silent for this long.
        recheck_every_s: A server is checked this often even if it responds all the time.
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
                client, index, self, concurrency, min_pause_s, max_pause_s, Throughput(target_s)
            )
            for index, client in enumerate(clients, first_index)
        ]
        self.chosen_by = chosen_by
        self.is_fallback = is_fallback
        self.unavailable = asyncio.Event()
        self.last_error: RetryableError | None = None
        self.pages = 0
        self.recheck_after_silence_s = RECHECK_AFTER_SILENCE_S
        self.recheck_every_s = RECHECK_EVERY_S
        self.rules: TextRules | None = None
        self.model_info: ModelInfo | None = None
        self._configured_rules = rules
        self._detect_lowercase = detect_lowercase
        self._cache = cache
        self._chunk_chars = chunking.chars_for(_CONTEXT_TOKENS)

    # --- the model and its text rules ---

    @property
    def model(self) -> str:
        """The model's name."""
        return self._configured_rules.model

    @property
    def is_lowercased(self) -> bool:
        """Whether texts are lower-cased because a server requires it, not because of a setting."""
        return self.rules is not None and self.rules != self._configured_rules

    def learn(self, model_info: ModelInfo) -> None:
        """Use what a server has reported about its model."""
        if model_info.context_tokens:
            self._chunk_chars = chunking.chars_for(model_info.context_tokens)
        self.model_info, self.rules = model_info, self._rules_for(model_info)
        for endpoint in self.endpoints:
            self.record_success(endpoint)

    def needs_recheck(self, endpoint: Endpoint) -> bool:
        """Return whether a server may require lower-cased texts by now, unlike the others.

        This depends on the version of Ollama, and an update stops the server for a while.
        """
        if not self._detect_lowercase or self.rules is None or self.rules.lowercase:
            return False
        now = time.monotonic()
        silent_s = now - max(endpoint.responded_at, endpoint.checked_at)
        since_check_s = now - endpoint.checked_at
        return silent_s > self.recheck_after_silence_s or since_check_s > self.recheck_every_s

    async def recheck(self, endpoint: Endpoint) -> bool:
        """Check a server again if that is necessary.

        Returns:
            Whether the rules have changed.

        Raises:
            ServiceError: The check failed, or another request's check has failed meanwhile.
        """
        since = time.monotonic()
        async with endpoint.check_lock:
            if endpoint.last_error is not None and endpoint.failed_at > since:
                raise endpoint.last_error  # else each window would wait for its own timeout
            if not self.needs_recheck(endpoint):
                return False
            model_info = await endpoint.client.check()
            endpoint.checked_at = time.monotonic()
            rules = self._rules_for(model_info)
            if not rules.lowercase or (self.rules and self.rules.lowercase):
                return False
            self.rules = rules
            return True

    def _rules_for(self, model_info: ModelInfo) -> TextRules:
        return self._configured_rules.for_model(model_info, detect_lowercase=self._detect_lowercase)

    def texts_of(self, body: str) -> list[str]:
        """Return the prepared texts of a page; the body itself until the rules are known."""
        rules = self.rules
        if rules is None:
            return [body]
        if rules.long_pages == "mean" and len(body) > self._chunk_chars:
            return [rules.prepare(chunk) for chunk in chunking.split_text(body, self._chunk_chars)]
        return [rules.prepare(body)]

    # --- whether the endpoints work ---

    def record_failure(self, endpoint: Endpoint, error: RetryableError, sent_at: float) -> None:
        """Record that a request which was sent at that time (monotonic seconds) has failed."""
        endpoint.record_failure(error, sent_at)
        if all(one.failures for one in self.endpoints):
            self.last_error = error
            self.unavailable.set()

    def record_success(self, endpoint: Endpoint) -> None:
        """Record that an endpoint works."""
        endpoint.failures = 0
        self.last_error = None
        self.unavailable.clear()

    @property
    def unavailable_s(self) -> float:
        """For how many seconds every endpoint has failed; 0 while one works."""
        if not self.unavailable.is_set():
            return 0.0
        return time.monotonic() - max(one.failing_since for one in self.endpoints)

    async def probe(self) -> bool:
        """Check all endpoints at the same time; return whether one of them works."""
        checks = [asyncio.ensure_future(self._probe(one)) for one in self.endpoints]
        try:
            for check in asyncio.as_completed(checks):
                if await check:
                    return True
        finally:
            for pending in checks:
                pending.cancel()
        return False

    async def _probe(self, endpoint: Endpoint) -> bool:
        sent_at = time.monotonic()
        try:
            model_info = await endpoint.client.check()
        except ServiceError as error:
            self.record_failure(endpoint, as_retryable(error), sent_at)
            return False
        if self.rules is None:
            self.learn(model_info)
        endpoint.retry_at = 0.0
        self.record_success(endpoint)
        endpoint.checked_at = -math.inf  # so that the waiting texts are checked against its rules
        return True

    # --- the cache ---

    def cached_vector(self, body: str) -> bytes | None:
        """Return the vector of a body that was embedded recently."""
        return self._cache.get(self.rules, body) if self.rules else None

    def cache_vector(self, body: str, vector: bytes) -> None:
        """Keep the vector of a body."""
        if self.rules is not None:
            self._cache.put(self.rules, body, vector)

    def clear_cache(self) -> None:
        """Drop all cached vectors."""
        self._cache.clear()
