"""`gibsey-embedder backfill`: every page through the stream once more."""

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

from connectors.http.address import address_of
from connectors.observability import logs
from dataflow.config.settings import Settings, load_settings
from dataflow.wiring import kafka_config
from gibsey_embedder.tables.backfill_position import FILE, Position, PositionFile, purpose_of
from gibsey_embedder.tables.page_store import PageStore, open_store
from gibsey_embedder.tables.row_checks import Page
from gibsey_embedder.tables.rows import PageStateError, RowBatch
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

NAMED = 20


def backfill(
    max_lag: MaxLag = MAX_LAG,
    status_url: StatusUrls = None,
    position: Annotated[
        Path | None,
        typer.Option(
            "--position",
            metavar="FILE",
            help="Where it is noted how far it is; else in RECOVERY_DIR.",
        ),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew, not where the last one was stopped.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count the pages, send nothing.")
    ] = False,
    skew: Skew = SKEW_S,
    page_size: PageSize = PAGE_SIZE,
) -> None:
    """Send all pages into the topic as changes, so that each is embedded anew.

    For a new model or prefix, and for a store that was filled otherwise. Pages are read from
    STARGATE_PAGES_TABLE and sent no faster than the stream works them off. A change that is
    written meanwhile wins. What was stopped goes on where it was; docs/models.md has the steps.
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
    what = "to send" if dry_run else "sent"
    typer.echo(f"{done.sent:,} {what}, {done.blank:,} without text, {done.unsent:,} not taken.")
    raise typer.Exit(1 if done.unsent else 0)


def _why_stopped(error: BaseException, position: Path) -> str:
    if isinstance(error, KeyboardInterrupt):
        return f"Stopped; the same command goes on from there ({position})."
    if isinstance(error, OSError):
        return f"{position} cannot be written: {error.strerror}; give --position"
    return str(error)


class Backfill:
    """One backfill, from its position on.

    Args:
        settings: The settings in force.
        file: Where its position is kept.
        console: Where its progress is shown.
        rules: How fast it goes.
        page_size: Rows in one answer of Stargate.
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
        self._size = min(page_size, rules.max_lag or page_size)

    async def count(self) -> Position:
        """Count what would be sent.

        Raises:
            GaveUpError: Stargate cannot be read.
        """
        counted = Position("", 0)
        async with open_store(self._settings, self._retry_policy) as store:
            await store.pages.check_columns()
            with progress_bars(self._console) as progress:
                task = progress.add_task("Counting", total=None)
                async for chunk in store.pages.batches(self._size):
                    with_text = sum(page.has_text for page in chunk.rows)
                    counted.sent += with_text
                    counted.blank += len(chunk.rows) - with_text
                    progress.update(task, completed=counted.sent)
        return counted

    async def run(self) -> Position:
        """Send all pages.

        Raises:
            GaveUpError: Stargate cannot be read, or the lag not be told.
            KafkaUnavailableError: Kafka takes nothing.
            OSError: The position cannot be kept.
        """
        position = self._begin()
        self._announce(position)
        async with AsyncExitStack() as open_:
            store = await open_.enter_async_context(open_store(self._settings, self._retry_policy))
            await store.check_columns()
            room = self._rules.throttle(self._settings, self._retry_policy, open_)
            sender = ChangeSender(
                kafka_config(self._settings), position.written_us, self._retry_policy
            )
            progress = open_.enter_context(progress_bars(self._console))
            task = progress.add_task("Sending", total=None, completed=position.sent)
            await self._rules.wait_for_clocks(position.written_us)
            async for chunk in self._chunks(store, room, position):
                self._send(chunk, sender, position)
                progress.update(task, completed=position.sent)
        self._file.remove()
        return position

    def _begin(self) -> Position:
        purpose = purpose_of(self._settings)
        found = self._file.load()
        if found is not None and found.purpose == purpose:
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(found.written_us / 1e6))
            self._say(f"Going on with the backfill of {when}: {found.sent:,} were sent.")
            return found
        if found is not None:
            self._say("The backfill that was stopped was of other settings: beginning anew.")
        position = Position(purpose, current_write_time_us())
        self._file.save(position)  # so that a file that cannot be written shows now
        return position

    def _announce(self, position: Position) -> None:
        settings, skew_s = self._settings, self._rules.skew_s
        waits = position.written_us / 1e6 + skew_s > time.time()
        source = f"{settings.stargate_keyspace}.{settings.stargate_pages_table}"
        waited = f", after {skew_s:g} s by which clocks may differ (--skew)" if waits else ""
        self._say(
            f"Sending the pages of {source} at {address_of(settings.stargate_url)} to "
            f"{settings.kafka_topic} at {settings.brokers}{waited}."
        )

    async def _chunks(
        self, store: PageStore, room: Throttle, position: Position
    ) -> AsyncIterator[RowBatch[Page]]:
        """All rows from the position on; each chunk is read when there is room for it.

        A page that waited here would grow old: the stream remembers a newer change of it only for
        as long as not too many others came in between.
        """
        await room.wait_for_room(self._size)
        try:
            async for chunk in store.pages.batches(self._size, position.state):
                yield chunk
                if chunk.next_state is not None:
                    await room.wait_for_room(self._size)
        except PageStateError as error:
            self._say(f"Stargate does not know the position any more ({error}): beginning anew.")
            position.state, position.sent, position.blank, position.unsent = None, 0, 0, 0
            async for chunk in self._chunks(store, room, position):
                yield chunk

    def _send(self, chunk: RowBatch[Page], sender: ChangeSender, position: Position) -> None:
        for page in chunk.rows:
            if page.has_text:
                sender.send(page.page_id, page.body or "")
        unsent = sender.flush()
        with_text = sum(page.has_text for page in chunk.rows)
        for left in unsent[: max(0, NAMED - position.unsent)]:
            self._say(f"{printable(left.page_id)} is not taken: {left.reason}")
        position.sent += with_text - len(unsent)
        position.blank += len(chunk.rows) - with_text
        position.unsent += len(unsent)
        position.state = chunk.next_state
        if chunk.next_state is not None:
            self._file.save(position)

    def _say(self, text: str) -> None:
        self._console.print(escape(text), highlight=False, soft_wrap=True)
