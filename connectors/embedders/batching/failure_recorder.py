"""Records failed requests, and reports a stall if no endpoint works."""

from __future__ import annotations

from connectors.core.errors import RetryableError
from connectors.embedders.batching.batch_queue import BatchQueue
from connectors.embedders.endpoint import Endpoint
from connectors.embedders.failover import Failover
from connectors.embedders.service import SERVICE
from connectors.observability import logs
from connectors.observability.metrics import Metrics
from connectors.observability.stalls import Stalls


class FailureRecorder:
    """Records at its pool whether an endpoint works. Used on the event loop only.

    Args:
        queue: Knows which pool embeds now.
        fallback: The failover, if there is one.
        stalls: Reports an embedder that is unavailable.
        metrics: Counts retries.
    """

    def __init__(
        self, queue: BatchQueue, fallback: Failover | None, stalls: Stalls, metrics: Metrics
    ) -> None:
        self._queue = queue
        self._fallback = fallback
        self._stalls = stalls
        self._retries = metrics.retries.labels(SERVICE.name)
        self._log = logs.get("embedder")

    def request_succeeded(self, endpoint: Endpoint) -> None:
        """Record a successful request."""
        endpoint.pool.record_success(endpoint)
        if endpoint.pool is self._queue.pool:
            self._stalls.cleared(SERVICE.name)

    def request_failed(self, endpoint: Endpoint, error: RetryableError, sent_at: float) -> None:
        """Record a failed request; it is a stall only if no other endpoint works.

        Args:
            endpoint: The endpoint.
            error: The error.
            sent_at: When the request was sent (monotonic seconds).
        """
        pool = endpoint.pool
        if all(one is endpoint or one.failures for one in pool.endpoints):
            self.endpoint_failed(endpoint, error, sent_at)
            return
        is_first = not endpoint.failures
        pool.record_failure(endpoint, error, sent_at)
        self._retries.inc()
        if is_first:
            self._log.warning(
                "an endpoint fails: the others embed its texts",
                endpoint=endpoint.client.name,
                reason=error.detail,
            )

    def endpoint_failed(self, endpoint: Endpoint, error: RetryableError, sent_at: float) -> None:
        """Record a failure that is a stall, unless the other pool embeds."""
        endpoint.pool.record_failure(endpoint, error, sent_at)
        if endpoint.pool is self._queue.pool:
            self.report_stall(error)
        else:
            self._retries.inc()

    def report_stall(self, error: RetryableError) -> None:
        """Report that the stream waits for the embedder."""
        combined = self._fallback.combine_errors(error) if self._fallback else error
        self._stalls.failed(SERVICE.name, combined)
