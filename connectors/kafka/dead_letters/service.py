"""What the dead-letter topic is called."""

from __future__ import annotations

from connectors.core.services import Service

SERVICE = Service("dead-letters", "the dead-letter topic", stage_key="dead_letters")
