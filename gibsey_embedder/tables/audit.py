"""`gibsey-embedder audit`: compares the pages with their vectors, and repairs the store."""

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
from connectors.stores.base import VectorStore
from dataflow.clients import kafka_config, text_rules
from dataflow.config.settings import Settings, load_settings
from gibsey_embedder.tables.audit_index import AuditIds
from gibsey_embedder.tables.audit_repair import Repair, Repaired
from gibsey_embedder.tables.audit_scan import Scan
from gibsey_embedder.tables.row_checks import KINDS, Kind, RowCheck
from gibsey_embedder.tables.store import check_columns, open_store
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

_TITLES: dict[Kind, str] = {
    "missing": "pages without a vector",
    "orphan": "vectors without a page",
    "bad-vector": "vectors of another size, not finite, or not of unit length",
    "other-model": "vectors of another model",
}


def audit(
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Send pages again, and remove vectors without a page."),
    ] = False,
    yes: Yes = False,
    keep_orphans: Annotated[
        bool,
        typer.Option("--keep-orphans", help="Accept vectors without a page, and keep them."),
    ] = False,
    limit: Annotated[
        int,
        typer.Option(
            metavar="COUNT", parser=whole_number(0), help="How many of each problem to list."
        ),
    ] = 10,
    as_json: AsJson = False,
    max_lag: MaxLag = MAX_LAG,
    status_url: StatusUrls = None,
    skew: Skew = SKEW_S,
    page_size: PageSize = PAGE_SIZE,
) -> None:
    """Compare the pages with their vectors, and repair what is wrong on request.

    Finds pages without a vector, vectors without a page, vectors that are not finite or not of
    unit length and, if the store keeps the model beside each vector, those of another model. A
    page that changes meanwhile is not a problem. `--repair` sends pages to the topic again; a
    newer change wins. Exit code: 0 nothing is wrong or everything is repaired, 1 problems are left
    or the audit failed.
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
        typer.echo(report.to_json())
    else:
        _show(report, settings)
    raise typer.Exit(int(report.result == "faulty"))


@dataclass(slots=True)
class Report:
    """What an audit found and repaired.

    Attributes:
        result: `clean`, `faulty`, or `mended` if a repair left no problem.
        pages: Pages read.
        vectors: Vectors read.
        found: Problems by kind.
        named: The first problems of each kind: page ids with details.
        lag: Records that the stream was behind, which may explain missing vectors.
        repaired: What the repair did, if there was one.
    """

    result: str
    pages: int
    vectors: int
    found: dict[Kind, int]
    named: dict[Kind, list[tuple[str, str]]]
    lag: int | None = None
    repaired: Repaired | None = None

    def to_json(self) -> str:
        """Return the output of `--json`, which keeps its older keys `mended` and `healed`."""
        fields = asdict(self)
        repaired = fields.pop("repaired")
        if repaired is not None:
            repaired["healed"] = repaired.pop("already_right")
        return json.dumps({**fields, "mended": repaired})


class Audit:
    """One audit.

    Args:
        settings: The settings.
        console: Shows the progress and asks for confirmation.
        rules: Limits the speed of sending.
        keep_orphans: Whether vectors without a page are accepted.
        page_size: Maximum number of rows in one response of the store.
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
        """Compare the tables, and repair them on request.

        Args:
            ids: Stores the ids and the problems.
            repair: Whether to repair.
            ask: Whether to ask for confirmation before a repair.
            limit: Maximum number of problems of each kind in the report.

        Raises:
            GaveUpError: The store cannot be read, or a table lacks columns; nothing was changed.
            KafkaUnavailableError: Kafka does not accept a change.
        """
        began_us = current_write_time_us()
        async with open_store(self._settings, self._retry_policy) as store:
            await check_columns(store)
            with progress_bars(self._console) as progress:
                await self._scan(store, ids, progress).run(self._page_size)
            report = self._report(ids, limit)
            if report.found["missing"]:
                report.lag = await self._lag()
            if repair and report.result == "faulty":
                self._confirm(store, report, ask)
                report.repaired = await self._repair(store, ids, began_us)
                report.result = "faulty" if report.repaired.left else "mended"
        return report

    def _scan(self, store: VectorStore, ids: AuditIds, progress: Progress) -> Scan:
        model = text_rules(self._settings).model if store.keeps_model else None
        return Scan(store, ids, RowCheck(self._settings.embed_dimensions, model), progress)

    def _report(self, ids: AuditIds, limit: int) -> Report:
        counts = ids.counts()
        problems = sum(
            count for kind, count in counts.items() if not (kind == "orphan" and self._keep_orphans)
        )
        return Report(
            "faulty" if problems else "clean",
            ids.pages(),
            ids.vectors(),
            counts,
            {kind: ids.problems(kind, limit) for kind in KINDS},
        )

    async def _lag(self) -> int | None:
        """Return the lag of the stream; None if it cannot be read."""
        try:
            async with AsyncExitStack() as stack:
                return await self._rules.lag(self._settings, stack)()
        except (ServiceError, KafkaUnavailableError):
            return None

    def _confirm(self, store: VectorStore, report: Report, ask: bool) -> None:
        """Ask for confirmation.

        Raises:
            GaveUpError: The repair would remove every vector.
        """
        orphans = 0 if self._keep_orphans else report.found["orphan"]
        if orphans and not report.pages:
            raise GaveUpError(
                f"{store.pages.name} has no page, so the repair would remove every vector: "
                f"correct {store.pages.setting}, or give --keep-orphans"
            )
        if not ask:
            return
        if orphans and self._settings.on_delete == "ignore":
            note = "ON_DELETE=ignore keeps the vectors of deleted pages; so does --keep-orphans."
            self._console.print(note, highlight=False)
        pages = sum(report.found.values()) - report.found["orphan"]
        question = f"Send {pages:,} pages into {self._settings.kafka_topic}"
        question += f" and remove {orphans:,} vectors?" if orphans else "?"
        typer.confirm(question, abort=True, err=True)

    async def _repair(self, store: VectorStore, ids: AuditIds, began_us: int) -> Repaired:
        async with AsyncExitStack() as stack:
            throttle = self._rules.throttle(self._settings, self._retry_policy, stack)
            sender = ChangeSender(kafka_config(self._settings), began_us, self._retry_policy)
            progress = stack.enter_context(progress_bars(self._console))
            scan = self._scan(store, ids, progress)
            await self._rules.wait_for_clocks(began_us)
            repair = Repair(scan, store, sender, throttle, keep_orphans=self._keep_orphans)
            return await repair.run(ids, progress)


def _show(report: Report, settings: Settings) -> None:
    console = Console()
    console.print(f"{report.pages:,} pages, {report.vectors:,} vectors.", highlight=False)
    if named := [(kind, *one) for kind in KINDS for one in report.named[kind]]:
        table = Table("problem", "page", "detail")
        for row in named:
            table.add_row(*(escape(printable(cell)) for cell in row))
        console.print(table)
    for kind, count in report.found.items():
        if count:
            console.print(f"{count:>9,}  {_TITLES[kind]}", highlight=False)
    if report.lag:
        console.print(
            f"The stream is {report.lag:,} records behind, which may explain some of these.",
            highlight=False,
        )
    if report.repaired is not None:
        _show_repaired(console, report.repaired, settings.kafka_topic)
    elif report.result == "faulty":
        console.print("Run `gibsey-embedder audit --repair` to repair them.", highlight=False)
    else:
        console.print("Nothing is wrong.")


def _show_repaired(console: Console, repaired: Repaired, topic: str) -> None:
    for unsent in repaired.unsent:
        page_id, reason = escape(printable(unsent.page_id)), escape(unsent.reason)
        console.print(f"{topic} does not accept {page_id}: {reason}")
    console.print(
        f"{repaired.sent:,} pages sent into {topic}, {repaired.removed:,} vectors removed, "
        f"{repaired.already_right:,} already right, {repaired.left:,} left.",
        highlight=False,
    )
    if repaired.sent:
        console.print("The stream embeds these pages now. Run the audit again afterwards.")
