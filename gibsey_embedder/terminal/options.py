"""The options that several commands share, and the parsers of their numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

import typer

MAX_LAG = 1000
PAGE_SIZE = 100
LARGEST_PAGE_SIZE = 1000
SKEW_S = 10.0


def whole_number(minimum: int, maximum: int | None = None) -> Callable[[str], int]:
    """Return a parser for a whole number; it rejects other text with a clear message.

    Args:
        minimum: The smallest valid number.
        maximum: The largest valid number; None means no limit.
    """

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise typer.BadParameter(f"{text} is not a whole number") from None
        _check_range(number, minimum, maximum)
        return number

    return parse


def seconds(text: str) -> float:
    """Parse a number of seconds: finite, and 0 or more."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise typer.BadParameter(f"{text} is not a number of seconds")
    _check_range(number, 0, None)
    return number


def _check_range(number: float, minimum: int, maximum: int | None) -> None:
    if number < minimum:
        raise typer.BadParameter(f"{number} is too small; it must be {minimum} or more")
    if maximum is not None and number > maximum:
        raise typer.BadParameter(f"{number} is too large; it must be {maximum} or less")


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
MaxLag = Annotated[
    int,
    typer.Option(
        metavar="RECORDS",
        parser=whole_number(0),
        help="Pause while the stream's lag is greater than this; 0: do not check the lag.",
    ),
]
StatusUrls = Annotated[
    list[str] | None,
    typer.Option(
        "--status-url",
        metavar="URL",
        help="Read the lag from this status port instead of Kafka. Repeat it for each process "
        "of a cluster.",
    ),
]
Skew = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        parser=seconds,
        help="How far the clocks of writers may differ from this machine's clock.",
    ),
]
PageSize = Annotated[
    int,
    typer.Option(
        metavar="ROWS",
        parser=whole_number(1, LARGEST_PAGE_SIZE),
        help=f"Rows per response, up to {LARGEST_PAGE_SIZE}. Use fewer for huge pages.",
    ),
]
