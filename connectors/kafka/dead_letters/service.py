"""The name of the dead-letter topic."""

from __future__ import annotations

from connectors.core.services import Service

SERVICE = Service("dead-letters", "the dead-letter topic", stage_key="dead_letters")
