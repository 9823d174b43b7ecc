"""`gibsey-embedder dead-letters`: what the stream gave up, and why."""

from __future__ import annotations

import json
from collections import Counter, deque
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from connectors.observability.metrics import REASONS
from dataflow.config.settings import load_settings
from dataflow.wiring import kafka_config
from gibsey_embedder.dead_letters.reader import Letter, Selection, parse_since, read_letters, shown
from gibsey_embedder.terminal.options import AsJson, whole_number
from gibsey_embedder.terminal.waiting_notice import waiting_notice
from gibsey_embedder.topic.reader import KafkaUnavailableError, TopicReader

Reason = Annotated[
    str | None, typer.Option("--reason", metavar="REASON", help="Only letters with this reason.")
]
Since = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="WHEN",
        help="Only what failed since: 2026-01-31T12:00, or an age: 30m, 7d.",
    ),
]
Page = Annotated[
    str | None, typer.Option("--page", metavar="ID", help="Only letters of this page.")
]


def selection(reason: str | None, since: str | None, page: str | None) -> Selection:
    """The letters that the options mean.

    Raises:
        typer.BadParameter: There is no such reason, or `since` is no time.
    """
    if reason is not None and reason not in REASONS:
        raise typer.BadParameter(f"{reason} is no reason; there are {', '.join(REASONS)}")
    try:
        return Selection(reason, parse_since(since) if since else None, page)
    except ValueError:
        raise typer.BadParameter(f"{since} is no time: write 2026-01-31T12:00 or 7d") from None


def dead_letters(
    reason: Reason = None,
    since: Since = None,
    page: Page = None,
    limit: Annotated[
        int,
        typer.Option(
            "--limit", metavar="COUNT", parser=whole_number(0), help="The newest so many."
        ),
    ] = 20,
    as_json: AsJson = False,
) -> None:
    """List what the stream gave up, newest last, and sum it by reason.

    `gibsey-embedder replay` gives letters another chance.
    """
    settings = load_settings()
    meant = selection(reason, since, page)
    counts: Counter[str] = Counter()
    newest: deque[Letter] = deque(maxlen=limit)
    config = kafka_config(settings)
    try:
        reader = TopicReader(config, f"{settings.kafka_group}-replay")
        with waiting_notice(f"reading {settings.dead_letter_topic} from Kafka at {config.brokers}"):
            for letter in filter(meant.takes, read_letters(reader, settings.dead_letter_topic)):
                counts[letter.reason] += 1
                newest.append(letter)
        reader.close()
    except KafkaUnavailableError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    if as_json:
        letters = [_as_json(letter) for letter in newest]
        typer.echo(json.dumps({"by_reason": counts, "letters": letters}))
    else:
        _show(settings.dead_letter_topic, counts, list(newest), is_all=meant == Selection())


def _as_json(letter: Letter) -> dict[str, str | int | None]:
    return {
        "failed_at": letter.failed_at,
        "reason": letter.reason,
        "detail": letter.detail,
        "origin": letter.original.origin,
        "page_id": letter.page_id,
        "original_size": letter.original_size,
    }


def _show(topic: str, counts: Counter[str], newest: list[Letter], *, is_all: bool) -> None:
    console = Console()
    if not counts:
        kind = "" if is_all else " of that kind"
        console.print(f"No dead letters{kind} in {escape(topic)}.")
        return
    if newest:
        console.print(letters_table(newest))
    for reason, count in counts.most_common():
        console.print(f"{count:>8,}  {escape(shown(reason))}", highlight=False)


def letters_table(letters: list[Letter]) -> Table:
    """Letters as a table for a terminal."""
    table = Table("when", "reason", "page", "origin", "detail")
    for letter in letters:
        facts = (letter.reason, letter.page_id, letter.original.origin)
        cells = [escape(shown(fact, 40)) for fact in facts]
        when = letter.failed_at[:19].replace("T", " ")
        table.add_row(escape(shown(when)), *cells, escape(shown(letter.detail, 120)))
    return table
