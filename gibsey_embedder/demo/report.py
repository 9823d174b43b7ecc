"""Shows the results of the demo: figures, counters, a search and the checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from operator import mul

from rich.console import Console
from rich.table import Table

from gibsey_embedder.demo.checks import MAX_LINES, Check
from gibsey_embedder.demo.feed import percentile
from gibsey_embedder.demo.services import Services

QUESTIONS = (
    "How do I parse a JSON document from a string?",
    "wait until all threads have reached the same point",
    "read and write compressed zip archives",
)
BEST = 3


@dataclass(frozen=True, slots=True)
class Figures:
    """The measured figures.

    Attributes:
        pages: Number of pages in the backlog.
        seconds: Seconds from the first request to the embedder to the last notification.
        busy_share: Share of that time for which the embedder computed; None for a real Ollama.
        freshness_s: The freshness of each live edit.
    """

    pages: int
    seconds: float
    busy_share: float | None
    freshness_s: Sequence[float]


def show_figures(console: Console, services: Services, figures: Figures) -> None:
    """Show speed, freshness and the counters of each service."""
    table = Table(title="The stream", title_justify="left", show_header=False, box=None)
    table.add_column(style="bold")
    table.add_row("pages", f"{figures.pages:,} in {figures.seconds:.1f} s")
    table.add_row("pages per second", f"{figures.pages / figures.seconds:,.0f}")
    if figures.busy_share is not None:
        table.add_row("embedder busy", f"{figures.busy_share:.1%} of that time")
    fresh = [f"{percentile(figures.freshness_s, share) * 1000:.0f}" for share in (0.5, 0.95, 0.99)]
    edits = len(figures.freshness_s)
    table.add_row("freshness", f"p50 {fresh[0]} ms, p95 {fresh[1]} ms, p99 {fresh[2]} ms")
    table.add_row("", f"of {edits} live edits, from Kafka to the last service's response")
    console.print(table, "")
    _show_counts(console, services)


def show_search(console: Console, services: Services) -> None:
    """Show the nearest pages of some questions."""
    vectors = services.stargate.vectors
    stored = {page_id: vectors.vector(page_id) or [] for page_id in list(vectors.rows)}
    table = Table(title="A search over the vectors", title_justify="left")
    table.add_column("question", ratio=2)
    table.add_column("best pages", ratio=3)
    for question in QUESTIONS:
        best = nearest(services.question_vector(question), stored)
        table.add_row(question, "\n".join(f"{score:.2f}  {page_id}" for score, page_id in best))
    console.print(table, "")


def nearest(
    question: list[float], stored: Mapping[str, list[float]], count: int = BEST
) -> list[tuple[float, str]]:
    """Return the pages with the nearest unit vectors, best first."""
    scored = ((fsum(map(mul, question, vector)), page_id) for page_id, vector in stored.items())
    return sorted(scored, reverse=True)[:count]


def show_checks(console: Console, checks: Sequence[Check]) -> None:
    """Show each check with its problems."""
    for check in checks:
        console.print(f"[green]✓[/] {check.name}" if check.passed else f"[red]✗ {check.name}[/]")
        for problem in check.problems[:MAX_LINES]:
            console.print(f"    {problem}", markup=False)
        if (more := len(check.problems) - MAX_LINES) > 0:
            console.print(f"    and {more} more")


def _show_counts(console: Console, services: Services) -> None:
    table = Table(title="The services", title_justify="left")
    for name in ("service", "requests", "processed", "max. concurrent"):
        table.add_column(name, justify="left" if name == "service" else "right")
    rows = [
        ("Ollama (fake)", services.ollama.stats, "texts"),
        ("Stargate (fake)", services.stargate.stats, "rows"),
        ("RAG service (fake)", services.rag.stats, "notifications"),
    ]
    for name, stats, items in rows[1 if services.real_url else 0 :]:
        table.add_row(
            name, f"{stats.requests:,}", f"{stats.items:,} {items}", str(stats.max_in_flight)
        )
    console.print(table, "")
