"""`gibsey-embedder replay`: sends dead letters through the stream again."""

from __future__ import annotations

from typing import Annotated

import typer
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from rich.console import Console
from rich.progress import Progress

from connectors.kafka.config import KafkaConfig
from connectors.kafka.messages import REPLAY_HEADER, TIMESTAMP_HEADER
from dataflow.clients import kafka_config
from dataflow.config.settings import Settings, load_settings
from gibsey_embedder.dead_letters.listing import Page, Reason, Since, dead_letter_table, selection
from gibsey_embedder.dead_letters.reader import DeadLetter, Selection, read_dead_letters
from gibsey_embedder.dead_letters.replay_plan import FAILED_AT_HEADER, ReplayPlan, plan_replay
from gibsey_embedder.terminal.options import Yes, whole_number
from gibsey_embedder.terminal.waiting_notice import waiting_notice
from gibsey_embedder.topic.reader import KafkaUnavailableError, TopicReader

MAX_ROWS = 20
MAX_DEAD_LETTERS = 10_000
"""A replay keeps its dead letters in memory while it reads the topic."""
FLUSH_TIMEOUT_S = 60.0


def replay(
    reason: Reason = None,
    since: Since = None,
    page: Page = None,
    limit: Annotated[
        int,
        typer.Option(
            "--limit",
            metavar="COUNT",
            parser=whole_number(1, MAX_DEAD_LETTERS),
            help="Maximum number of dead letters to send.",
        ),
    ] = MAX_DEAD_LETTERS,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the dead letters, but send nothing.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Send dead letters through the stream again, with their original content.

    Each original goes to its own partition, with a header that names its origin, so that the stream
    knows its age. The command skips a dead letter if its page has a newer event in the topic, or if
    an earlier replay sent it and it did not fail again. You can repeat an interrupted replay.
    """
    settings = load_settings()
    config = kafka_config(settings)
    selected = selection(reason, since, page)
    console = Console()
    try:
        plan = _plan(settings, config, selected, console)
        _show(plan, limit, console)
        plan.send = plan.send[:limit]
        if dry_run or not plan.send:
            raise typer.Exit(1 if plan.lost else 0)
        if not yes:
            question = f"Send {len(plan.send):,} dead letters to {config.topic}?"
            typer.confirm(question, abort=True)
        failed = send(config, plan.send, console)
    except (KafkaUnavailableError, KafkaException) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    console.print(f"{len(plan.send) - failed:,} sent, {failed:,} failed.")
    raise typer.Exit(1 if failed or plan.lost else 0)


def _plan(
    settings: Settings, config: KafkaConfig, selected: Selection, console: Console
) -> ReplayPlan:
    reader = TopicReader(config, f"{settings.kafka_group}-replay")
    try:
        with waiting_notice(f"reading {settings.dead_letter_topic} from Kafka at {config.brokers}"):
            dead_letters = [
                dead_letter
                for dead_letter in read_dead_letters(reader, settings.dead_letter_topic)
                if selected.matches(dead_letter) and dead_letter.original.topic == config.topic
            ]
        if not dead_letters:
            return ReplayPlan()
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("Searching for newer events", total=None)
            return plan_replay(
                dead_letters,
                reader,
                config.topic,
                delete_rows=settings.on_delete == "delete",
                on_read=lambda _: progress.advance(task),
            )
    finally:
        reader.close()


def _show(plan: ReplayPlan, limit: int, console: Console) -> None:
    if plan.send:
        console.print(dead_letter_table(plan.send[: min(limit, MAX_ROWS)]))
    console.print(
        f"{min(len(plan.send), limit):,} to send. Skipped: {len(plan.sent):,} sent before, "
        f"{len(plan.overtaken):,} superseded by a newer change of the same page, "
        f"{len(plan.lost):,} whose original is no longer in the topic.",
        highlight=False,
    )


def send(config: KafkaConfig, dead_letters: list[DeadLetter], console: Console) -> int:
    """Send originals to their own partitions; return how many the broker did not confirm."""
    producer = Producer({**config.producer_config(), "message.timeout.ms": 30_000})
    confirmed = 0

    def on_delivery(error: KafkaError | None, _: Message) -> None:
        nonlocal confirmed
        confirmed += error is None

    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("Sending", total=len(dead_letters))
        for dead_letter in dead_letters:
            original = dead_letter.original
            producer.produce(
                config.topic,
                key=original.key,
                value=original.value,
                partition=original.partition,
                timestamp=original.timestamp_ms,
                headers=[
                    (REPLAY_HEADER, original.origin.encode()),
                    (FAILED_AT_HEADER, dead_letter.failed_at.encode()),
                    (TIMESTAMP_HEADER, str(original.timestamp_ms).encode()),
                ],
                on_delivery=on_delivery,
            )
            producer.poll(0)
            progress.advance(task)
        producer.flush(FLUSH_TIMEOUT_S)
    return len(dead_letters) - confirmed
