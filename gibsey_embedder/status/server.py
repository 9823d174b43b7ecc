"""The status port: shows the state of the process to people, Prometheus and Kubernetes.

    /              the status page
    /status.json   the same figures as JSON (docs/status.md)
    /metrics       Prometheus
    /healthz       200 while the process makes progress or waits for a named service, else 503
    /readyz        200 if the stream processes a page that changes now, else 503

The port is read-only. The process's event loop serves it.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import Future

import orjson
from aiohttp import web
from prometheus_client import ProcessCollector, disable_created_metrics
from prometheus_client.exposition import choose_encoder

from connectors.observability import logs
from connectors.runtime.event_loop import EventLoop
from gibsey_embedder.status import health
from gibsey_embedder.status.static_files import StaticFiles
from gibsey_embedder.status.status_json import StatusData
from gibsey_embedder.status.view import KafkaStatus, LaunchInfo, StatusView

RETRY_S = 10.0
"""Seconds between two attempts to listen on a port that is in use."""

_HEADERS = {
    # The page draws the tab's icon itself, as a data: URL.
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Server": "gibsey-embedder",
}

__all__ = ["KafkaStatus", "LaunchInfo", "StatusServer", "StatusView"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class StatusServer:
    """Serves the status port.

    Args:
        event_loop: The event loop that serves the port.
        host: The address to listen on.
        port: The port; 0: any free one (see `port`).
        view: The state of the stream.
        retry_s: Seconds between two attempts to listen on a port that is in use.

    Attributes:
        port: The port; None until the server listens.
    """

    def __init__(
        self,
        event_loop: EventLoop,
        host: str,
        port: int,
        view: StatusView,
        retry_s: float = RETRY_S,
    ) -> None:
        self._event_loop = event_loop
        self._host = host
        self._wanted_port = port
        self._view = view
        self._retry_s = retry_s
        self._data = StatusData(view)
        self._files = StaticFiles()
        self._log = logs.get("status")
        self._running: Future[None] | None = None
        self._runner: web.AppRunner | None = None
        self.port: int | None = None

    def start(self) -> None:
        """Start to listen in the background. Call it from any thread; the stream does not wait."""
        disable_created_metrics()  # type: ignore[no-untyped-call]
        ProcessCollector(registry=self._view.metrics.registry)
        health.register_metrics(self._view)
        self._running = self._event_loop.submit(self._serve())
        self._running.add_done_callback(self._ended)

    def stop(self) -> None:
        """Close the port. Call it from any thread except the event loop's."""
        if self._running is not None:
            self._running.cancel()
            self._event_loop.submit(self._close()).result(2.0)

    def _ended(self, running: Future[None]) -> None:
        """Log an unexpected error; the stream continues without its status port."""
        if not running.cancelled() and (error := running.exception()) is not None:
            self._log.error("status port ended", error=f"{type(error).__name__}: {error}")

    async def _serve(self) -> None:
        runner = web.AppRunner(
            self._application(), access_log=None, handle_signals=False, shutdown_timeout=1.0
        )
        await runner.setup()
        self._runner = runner
        await asyncio.gather(self._data.sample_for_ever(), self._listen(runner))

    async def _listen(self, runner: web.AppRunner) -> None:
        while self.port is None:
            self.port = await self._try_to_listen(runner)

    async def _try_to_listen(self, runner: web.AppRunner) -> int | None:
        site = web.TCPSite(runner, self._host, self._wanted_port)
        try:
            await site.start()
        except OSError as error:
            await site.stop()
            self._log_error(error)
            await asyncio.sleep(self._retry_s)
            return None
        port: int = runner.addresses[0][1]
        self._log.info("status port", url=f"http://{_shown_host(self._host)}:{port}/")
        return port

    def _log_error(self, error: OSError) -> None:
        is_in_use = error.errno == errno.EADDRINUSE
        reason = "another program uses the port" if is_in_use else os.strerror(error.errno or 0)
        self._log.warning(
            "no status port: the stream continues without it",
            address=f"{self._host}:{self._wanted_port}",
            reason=reason,
            remedy="set STATUS_PORT (or STATUS_HOST) to a free port; 0 turns it off",
            again_in_s=self._retry_s,
        )

    async def _close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
            self.port = None

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[_read_only])
        app.on_response_prepare.append(_with_headers)
        app.router.add_get("/status.json", self._status_json)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        for path in self._files.paths:
            app.router.add_get(path, self._files.serve)
        return app

    async def _status_json(self, request: web.Request) -> web.Response:
        since = request.query.get("history_since")
        try:
            history_since = None if since is None else float(since)
        except ValueError:
            return _json({"error": "history_since is not a number of seconds since 1970"}, 400)
        return _json(self._data.status(history_since))

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        headers = {"Content-Type": content_type, "Cache-Control": "no-store"}
        return web.Response(body=encode(self._view.metrics.registry), headers=headers)

    async def _healthz(self, request: web.Request) -> web.Response:
        del request
        return _health_response(health.liveness(self._view))

    async def _readyz(self, request: web.Request) -> web.Response:
        del request
        return _health_response(health.readiness(self._view))


def _health_response(result: health.Health) -> web.Response:
    body = {"status": result.status, "reason": result.reason}
    return _json(body, 200 if result.ok else 503)


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(
        body=orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS),
        status=status,
        headers={"Content-Type": "application/json", "Cache-Control": "no-store"},
    )


def _shown_host(host: str) -> str:
    if host in ("0.0.0.0", "::", "*"):
        return "localhost"
    return f"[{host}]" if ":" in host else host


@web.middleware
async def _read_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Respond in JSON to unknown paths and methods, without any content of the request."""
    if request.method not in ("GET", "HEAD"):
        response = _json({"error": "read only: GET and HEAD"}, 405)
        response.headers["Allow"] = "GET, HEAD"
        return response
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return _json({"error": "not found: see /, /status.json, /metrics, /healthz, /readyz"}, 404)


async def _with_headers(request: web.Request, response: web.StreamResponse) -> None:
    del request
    response.headers.update(_HEADERS)
