"""`gibsey-embedder dead-letters`: lists the events that the stream gave up."""

from __future__ import annotations

import json
from collections import Counter, deque
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dataflow.clients import dead_letter_reasons, kafka_config
from dataflow.config.settings import load_settings
from gibsey_embedder.dead_letters.reader import (
    DeadLetter,
    Selection,
    parse_since,
    read_dead_letters,
)
from gibsey_embedder.terminal.options import AsJson, whole_number
from gibsey_embedder.terminal.printable import printable
from gibsey_embedder.terminal.waiting_notice import waiting_notice
from gibsey_embedder.topic.reader import KafkaUnavailableError, TopicReader

Reason = Annotated[
    str | None,
    typer.Option("--reason", metavar="REASON", help="Only dead letters with this reason."),
]
Since = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="WHEN",
        help="Only dead letters since this time (2026-01-31T12:00) or of this age (30m, 7d).",
    ),
]
Page = Annotated[
    str | None, typer.Option("--page", metavar="ID", help="Only dead letters of this page.")
]


def selection(reason: str | None, since: str | None, page: str | None) -> Selection:
    """Return the selection for the options.

    Raises:
        typer.BadParameter: The reason does not exist, or `since` is not a time.
    """
    reasons = dead_letter_reasons()
    if reason is not None and reason not in reasons:
        raise typer.BadParameter(f"{reason} is not a reason; use one of {', '.join(reasons)}")
    try:
        return Selection(reason, parse_since(since) if since else None, page)
    except ValueError:
        raise typer.BadParameter(f"{since} is not a time; write 2026-01-31T12:00 or 7d") from None


def dead_letters(
    reason: Reason = None,
    since: Since = None,
    page: Page = None,
    limit: Annotated[
        int,
        typer.Option(
            "--limit",
            metavar="COUNT",
            parser=whole_number(0),
            help="Number of dead letters to list, newest first.",
        ),
    ] = 20,
    as_json: AsJson = False,
) -> None:
    """List the events that the stream gave up, newest last, and count them by reason.

    To process dead letters again, run `gibsey-embedder replay`.
    """
    settings = load_settings()
    selected = selection(reason, since, page)
    counts: Counter[str] = Counter()
    newest: deque[DeadLetter] = deque(maxlen=limit)
    config = kafka_config(settings)
    try:
        reader = TopicReader(config, f"{settings.kafka_group}-replay")
        with waiting_notice(f"reading {settings.dead_letter_topic} from Kafka at {config.brokers}"):
            entries = read_dead_letters(reader, settings.dead_letter_topic)
            for dead_letter in filter(selected.matches, entries):
                counts[dead_letter.reason] += 1
                newest.append(dead_letter)
        reader.close()
    except KafkaUnavailableError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    if as_json:
        details = [_as_json(dead_letter) for dead_letter in newest]
        typer.echo(json.dumps({"by_reason": counts, "letters": details}))
    else:
        _show(settings.dead_letter_topic, counts, list(newest), is_all=selected == Selection())


def _as_json(dead_letter: DeadLetter) -> dict[str, str | int | None]:
    return {
        "failed_at": dead_letter.failed_at,
        "reason": dead_letter.reason,
        "detail": dead_letter.detail,
        "origin": dead_letter.original.origin,
        "page_id": dead_letter.page_id,
        "original_size": dead_letter.original_size,
    }


def _show(topic: str, counts: Counter[str], newest: list[DeadLetter], *, is_all: bool) -> None:
    console = Console()
    if not counts:
        kind = "" if is_all else " of this selection"
        console.print(f"There are no dead letters{kind} in {escape(topic)}.")
        return
    if newest:
        console.print(dead_letter_table(newest))
    for reason, count in counts.most_common():
        console.print(f"{count:>8,}  {escape(printable(reason))}", highlight=False)


def dead_letter_table(entries: list[DeadLetter]) -> Table:
    """Return a table of dead letters for the terminal."""
    table = Table("when", "reason", "page", "origin", "detail")
    for dead_letter in entries:
        values = (dead_letter.reason, dead_letter.page_id, dead_letter.original.origin)
        cells = [escape(printable(value, 40)) for value in values]
        when = dead_letter.failed_at[:19].replace("T", " ")
        table.add_row(escape(printable(when)), *cells, escape(printable(dead_letter.detail, 120)))
    return table
