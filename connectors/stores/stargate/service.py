"""The name of Stargate, and the reason of the dead letters that it causes."""

from __future__ import annotations

from connectors.core.services import Service

REJECTED = "refused-by-stargate"

SERVICE = Service("stargate", "Stargate", reasons=(REJECTED,), counter="upserts")
