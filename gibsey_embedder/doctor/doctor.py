"""`gibsey-embedder doctor`: checks the settings and all services before the stream starts."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from connectors.core.findings import Finding, Result, bad
from connectors.http.address import address_of
from connectors.http.client import HttpClient
from connectors.observability import logs
from connectors.observability.redaction import Redactor
from connectors.stores.base import VectorStore
from dataflow.clients import embedding_clients, kafka_config, vector_store
from dataflow.config.settings import Settings, SettingsError, load_settings
from gibsey_embedder.doctor.clock import check_clocks
from gibsey_embedder.doctor.cluster import check_cluster
from gibsey_embedder.doctor.embedder import Limits, check_embedders
from gibsey_embedder.doctor.kafka import check_kafka
from gibsey_embedder.doctor.model_pull import pull_missing
from gibsey_embedder.doctor.rag import check_rag
from gibsey_embedder.doctor.recovery import check_recovery_dir
from gibsey_embedder.doctor.settings import check_settings, check_versions, settings_findings
from gibsey_embedder.terminal.options import AsJson
from gibsey_embedder.terminal.printable import printable
from gibsey_embedder.terminal.waiting_notice import waiting_notice

CHECK_TIMEOUT_S = 18.0
"""Timeout of each service's checks, which run concurrently."""
_MAX_CHARS = 400
_STYLES: dict[Result, str] = {"good": "green", "warning": "yellow", "bad": "red"}


def doctor(
    write: Annotated[
        bool, typer.Option("--write", help="Write and delete a test row in the store.")
    ] = False,
    send_test: Annotated[
        bool, typer.Option("--send-test", help="Send a test notification to the RAG service.")
    ] = False,
    pull: Annotated[
        bool, typer.Option("--pull", help="Pull the model on each Ollama server without it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check the settings and all services, and show a remedy for each problem.

    The command changes nothing without `--write`, `--send-test` or `--pull`. Exit code: 0 if the
    stream can run (there may be warnings), 1 if a check failed, 2 if settings are wrong.
    """
    try:
        settings = load_settings()
    except SettingsError as error:
        _show(settings_findings(error), as_json)
        raise typer.Exit(2) from None
    logs.configure("error", settings.log_format, settings.secret_values())
    with waiting_notice(_progress_text(settings, pull)):
        findings = asyncio.run(run_checks(settings, write=write, send_test=send_test, pull=pull))
    _show(_without_secrets(findings, settings), as_json)
    raise typer.Exit(int(worst_result(findings) == "bad"))


def _progress_text(settings: Settings, pull: bool) -> str:
    others = "the embedder, the store and the RAG service"
    pulling = f", and pulling {settings.embed_model} on servers without it" if pull else ""
    return f"checking Kafka at {settings.brokers}, {others}{pulling}"


async def run_checks(
    settings: Settings,
    *,
    write: bool = False,
    send_test: bool = False,
    pull: bool = False,
    timeout_s: float = CHECK_TIMEOUT_S,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> list[Finding]:
    """Run all checks; those of the services run concurrently.

    Args:
        settings: The settings.
        write: Whether to write and delete a row in the store.
        send_test: Whether to send a notification to the RAG service.
        pull: Whether to pull the model on each Ollama server without it.
        timeout_s: Timeout of each service's checks.
        limits: The limits of the embedder's checks.
    """
    launch, cluster = check_cluster(settings, os.environ)  # noqa: TID251 - Bytewax's variables
    http = HttpClient(settings.http_ca_file)
    store = vector_store(settings, http)
    try:
        pulled = await pull_missing(settings, http) if pull else []
        checks = _service_checks(
            settings, http, store, launch.worker_count, write, send_test, limits
        )
        results = await asyncio.gather(
            *(_guarded(name, findings, timeout_s) for name, findings in checks.items())
        )
    finally:
        await store.close()
        await http.close()
    kafka, *others = results
    return [
        *check_settings(settings, store.check_settings()),
        *cluster,
        *kafka,
        *pulled,
        *(finding for findings in others for finding in findings),
        *check_recovery_dir(Path(settings.recovery_dir)),
        *check_versions(),
    ]


def _service_checks(
    settings: Settings,
    http: HttpClient,
    store: VectorStore,
    workers: int,
    write: bool,
    send_test: bool,
    limits: Limits,
) -> dict[str, Awaitable[list[Finding]]]:
    kafka = asyncio.to_thread(
        check_kafka, kafka_config(settings), settings.dead_letter_topic, workers
    )
    return {
        "kafka": kafka,
        "embedder": _check_embedders(settings, http, limits),
        store.service.name: store.check(dimensions=settings.embed_dimensions, write=write),
        "rag": check_rag(settings, http, send=send_test),
        "clock": check_clocks(http, _clock_urls(settings, store)),
    }


def _clock_urls(settings: Settings, store: VectorStore) -> dict[str, str]:
    openai = settings.embed_provider == "openai"
    embedders = [settings.openai_url] if openai else list(settings.embed_endpoints)
    return {
        **{f"the embedder {address_of(url)}": url for url in embedders},
        **({store.service.title: store.http_url} if store.http_url else {}),
        "the RAG service": settings.rag_refresh_url,
    }


async def _check_embedders(settings: Settings, http: HttpClient, limits: Limits) -> list[Finding]:
    """Check the embedder's endpoints, and those of the fallback if there is one."""
    checks = [check_embedders(settings, embedding_clients(settings, http), limits)]
    if settings.embed_provider == "ollama" and settings.embed_fallback == "openai":
        fallback = settings.model_copy(update={"embed_provider": "openai"})
        checks.append(check_embedders(fallback, embedding_clients(fallback, http), limits))
    return [finding for findings in await asyncio.gather(*checks) for finding in findings]


async def _guarded(
    check: str, findings: Awaitable[list[Finding]], timeout_s: float
) -> list[Finding]:
    """Return the findings of one service, or a finding about the check's own failure."""
    try:
        return await asyncio.wait_for(findings, timeout_s)
    except asyncio.TimeoutError:
        found = f"its checks did not end within {timeout_s:.0f} s"
        return [bad(check, found, "if the service hangs, restart it")]
    except Exception as error:  # noqa: BLE001 - one broken check must not hide the others
        found = f"the check itself failed: {type(error).__name__}: {error}"
        return [bad(check, found, "check the service manually, and report this error")]


def worst_result(findings: Iterable[Finding]) -> Result:
    """Return the worst result of the findings."""
    results = {finding.result for finding in findings}
    return "bad" if "bad" in results else "warning" if "warning" in results else "good"


def _without_secrets(findings: Sequence[Finding], settings: Settings) -> list[Finding]:
    """Redact secrets, because a service may quote them in its response."""
    secrets = Redactor(settings.secret_values())

    def clean(text: str) -> str:
        return printable(secrets.redact(text), _MAX_CHARS)

    return [replace(f, found=clean(f.found), remedy=clean(f.remedy)) for f in findings]


def _show(findings: Sequence[Finding], as_json: bool) -> None:
    result = worst_result(findings)
    if as_json:
        checks = [asdict(finding) for finding in findings]
        typer.echo(json.dumps({"result": result, "checks": checks}, indent=2))
        return
    table = Table("check", "result", "finding and remedy", show_lines=False)
    for finding in findings:
        style = _STYLES[finding.result]
        text = escape(finding.found)
        if finding.remedy:
            text += f"\n[bold]→ {escape(finding.remedy)}[/bold]"
        table.add_row(escape(finding.check), f"[{style}]{finding.result}[/{style}]", text)
    console = Console()
    console.print(table)
    console.print(_conclusion(findings, result), highlight=False)


def _conclusion(findings: Sequence[Finding], result: Result) -> str:
    failed = sum(finding.result == "bad" for finding in findings)
    if failed:
        return f"{failed} of {len(findings)} checks failed."
    if result == "good":
        return "All checks passed."
    return "The stream can run. See the warnings."
