"""`gibsey-embedder replay`: another chance for dead letters."""

from __future__ import annotations

from typing import Annotated

import typer
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from rich.console import Console
from rich.progress import Progress

from connectors.kafka.config import KafkaConfig
from connectors.kafka.messages import REPLAY_HEADER, TIMESTAMP_HEADER
from dataflow.config.settings import Settings, load_settings
from dataflow.wiring import kafka_config
from gibsey_embedder.dead_letters.listing import Page, Reason, Since, letters_table, selection
from gibsey_embedder.dead_letters.reader import Letter, Selection, read_letters
from gibsey_embedder.dead_letters.replay_plan import FAILED_AT_HEADER, Plan, make_plan
from gibsey_embedder.terminal.options import Yes, whole_number
from gibsey_embedder.terminal.waiting_notice import waiting_notice
from gibsey_embedder.topic.reader import KafkaUnavailableError, TopicReader

SHOWN = 20
LETTERS_AT_ONCE = 10_000
"""Letters of one replay at most: they are held in memory while the topic is looked at."""
FLUSH_S = 60.0


def replay(
    reason: Reason = None,
    since: Since = None,
    page: Page = None,
    limit: Annotated[
        int,
        typer.Option(
            "--limit",
            metavar="COUNT",
            parser=whole_number(1, LETTERS_AT_ONCE),
            help="At most so many letters.",
        ),
    ] = LETTERS_AT_ONCE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show it, send nothing.")] = False,
    yes: Yes = False,
) -> None:
    """Send dead letters through the stream again, as they were.

    Each original goes to the partition it came from, with a header that names its origin, so the
    stream knows how old it is. Letters are left alone when their page has a newer event in the
    topic, or when they were replayed before and did not fail again; both is seen in the topic
    itself, so a replay that was interrupted is simply started again.
    """
    settings = load_settings()
    config = kafka_config(settings)
    meant = selection(reason, since, page)
    console = Console()
    try:
        plan = _plan(settings, config, meant, console)
        _show(plan, limit, console)
        plan.send = plan.send[:limit]
        if dry_run or not plan.send:
            raise typer.Exit(1 if plan.lost else 0)
        if not yes:
            typer.confirm(f"Send {len(plan.send):,} to {config.topic}?", abort=True)
        failed = send(config, plan.send, console)
    except (KafkaUnavailableError, KafkaException) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    console.print(f"{len(plan.send) - failed:,} sent, {failed:,} failed.")
    raise typer.Exit(1 if failed or plan.lost else 0)


def _plan(settings: Settings, config: KafkaConfig, meant: Selection, console: Console) -> Plan:
    reader = TopicReader(config, f"{settings.kafka_group}-replay")
    try:
        with waiting_notice(f"reading {settings.dead_letter_topic} from Kafka at {config.brokers}"):
            found = filter(meant.takes, read_letters(reader, settings.dead_letter_topic))
            letters = [letter for letter in found if letter.original.topic == config.topic]
        if not letters:
            return Plan()
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("Looking for newer events", total=None)
            return make_plan(
                letters,
                reader,
                config.topic,
                delete_rows=settings.on_delete == "delete",
                on_read=lambda _: progress.advance(task),
            )
    finally:
        reader.close()


def _show(plan: Plan, limit: int, console: Console) -> None:
    if plan.send:
        console.print(letters_table(plan.send[: min(limit, SHOWN)]))
    console.print(
        f"{min(len(plan.send), limit):,} to send; left alone: {len(plan.sent):,} sent before, "
        f"{len(plan.overtaken):,} with a newer event of their page, "
        f"{len(plan.lost):,} whose original is gone.",
        highlight=False,
    )


def send(config: KafkaConfig, letters: list[Letter], console: Console) -> int:
    """Produce originals to the partitions they came from; returns how many were not confirmed."""
    producer = Producer({**config.producer_config(), "message.timeout.ms": 30_000})
    confirmed = 0

    def on_delivery(error: KafkaError | None, _: Message) -> None:
        nonlocal confirmed
        confirmed += error is None

    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("Sending", total=len(letters))
        for letter in letters:
            original = letter.original
            producer.produce(
                config.topic,
                key=original.key,
                value=original.value,
                partition=original.partition,
                timestamp=original.timestamp_ms,
                headers=[
                    (REPLAY_HEADER, original.origin.encode()),
                    (FAILED_AT_HEADER, letter.failed_at.encode()),
                    (TIMESTAMP_HEADER, str(original.timestamp_ms).encode()),
                ],
                on_delivery=on_delivery,
            )
            producer.poll(0)
            progress.advance(task)
        producer.flush(FLUSH_S)
    return len(letters) - confirmed
