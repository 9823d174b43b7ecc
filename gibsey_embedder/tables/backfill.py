"""`gibsey-embedder backfill`: sends every page through the stream again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from connectors.observability import logs
from connectors.stores.base import Page, PageStateError, RowPage, VectorStore
from dataflow.clients import kafka_config
from dataflow.config.settings import Settings, load_settings
from gibsey_embedder.tables.backfill_position import FILE, Position, PositionFile, purpose_of
from gibsey_embedder.tables.store import check_columns, open_store
from gibsey_embedder.terminal.options import (
    MAX_LAG,
    PAGE_SIZE,
    SKEW_S,
    MaxLag,
    PageSize,
    Skew,
    StatusUrls,
)
from gibsey_embedder.terminal.printable import printable
from gibsey_embedder.terminal.progress import progress_bars
from gibsey_embedder.terminal.retry_policy import GaveUpError, RetryPolicy
from gibsey_embedder.topic.change_sender import ChangeSender
from gibsey_embedder.topic.reader import KafkaUnavailableError
from gibsey_embedder.topic.send_rules import SendRules, current_write_time_us
from gibsey_embedder.topic.stream_lag import Throttle

MAX_NAMED = 20


def backfill(
    max_lag: MaxLag = MAX_LAG,
    status_url: StatusUrls = None,
    position: Annotated[
        Path | None,
        typer.Option(
            "--position",
            metavar="FILE",
            help="Where the backfill saves its position; by default, a file in RECOVERY_DIR.",
        ),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Start from the beginning; ignore the saved position.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count the pages, and send nothing.")
    ] = False,
    skew: Skew = SKEW_S,
    page_size: PageSize = PAGE_SIZE,
) -> None:
    """Send all pages to the topic as changes, so that the stream embeds each one again.

    For a new model or prefix, and for a store that another program filled. Reads the table of
    pages, and sends no faster than the stream processes. A change that is written meanwhile wins.
    A stopped backfill continues at its saved position; docs/models.md has the steps.
    """
    settings = load_settings()
    logs.configure("error", settings.log_format, settings.secret_values())
    console = Console(stderr=True)
    file = PositionFile(position or Path(settings.recovery_dir) / FILE)
    if restart:
        file.remove()
    work = Backfill(
        settings, file, console, SendRules(max_lag, tuple(status_url or ()), skew), page_size
    )
    try:
        done = asyncio.run(work.count() if dry_run else work.run())
    except (KeyboardInterrupt, OSError, GaveUpError, KafkaUnavailableError) as error:
        typer.echo(_why_stopped(error, file.path), err=True)
        raise typer.Exit(1) from None
    action = "to send" if dry_run else "sent"
    typer.echo(
        f"{done.sent:,} {action}, {done.blank:,} without text, {done.unsent:,} not accepted."
    )
    raise typer.Exit(1 if done.unsent else 0)


def _why_stopped(error: BaseException, position: Path) -> str:
    if isinstance(error, KeyboardInterrupt):
        return f"Stopped. Run the same command to continue ({position})."
    if isinstance(error, OSError):
        return f"{position} cannot be written: {error.strerror}; give --position"
    return str(error)


class Backfill:
    """One backfill.

    Args:
        settings: The settings.
        file: Saves the position.
        console: Shows the progress.
        rules: Limits the speed of sending.
        page_size: Maximum number of rows in one response of the store.
    """

    def __init__(
        self,
        settings: Settings,
        file: PositionFile,
        console: Console,
        rules: SendRules,
        page_size: int = PAGE_SIZE,
    ) -> None:
        self._settings = settings
        self._file = file
        self._console = console
        self._rules = rules
        self._retry_policy = RetryPolicy(console)
        self._page_size = min(page_size, rules.max_lag or page_size)

    async def count(self) -> Position:
        """Count the pages to send.

        Raises:
            GaveUpError: The store cannot be read.
        """
        counted = Position("", 0)
        async with open_store(self._settings, self._retry_policy) as store:
            await store.pages.check_columns()
            with progress_bars(self._console) as progress:
                task = progress.add_task("Counting", total=None)
                async for chunk in store.pages.scan(self._page_size):
                    with_text = sum(page.has_text for page in chunk.rows)
                    counted.sent += with_text
                    counted.blank += len(chunk.rows) - with_text
                    progress.update(task, completed=counted.sent)
        return counted

    async def run(self) -> Position:
        """Send all pages.

        Raises:
            GaveUpError: The store or the lag cannot be read.
            KafkaUnavailableError: Kafka does not accept a change.
            OSError: The position cannot be saved.
        """
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(open_store(self._settings, self._retry_policy))
            position = self._begin(store)
            self._announce(store, position)
            await check_columns(store)
            throttle = self._rules.throttle(self._settings, self._retry_policy, stack)
            sender = ChangeSender(
                kafka_config(self._settings), position.written_us, self._retry_policy
            )
            progress = stack.enter_context(progress_bars(self._console))
            task = progress.add_task("Sending", total=None, completed=position.sent)
            await self._rules.wait_for_clocks(position.written_us)
            async for chunk in self._chunks(store, throttle, position):
                self._send(chunk, sender, position)
                progress.update(task, completed=position.sent)
        self._file.remove()
        return position

    def _begin(self, store: VectorStore) -> Position:
        purpose = purpose_of(self._settings, store)
        saved = self._file.load()
        if saved is not None and saved.purpose == purpose:
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(saved.written_us / 1e6))
            self._print(f"Continuing the backfill of {when}: {saved.sent:,} pages were sent.")
            return saved
        if saved is not None:
            self._print("The stopped backfill had other settings: starting again.")
        position = Position(purpose, current_write_time_us())
        self._file.save(position)  # to find out at once if the file cannot be written
        return position

    def _announce(self, store: VectorStore, position: Position) -> None:
        settings, skew_s = self._settings, self._rules.skew_s
        waits = position.written_us / 1e6 + skew_s > time.time()
        wait = f", after a wait of {skew_s:g} s for clocks that differ (--skew)" if waits else ""
        self._print(
            f"Sending the pages of {store.pages.name} at {store.address} to "
            f"{settings.kafka_topic} at {settings.brokers}{wait}."
        )

    async def _chunks(
        self, store: VectorStore, throttle: Throttle, position: Position
    ) -> AsyncIterator[RowPage[Page]]:
        """Read all rows from the position on; read a chunk when the stream has room for it.

        A page must not wait here: the stream remembers newer changes of a page only while few
        other pages change.
        """
        await throttle.wait_for_room(self._page_size)
        try:
            async for chunk in store.pages.scan(self._page_size, position.state):
                yield chunk
                if chunk.next_position is not None:
                    await throttle.wait_for_room(self._page_size)
        except PageStateError as error:
            title = store.service.title
            self._print(f"{title} no longer accepts the position ({error}): starting again.")
            position.state, position.sent, position.blank, position.unsent = None, 0, 0, 0
            async for chunk in self._chunks(store, throttle, position):
                yield chunk

    def _send(self, chunk: RowPage[Page], sender: ChangeSender, position: Position) -> None:
        for page in chunk.rows:
            if page.has_text:
                sender.send(page.page_id, page.body or "")
        unsent = sender.flush()
        with_text = sum(page.has_text for page in chunk.rows)
        for error in unsent[: max(0, MAX_NAMED - position.unsent)]:
            self._print(f"The topic does not accept {printable(error.page_id)}: {error.reason}")
        position.sent += with_text - len(unsent)
        position.blank += len(chunk.rows) - with_text
        position.unsent += len(unsent)
        position.state = chunk.next_position
        if chunk.next_position is not None:
            self._file.save(position)

    def _print(self, text: str) -> None:
        self._console.print(escape(text), highlight=False, soft_wrap=True)
