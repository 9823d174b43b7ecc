"""Compares this machine's clock with the Date headers of the HTTP services."""

from __future__ import annotations

import asyncio
import email.utils
import time
from collections.abc import Mapping

from connectors.core.errors import ServiceError
from connectors.core.findings import Finding, bad, good, warning
from connectors.http.address import address_of
from connectors.http.client import HttpClient

TIMEOUT_S = 4.0
SKEW_S = 3.0
"""Smaller differences are not reported: a Date has whole seconds, and a response takes time."""
LARGE_SKEW_S = 60.0

CHECK = "clock"
_REMEDY = "synchronise both clocks (NTP)"


async def check_clocks(http: HttpClient, urls: Mapping[str, str]) -> list[Finding]:
    """Compare this machine's clock with the clock of each service.

    Args:
        http: The HTTP client.
        urls: A URL of each service by name; the request goes to its root path.
    """
    skews = await asyncio.gather(*(_skew_s(http, url) for url in urls.values()))
    known = {name: skew for name, skew in zip(urls, skews, strict=True) if skew is not None}
    if not known:
        return []
    findings = [_skew_finding(name, skew) for name, skew in known.items() if abs(skew) > SKEW_S]
    names = ", ".join(known)
    return findings or [good(CHECK, f"differs by less than {SKEW_S:.0f} s from {names}")]


def _skew_finding(name: str, skew_s: float) -> Finding:
    direction = "ahead of" if skew_s > 0 else "behind"
    found = f"{name}'s clock is {abs(skew_s):,.0f} s {direction} ours, so freshness is wrong"
    if abs(skew_s) < LARGE_SKEW_S:
        return warning(CHECK, found, _REMEDY)
    return bad(CHECK, f"{found}, and tokens and certificates may count as expired", _REMEDY)


async def _skew_s(http: HttpClient, url: str) -> float | None:
    began = time.time()
    try:
        response = await http.exchange("GET", f"{address_of(url)}/", timeout_s=TIMEOUT_S)
    except ServiceError:
        return None  # the service's own check reports this
    ours = (began + time.time()) / 2
    try:
        theirs = email.utils.parsedate_to_datetime(response.headers.get("Date", ""))
    except ValueError:
        return None
    return theirs.timestamp() + 0.5 - ours  # a Date is half a second too early on average
