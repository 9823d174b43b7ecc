"""`gibsey-embedder audit`: whether the store holds the right vectors, and how to get there."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from connectors.core.errors import ServiceError
from connectors.observability import logs
from dataflow.config.settings import Settings, load_settings
from dataflow.wiring import kafka_config, text_rules
from gibsey_embedder.tables.audit_index import AuditIds
from gibsey_embedder.tables.audit_repair import Mended, Repair
from gibsey_embedder.tables.audit_scan import Scan
from gibsey_embedder.tables.page_store import PageStore, open_store
from gibsey_embedder.tables.row_checks import KINDS, Kind, Wanted
from gibsey_embedder.terminal.options import (
    MAX_LAG,
    PAGE_SIZE,
    SKEW_S,
    AsJson,
    MaxLag,
    PageSize,
    Skew,
    StatusUrls,
    Yes,
    whole_number,
)
from gibsey_embedder.terminal.printable import printable
from gibsey_embedder.terminal.progress import progress_bars
from gibsey_embedder.terminal.retry_policy import GaveUpError, RetryPolicy
from gibsey_embedder.topic.change_sender import ChangeSender
from gibsey_embedder.topic.reader import KafkaUnavailableError
from gibsey_embedder.topic.send_rules import SendRules, current_write_time_us

_MEANING: dict[Kind, str] = {
    "missing": "pages without a vector",
    "orphan": "vectors without a page",
    "bad-vector": "vectors of another size, not finite, or not of unit length",
    "other-model": "vectors of another model",
}


def audit(
    repair: Annotated[
        bool, typer.Option("--repair", help="Send pages anew, remove vectors without a page.")
    ] = False,
    yes: Yes = False,
    keep_orphans: Annotated[
        bool,
        typer.Option("--keep-orphans", help="Vectors without a page are no fault, and stay."),
    ] = False,
    limit: Annotated[
        int,
        typer.Option(metavar="COUNT", parser=whole_number(0), help="Name so many of each fault."),
    ] = 10,
    as_json: AsJson = False,
    max_lag: MaxLag = MAX_LAG,
    status_url: StatusUrls = None,
    skew: Skew = SKEW_S,
    page_size: PageSize = PAGE_SIZE,
) -> None:
    """Compare the pages with their vectors, and on request mend what is wrong.

    Finds pages without a vector, vectors without a page, vectors that are no finite ones of unit
    length and, where STARGATE_MODEL_COLUMN is set, those of another model. A page that changes
    meanwhile is no fault. With `--repair` pages go into the topic once more, where a newer change
    wins. Exit code: 0 clean or mended, 1 faults are left or it could not be seen.
    """
    settings = load_settings()
    logs.configure("error", settings.log_format, settings.secret_values())
    console = Console(stderr=True)
    rules = SendRules(max_lag, tuple(status_url or ()), skew)
    work = Audit(settings, console, rules, keep_orphans=keep_orphans, page_size=page_size)
    try:
        with AuditIds() as ids:
            report = asyncio.run(work.run(ids, repair=repair, ask=not yes, limit=limit))
    except (GaveUpError, KafkaUnavailableError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    if as_json:
        typer.echo(json.dumps(asdict(report)))
    else:
        _show(report, settings)
    raise typer.Exit(int(report.result == "faulty"))


@dataclass(slots=True)
class Report:
    """What an audit found and did.

    Attributes:
        result: `clean`, `faulty`, or `mended` where a repair left nothing undone.
        pages: Pages seen.
        vectors: Vectors seen.
        found: Faults by kind.
        named: The first of each kind: page ids with details.
        lag: Records that the stream was behind, where that may explain faults.
        mended: What the repair did, if there was one.
    """

    result: str
    pages: int
    vectors: int
    found: dict[Kind, int]
    named: dict[Kind, list[tuple[str, str]]]
    lag: int | None = None
    mended: Mended | None = None


class Audit:
    """One audit.

    Args:
        settings: The settings in force.
        console: Where its progress is shown, and what it asks.
        rules: How fast it sends.
        keep_orphans: Whether vectors without a page are no fault.
        page_size: Rows in one answer of Stargate.
    """

    def __init__(
        self,
        settings: Settings,
        console: Console,
        rules: SendRules,
        *,
        keep_orphans: bool = False,
        page_size: int = PAGE_SIZE,
    ) -> None:
        self._settings = settings
        self._console = console
        self._rules = rules
        self._keep_orphans = keep_orphans
        self._page_size = page_size
        self._retry_policy = RetryPolicy(console)

    async def run(self, ids: AuditIds, *, repair: bool, ask: bool, limit: int) -> Report:
        """Compare, and repair if that is wanted.

        Args:
            ids: Where what is seen is kept.
            repair: Whether to mend.
            ask: Whether to ask before.
            limit: How many of each fault are named.

        Raises:
            GaveUpError: Stargate cannot be read, or a table lacks columns; nothing was changed.
            KafkaUnavailableError: Kafka takes no change.
        """
        began_us = current_write_time_us()
        settings = self._settings
        async with open_store(settings, self._retry_policy) as store:
            await store.check_columns()
            with progress_bars(self._console) as progress:
                scan = self._scan(store, ids, progress)
                await scan.run(self._page_size)
            report = self._report(ids, limit)
            if report.found["missing"]:
                report.lag = await self._lag()
            if repair and report.result == "faulty":
                self._make_sure(report, ask)
                report.mended = await self._mend(store, ids, began_us)
                report.result = "faulty" if report.mended.left else "mended"
        return report

    def _scan(self, store: PageStore, ids: AuditIds, progress: Progress) -> Scan:
        settings = self._settings
        model = text_rules(settings).model if settings.stargate_model_column else None
        wanted = Wanted(settings.embed_dimensions, model)
        return Scan(store, ids, wanted, settings.stargate_concurrency, progress)

    def _report(self, ids: AuditIds, limit: int) -> Report:
        found = ids.counts()
        faults = sum(
            n for kind, n in found.items() if not (kind == "orphan" and self._keep_orphans)
        )
        return Report(
            "faulty" if faults else "clean",
            ids.pages(),
            ids.vectors(),
            found,
            {kind: ids.faults(kind, limit) for kind in KINDS},
        )

    async def _lag(self) -> int | None:
        """How far the stream is behind; None where nobody tells."""
        try:
            async with AsyncExitStack() as open_:
                return await self._rules.lag(self._settings, open_)()
        except (ServiceError, KafkaUnavailableError):
            return None

    def _make_sure(self, report: Report, ask: bool) -> None:
        """See that a repair is meant.

        Raises:
            GaveUpError: It would remove everything.
        """
        orphans = 0 if self._keep_orphans else report.found["orphan"]
        if orphans and not report.pages:
            raise GaveUpError(
                f"{self._settings.stargate_pages_table} holds no page, and all vectors would go: "
                "correct STARGATE_PAGES_TABLE, or give --keep-orphans"
            )
        if not ask:
            return
        if orphans and self._settings.on_delete == "ignore":
            note = (
                "ON_DELETE=ignore keeps the vectors of deleted pages; --keep-orphans does so here."
            )
            self._console.print(note, highlight=False)
        pages = sum(report.found.values()) - report.found["orphan"]
        question = f"Send {pages:,} pages into {self._settings.kafka_topic}"
        question += f" and remove {orphans:,} vectors?" if orphans else "?"
        typer.confirm(question, abort=True, err=True)

    async def _mend(self, store: PageStore, ids: AuditIds, began_us: int) -> Mended:
        async with AsyncExitStack() as open_:
            room = self._rules.throttle(self._settings, self._retry_policy, open_)
            sender = ChangeSender(kafka_config(self._settings), began_us, self._retry_policy)
            progress = open_.enter_context(progress_bars(self._console))
            scan = self._scan(store, ids, progress)
            await self._rules.wait_for_clocks(began_us)
            repair = Repair(scan, store, sender, room, keep_orphans=self._keep_orphans)
            return await repair.run(ids, progress)


def _show(report: Report, settings: Settings) -> None:
    console = Console()
    console.print(f"{report.pages:,} pages, {report.vectors:,} vectors.", highlight=False)
    if named := [(kind, *one) for kind in KINDS for one in report.named[kind]]:
        table = Table("fault", "page", "detail")
        for row in named:
            table.add_row(*(escape(printable(cell)) for cell in row))
        console.print(table)
    for kind, count in report.found.items():
        if count:
            console.print(f"{count:>9,}  {_MEANING[kind]}", highlight=False)
    if report.lag:
        console.print(
            f"The stream is {report.lag:,} records behind: some of these may be on their way.",
            highlight=False,
        )
    if report.mended is not None:
        _show_mended(console, report.mended, settings.kafka_topic)
    elif report.result == "faulty":
        console.print("`gibsey-embedder audit --repair` mends them.", highlight=False)
    else:
        console.print("Nothing is wrong.")


def _show_mended(console: Console, mended: Mended, topic: str) -> None:
    for unsent in mended.unsent:
        console.print(f"{escape(printable(unsent.page_id))} is not taken: {escape(unsent.reason)}")
    console.print(
        f"{mended.sent:,} pages sent into {topic}, {mended.removed:,} vectors removed, "
        f"{mended.healed:,} healed by themselves, {mended.left:,} left.",
        highlight=False,
    )
    if mended.sent:
        console.print("The stream embeds what was sent; audit again when it has.")
