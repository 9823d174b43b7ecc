"""This machine's clock against those of the HTTP services, by their Date headers."""

from __future__ import annotations

import asyncio
import email.utils
import time
from collections.abc import Mapping

from connectors.core.errors import ServiceError
from connectors.http.address import address_of
from connectors.http.client import HttpClient
from gibsey_embedder.doctor.findings import Finding, bad, good, warning

ASK_S = 4.0
SKEW_S = 3.0
"""A Date has whole seconds, and the answer takes a while."""
FAR_S = 60.0

CHECK = "clock"
_REMEDY = "synchronise both clocks (NTP)"


async def check_clocks(http: HttpClient, urls: Mapping[str, str]) -> list[Finding]:
    """Compare with every service that tells the time; the broker tells it to nobody who only asks.

    Args:
        http: The HTTP client.
        urls: The services' addresses, by name; only their root is asked.
    """
    skews = await asyncio.gather(*(_skew_s(http, url) for url in urls.values()))
    known = {name: skew for name, skew in zip(urls, skews, strict=True) if skew is not None}
    if not known:
        return []
    findings = [judge(name, skew) for name, skew in known.items() if abs(skew) > SKEW_S]
    return findings or [good(CHECK, f"the same within {SKEW_S:.0f} s as at {', '.join(known)}")]


def judge(name: str, skew_s: float) -> Finding:
    """Judge a difference that is too large; above 0: the service's clock is ahead."""
    side = "ahead of" if skew_s > 0 else "behind"
    found = f"{name}'s clock is {abs(skew_s):,.0f} s {side} ours: freshness is measured wrong"
    if abs(skew_s) < FAR_S:
        return warning(CHECK, found, _REMEDY)
    return bad(CHECK, f"{found}, and tokens and certificates may count as expired", _REMEDY)


async def _skew_s(http: HttpClient, url: str) -> float | None:
    began = time.time()
    try:
        answer = await http.exchange("GET", f"{address_of(url)}/", timeout_s=ASK_S)
    except ServiceError:
        return None  # that service's own check says so
    ours = (began + time.time()) / 2
    try:
        theirs = email.utils.parsedate_to_datetime(answer.headers.get("Date", ""))
    except ValueError:
        return None
    return theirs.timestamp() + 0.5 - ours  # cut to whole seconds, so half a second on average
