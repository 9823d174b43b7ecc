"""`gibsey-embedder search`: the pages nearest to a question, to try out the store."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from connectors.core.errors import ConfigurationError, RetryableError, ServiceError
from connectors.embedders.base import EmbedderClient
from connectors.http.client import HttpClient
from connectors.observability import logs
from connectors.stores.base import NearestRows, UnaddressableIdError, VectorStore
from dataflow.clients import embedding_clients, text_rules
from dataflow.config.settings import Settings, load_settings
from gibsey_embedder.tables.store import check_columns, open_store
from gibsey_embedder.terminal.options import PAGE_SIZE, AsJson, PageSize, whole_number
from gibsey_embedder.terminal.printable import printable
from gibsey_embedder.terminal.progress import progress_bars
from gibsey_embedder.terminal.retry_policy import GaveUpError, RetryPolicy

GIVE_UP_AFTER_S = 10.0
EMBED_TIMEOUT_S = 60.0
MAX_TEXT_CHARS = 120
"""Characters of a page that are shown."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The result of a search.

    Attributes:
        rows: The nearest rows, and the rows that were skipped.
        bodies: The text of each match; None if its page does not exist.
        table: The table that was searched.
        seconds: How long the search took, without the embedding of the question.
    """

    rows: NearestRows
    bodies: Sequence[str | None]
    table: str
    seconds: float


def search(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What to look for.")],
    limit: Annotated[
        int,
        typer.Option(
            "--limit", "-n", metavar="COUNT", parser=whole_number(1), help="How many pages to show."
        ),
    ] = 5,
    as_json: AsJson = False,
    page_size: PageSize = PAGE_SIZE,
) -> None:
    """Show the pages nearest to a question, to try out the stored vectors.

    The command embeds the question with the stream's settings, after EMBED_QUERY_PREFIX. Without a
    vector index, it reads all vectors and compares them one by one, which takes a second or more
    per ten thousand: it is not a search engine.
    """
    settings = load_settings()
    logs.configure("error", settings.log_format, settings.secret_values())
    if not question.strip():
        raise typer.BadParameter("the question is blank")
    console = Console(stderr=True)
    try:
        result = asyncio.run(_search(settings, question, limit, page_size, console))
    except GaveUpError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    for warning in _warnings(result, settings):
        console.print(f"warning: {warning}", style="yellow", highlight=False, soft_wrap=True)
    if as_json:
        typer.echo(json.dumps(_as_json(result)))
    else:
        _show(result)


async def _search(
    settings: Settings, question: str, limit: int, page_size: int, console: Console
) -> SearchResult:
    http = HttpClient(settings.http_ca_file)
    retry_policy = RetryPolicy(console, GIVE_UP_AFTER_S)
    async with open_store(settings, retry_policy, http) as store:
        await check_columns(store)
        vector = await embed_question(settings, embedding_clients(settings, http), question)
        model = text_rules(settings).model if store.keeps_model else None
        began = time.monotonic()
        with progress_bars(console) as progress:
            task = progress.add_task("Comparing", total=None)
            rows = await store.nearest(
                vector,
                limit,
                model=model,
                page_size=page_size,
                on_rows=lambda count: progress.advance(task, count),
            )
        seconds = time.monotonic() - began
        bodies = [await _body(store, match.page_id) for match in rows.matches]
    return SearchResult(rows, bodies, store.vectors.name, seconds)


async def _body(store: VectorStore, page_id: str) -> str | None:
    """Return the text of a page: empty if it has none, None if the page does not exist."""
    try:
        page = await store.pages.get(page_id)
    except UnaddressableIdError:
        return None
    return None if page is None else page.body or ""


async def embed_question(
    settings: Settings, clients: Sequence[EmbedderClient], question: str
) -> list[float]:
    """Embed a question at the first endpoint that succeeds.

    Raises:
        GaveUpError: All endpoints fail.
    """
    errors = []
    for client in clients:
        try:
            return await _embed(settings, client, question)
        except ServiceError as error:
            errors.append(error.detail + _remedy(settings, error))
    raise GaveUpError(" | ".join(errors))


def _remedy(settings: Settings, error: ServiceError) -> str:
    if isinstance(error, ConfigurationError):
        return f"; {error.remedy}"
    if not isinstance(error, RetryableError):
        return ""
    url = "OPENAI_URL" if settings.embed_provider == "openai" else "EMBED_URL"
    return f"; start the embedder, or correct {url}"


async def _embed(settings: Settings, client: EmbedderClient, question: str) -> list[float]:
    model_info = await client.check()
    rules = replace(text_rules(settings), prefix=settings.embed_query_prefix)
    rules = rules.for_model(model_info, detect_lowercase=settings.embed_lowercase == "auto")
    text = rules.prepare(question)
    vector, *_ = await client.embed([text], timeout_s=EMBED_TIMEOUT_S, truncate=True)
    if vector is None:
        raise ServiceError(f"{client.name} returns no usable vector for the question")
    values: list[float] = orjson.loads(vector)
    return values


def _warnings(result: SearchResult, settings: Settings) -> list[str]:
    rows = result.rows
    warnings = []
    if not (rows.matches or rows.compared or rows.unfit or rows.other_model):
        warnings.append(
            f"{result.table} is empty: start the worker, and run `gibsey-embedder backfill` to "
            "embed the existing pages"
        )
    if rows.unfit:
        warnings.append(
            f"{rows.unfit:,} rows skipped: not {settings.embed_dimensions} finite numbers"
            f"{_most_common_size(rows)}; run `gibsey-embedder audit` to list them, and "
            "`audit --repair` to embed their pages again"
        )
    if rows.other_model:
        warnings.append(
            f"{rows.other_model:,} rows skipped: their vectors were made by another model, "
            f"not {text_rules(settings).model}; run `gibsey-embedder backfill` to embed their "
            "pages again"
        )
    return warnings


def _most_common_size(rows: NearestRows) -> str:
    if not rows.sizes:
        return ""
    size, count = max(rows.sizes.items(), key=lambda item: item[1])
    return f" ({count:,} have {size:,}: see EMBED_DIMENSIONS and the model)"


def _as_json(result: SearchResult) -> dict[str, object]:
    rows = result.rows
    return {
        "compared": rows.compared,
        "unfit": rows.unfit,
        "other_model": rows.other_model,
        "seconds": round(result.seconds, 3),
        "matches": [
            {"page_id": match.page_id, "score": round(match.score, 6), "body": body}
            for match, body in zip(rows.matches, result.bodies, strict=True)
        ],
    }


def _show(result: SearchResult) -> None:
    console = Console()
    if result.rows.matches:
        table = Table("score", "page", "text")
        for match, body in zip(result.rows.matches, result.bodies, strict=True):
            text = "[dim]not in the table of pages[/dim]"
            if body is not None:
                start = " ".join(body[: 4 * MAX_TEXT_CHARS].split())
                text = escape(printable(start, MAX_TEXT_CHARS))
            table.add_row(f"{match.score:.4f}", escape(printable(match.page_id)), text)
        console.print(table)
    console.print(
        f"{result.rows.compared:,} vectors compared, one by one, in {result.seconds:.1f} s.",
        highlight=False,
    )
