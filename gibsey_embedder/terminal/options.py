"""The options that several commands take, and how the numbers in options are read."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

import typer

MAX_LAG = 1000
PAGE_SIZE = 100
LARGEST_PAGE_SIZE = 1000
SKEW_S = 10.0


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return what reads a whole number of an option, and says in one sentence what is wrong.

    Args:
        least: The smallest that is taken.
        most: The largest; None: there is none.
    """

    def read(given: str) -> int:
        try:
            number = int(given)
        except ValueError:
            raise typer.BadParameter(f"{given} is no whole number") from None
        _see_range(number, least, most)
        return number

    return read


def seconds(given: str) -> float:
    """Read a time of an option: a finite number that is not negative."""
    try:
        number = float(given)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise typer.BadParameter(f"{given} is no number of seconds")
    _see_range(number, 0, None)
    return number


def _see_range(number: float, least: int, most: int | None) -> None:
    if number < least:
        raise typer.BadParameter(f"{number} is too small; it must be {least} or more")
    if most is not None and number > most:
        raise typer.BadParameter(f"{number} is too large; it must be {most} or less")


AsJson = Annotated[bool, typer.Option("--json", help="One JSON object.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
MaxLag = Annotated[
    int,
    typer.Option(
        metavar="RECORDS",
        parser=whole_number(0),
        help="Send no more while the stream is so far behind; 0: do not ask.",
    ),
]
StatusUrls = Annotated[
    list[str] | None,
    typer.Option(
        "--status-url",
        metavar="URL",
        help="Ask this status port for the lag, not Kafka; of a cluster, one for each process.",
    ),
]
Skew = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        parser=seconds,
        help="By how much writers' clocks may differ from this one.",
    ),
]
PageSize = Annotated[
    int,
    typer.Option(
        metavar="ROWS",
        parser=whole_number(1, LARGEST_PAGE_SIZE),
        help=f"In one answer of Stargate, at most {LARGEST_PAGE_SIZE}; fewer if pages are huge.",
    ),
]
