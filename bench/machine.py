"""What a result was measured on."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

LIBRARIES = ("bytewax", "confluent-kafka", "aiohttp", "uvloop", "orjson")


def facts() -> dict[str, str]:
    """Processor, cores, memory, versions, and how busy the machine was at the time."""
    return {
        "measured": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "program": version("gibsey-embedder"),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') >> 30} GB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "libraries": ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
    }


def load() -> str:
    """How many tasks wanted a core, on average of the last minute."""
    return f"{os.getloadavg()[0]:.1f}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
