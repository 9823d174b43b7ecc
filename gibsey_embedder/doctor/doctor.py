"""`gibsey-embedder doctor`: what is wrong with a set-up, before the stream finds out."""

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

from connectors.http.address import address_of
from connectors.http.client import HttpClient
from connectors.observability import logs
from connectors.observability.redaction import Redactor
from dataflow.config.settings import Settings, SettingsError, load_settings
from dataflow.wiring import embedding_clients, kafka_config, stargate_tokens
from gibsey_embedder.dead_letters.reader import shown
from gibsey_embedder.doctor.clock import check_clocks
from gibsey_embedder.doctor.cluster import check_launch
from gibsey_embedder.doctor.embedder import check_embedders
from gibsey_embedder.doctor.findings import Finding, Result, bad
from gibsey_embedder.doctor.kafka import check_kafka
from gibsey_embedder.doctor.model_pull import pull_missing
from gibsey_embedder.doctor.rag import check_rag
from gibsey_embedder.doctor.recovery import check_recovery_dir
from gibsey_embedder.doctor.settings import check_settings, check_versions, of_error
from gibsey_embedder.doctor.stargate import StargateCheck
from gibsey_embedder.terminal.options import AsJson
from gibsey_embedder.terminal.waiting_notice import waiting_notice

WITHIN_S = 18.0
"""How long each service's checks may take; they run side by side."""
_LONGEST = 400
_STYLES: dict[Result, str] = {"good": "green", "warning": "yellow", "bad": "red"}


def doctor(
    write: Annotated[
        bool, typer.Option("--write", help="Write and delete a row of its own in Stargate.")
    ] = False,
    send_test: Annotated[
        bool, typer.Option("--send-test", help="Send the RAG service a test notification.")
    ] = False,
    pull: Annotated[
        bool, typer.Option("--pull", help="Pull the model where an Ollama lacks it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check settings and services, and say what to do about what is wrong.

    Nothing is changed anywhere without `--write`, `--send-test` or `--pull`. Exit code: 0 good
    (perhaps with warnings), 1 a check failed, 2 settings are wrong.
    """
    try:
        settings = load_settings()
    except SettingsError as error:
        _show(of_error(error), as_json)
        raise typer.Exit(2) from None
    logs.configure("error", settings.log_format, settings.secret_values())
    with waiting_notice(_asked(settings, pull)):
        findings = asyncio.run(examine(settings, write=write, send_test=send_test, pull=pull))
    _show(_without_secrets(findings, settings), as_json)
    raise typer.Exit(int(worst(findings) == "bad"))


def _asked(settings: Settings, pull: bool) -> str:
    others = "the embedder, Stargate and the RAG service"
    pulled = f", and pulling {settings.embed_model} where it is missing" if pull else ""
    return f"asking Kafka at {settings.brokers}, {others}{pulled}"


async def examine(
    settings: Settings, *, write: bool = False, send_test: bool = False, pull: bool = False
) -> list[Finding]:
    """Run all checks, those of the services side by side.

    Args:
        settings: The settings in force.
        write: Whether to write and delete a row in Stargate.
        send_test: Whether to send the RAG service a notification.
        pull: Whether to pull the model where it is missing; takes as long as it takes.
    """
    launch, cluster = check_launch(settings, os.environ)  # noqa: TID251 - Bytewax's variables
    http = HttpClient(settings.http_ca_file)
    try:
        pulled = await pull_missing(settings, http) if pull else []
        services = _services(settings, http, launch.worker_count, write, send_test)
        found = await asyncio.gather(*services)
    finally:
        await http.close()
    kafka, *others = found
    return [
        *check_settings(settings),
        *cluster,
        *kafka,
        *pulled,
        *(finding for some in others for finding in some),
        *check_recovery_dir(Path(settings.recovery_dir)),
        *check_versions(),
    ]


def _services(
    settings: Settings, http: HttpClient, workers: int, write: bool, send_test: bool
) -> list[Awaitable[list[Finding]]]:
    kafka = asyncio.to_thread(
        check_kafka, kafka_config(settings), settings.dead_letter_topic, workers
    )
    stargate = StargateCheck(settings, http, stargate_tokens(settings, http))
    openai = settings.embed_provider == "openai"
    embedders = [settings.openai_url] if openai else list(settings.embed_endpoints)
    clocks = {
        **{f"the embedder {address_of(url)}": url for url in embedders},
        "Stargate": settings.stargate_url,
        "the RAG service": settings.rag_refresh_url,
    }
    return [
        _within("kafka", kafka),
        _within("embedder", _check_embedders(settings, http)),
        _within("stargate", stargate.run(write=write)),
        _within("rag", check_rag(settings, http, send=send_test)),
        _within("clock", check_clocks(http, clocks)),
    ]


async def _check_embedders(settings: Settings, http: HttpClient) -> list[Finding]:
    """The embedder's endpoints, and its fallback where there is one."""
    asked = [check_embedders(settings, embedding_clients(settings, http))]
    if settings.embed_provider == "ollama" and settings.embed_fallback == "openai":
        fallback = settings.model_copy(update={"embed_provider": "openai"})
        asked.append(check_embedders(fallback, embedding_clients(fallback, http)))
    return [finding for found in await asyncio.gather(*asked) for finding in found]


async def _within(check: str, findings: Awaitable[list[Finding]]) -> list[Finding]:
    """The findings of one service, or that they did not come in time."""
    try:
        return await asyncio.wait_for(findings, WITHIN_S)
    except asyncio.TimeoutError:
        found = f"its checks did not end within {WITHIN_S:.0f} s"
        return [bad(check, found, "see whether the service hangs, and restart it")]
    except Exception as error:  # noqa: BLE001 - one broken check must not hide the others
        found = f"the check itself failed: {type(error).__name__}: {error}"
        return [bad(check, found, "look at the service by hand, and report this")]


def worst(findings: Iterable[Finding]) -> Result:
    """The worst of their results."""
    results = {finding.result for finding in findings}
    return "bad" if "bad" in results else "warning" if "warning" in results else "good"


def _without_secrets(findings: Sequence[Finding], settings: Settings) -> list[Finding]:
    """The findings without secrets that a service may have quoted."""
    secrets = Redactor(settings.secret_values())

    def clean(text: str) -> str:
        return shown(secrets.redact(text), _LONGEST)

    return [replace(f, found=clean(f.found), remedy=clean(f.remedy)) for f in findings]


def _show(findings: Sequence[Finding], as_json: bool) -> None:
    result = worst(findings)
    if as_json:
        checks = [asdict(finding) for finding in findings]
        typer.echo(json.dumps({"result": result, "checks": checks}, indent=2))
        return
    table = Table("check", "result", "what was found, and what to do", show_lines=False)
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
    return "All is well." if result == "good" else "The stream can run; see the warnings."
