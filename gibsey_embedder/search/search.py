"""`gibsey-embedder search`: the pages nearest to a question, for trying the store out."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
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
from dataflow.config.settings import Settings, load_settings
from dataflow.wiring import embedding_clients, text_rules
from gibsey_embedder.search.nearest import Match, Nearest
from gibsey_embedder.tables.page_store import PageStore, open_store
from gibsey_embedder.tables.rows import UnaddressableIdError
from gibsey_embedder.terminal.options import PAGE_SIZE, AsJson, PageSize, whole_number
from gibsey_embedder.terminal.printable import printable
from gibsey_embedder.terminal.progress import progress_bars
from gibsey_embedder.terminal.retry_policy import GaveUpError, RetryPolicy

GIVE_UP_AFTER_S = 10.0
EMBED_S = 60.0
WORDS = 120
"""Characters of a page that are shown."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    Attributes:
        matches: The nearest pages, the nearest one first.
        bodies: The text of each; None where the page is not there.
        rows: The rows, as they were compared or passed over.
        seconds: How long it took to compare them.
    """

    matches: Sequence[Match]
    bodies: Sequence[str | None]
    rows: Nearest
    seconds: float


def search(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What to look for.")],
    limit: Annotated[
        int,
        typer.Option(
            "--limit", "-n", metavar="COUNT", parser=whole_number(1), help="So many pages."
        ),
    ] = 5,
    as_json: AsJson = False,
    page_size: PageSize = PAGE_SIZE,
) -> None:
    """Show the pages nearest to a question, to try out what is stored.

    The question is embedded as the settings say, after EMBED_QUERY_PREFIX. All vectors are read
    through Stargate and compared one by one, a second or more for every ten thousand: this is
    no search engine.
    """
    settings = load_settings()
    logs.configure("error", settings.log_format, settings.secret_values())
    if not question.strip():
        raise typer.BadParameter("the question is blank")
    console = Console(stderr=True)
    try:
        found = asyncio.run(_search(settings, question, limit, page_size, console))
    except GaveUpError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    for warning in _warnings(found.rows, settings):
        console.print(f"warning: {warning}", style="yellow", highlight=False, soft_wrap=True)
    if as_json:
        typer.echo(json.dumps(_as_json(found)))
    else:
        _show(found)


async def _search(
    settings: Settings, question: str, limit: int, page_size: int, console: Console
) -> Found:
    http = HttpClient(settings.http_ca_file)
    retry_policy = RetryPolicy(console, GIVE_UP_AFTER_S)
    async with open_store(settings, retry_policy, http) as store:
        await store.check_columns()
        vector = await embed_question(settings, embedding_clients(settings, http), question)
        model = text_rules(settings).model if settings.stargate_model_column else None
        rows = Nearest(vector, limit, model)
        began = time.monotonic()
        await _compare(store, rows, page_size, console)
        seconds = time.monotonic() - began
        bodies = [await _body(store, match.page_id) for match in rows.best]
    return Found(rows.best, bodies, rows, seconds)


async def _body(store: PageStore, page_id: str) -> str | None:
    """The text of a page, empty where it has none; None where there is no page to be asked for."""
    try:
        page = await store.pages.get(page_id)
    except UnaddressableIdError:
        return None
    return None if page is None else page.body or ""


async def _compare(store: PageStore, rows: Nearest, page_size: int, console: Console) -> None:
    with progress_bars(console) as progress:
        task = progress.add_task("Comparing", total=None)
        async for chunk in store.vectors.batches(page_size):
            for row in chunk.rows:
                rows.add(row)
            progress.advance(task, len(chunk.rows))


async def embed_question(
    settings: Settings, clients: Sequence[EmbedderClient], question: str
) -> list[float]:
    """The vector of a question, from the first endpoint that makes one.

    Raises:
        GaveUpError: None does.
    """
    faults = []
    for client in clients:
        try:
            return await _embed(settings, client, question)
        except ServiceError as error:
            faults.append(error.detail + _remedy(settings, error))
    raise GaveUpError(" | ".join(faults))


def _remedy(settings: Settings, error: ServiceError) -> str:
    if isinstance(error, ConfigurationError):
        return f"; {error.remedy}"
    if not isinstance(error, RetryableError):
        return ""
    url = "OPENAI_URL" if settings.embed_provider == "openai" else "EMBED_URL"
    return f"; start the embedder, or correct {url}"


async def _embed(settings: Settings, client: EmbedderClient, question: str) -> list[float]:
    facts = await client.check()
    lowercase = settings.embed_lowercase == "on" or (
        settings.embed_lowercase == "auto" and facts.capitals_defect
    )
    text = settings.embed_query_prefix + question
    text = text.lower() if lowercase else text
    vector, *_ = await client.embed([text], timeout_s=EMBED_S, truncate=True)
    if vector is None:
        raise ServiceError(f"{client.name} makes no usable vector of the question")
    values: list[float] = orjson.loads(vector)
    return values


def _warnings(rows: Nearest, settings: Settings) -> list[str]:
    found = []
    if not (rows.compared or rows.unfit or rows.other_model):
        table = f"{settings.stargate_keyspace}.{settings.stargate_table}"
        found.append(
            f"{table} is empty: start the worker, and `gibsey-embedder backfill` fills it with the "
            "pages that are there"
        )
    if rows.unfit:
        found.append(
            f"{rows.unfit:,} rows passed over: not {settings.embed_dimensions} finite numbers"
            f"{_usual_size(rows)}; `gibsey-embedder audit` names them, and `audit --repair` has "
            "them made anew"
        )
    if rows.other_model:
        found.append(
            f"{rows.other_model:,} rows passed over: their vectors are of another model than "
            f"{text_rules(settings).model}; `gibsey-embedder backfill` makes them anew"
        )
    return found


def _usual_size(rows: Nearest) -> str:
    if not rows.sizes:
        return ""
    ((size, count),) = rows.sizes.most_common(1)
    return f" ({count:,} have {size:,}: see EMBED_DIMENSIONS and the model)"


def _as_json(found: Found) -> dict[str, object]:
    return {
        "compared": found.rows.compared,
        "unfit": found.rows.unfit,
        "other_model": found.rows.other_model,
        "seconds": round(found.seconds, 3),
        "matches": [
            {"page_id": match.page_id, "score": round(match.score, 6), "body": body}
            for match, body in zip(found.matches, found.bodies, strict=True)
        ],
    }


def _show(found: Found) -> None:
    console = Console()
    if found.matches:
        table = Table("score", "page", "text")
        for match, body in zip(found.matches, found.bodies, strict=True):
            words = "[dim]not in the table of the pages[/dim]"
            if body is not None:
                words = escape(printable(" ".join(body[: 4 * WORDS].split()), WORDS))
            table.add_row(f"{match.score:.4f}", escape(printable(match.page_id)), words)
        console.print(table)
    console.print(
        f"{found.rows.compared:,} vectors compared, one by one, in {found.seconds:.1f} s.",
        highlight=False,
    )
