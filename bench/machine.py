"""The machine on which a result was measured."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

LIBRARIES = ("bytewax", "confluent-kafka", "aiohttp", "uvloop", "orjson")
CORES = os.cpu_count() or 1
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
ROOT = Path(__file__).parent.parent


def facts() -> dict[str, str]:
    """Return processor, cores, memory, versions and load of the machine."""
    return {
        "measured": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "program": f"{version('gibsey-embedder')} at {_commit()}",
        "processor": _processor(),
        "cores": str(CORES),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') >> 30} GB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "libraries": ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
        "load at the start": load(),
    }


def load() -> str:
    """Return the load average of the last minute."""
    return f"{os.getloadavg()[0]:.1f}"


def cpu_s() -> float:
    """Return the CPU seconds of all cores since the machine started."""
    line = Path("/proc/stat").read_text(encoding="utf-8").partition("\n")[0]
    user, nice, system, _, _, irq, softirq = map(int, line.split()[1:8])
    return (user + nice + system + irq + softirq) / TICKS_PER_S


def foreign_cpu_s() -> float:
    """Return the CPU seconds of all cores without this process and its ended children."""
    return cpu_s() - sum(os.times()[:4])


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        return subprocess.check_output(command, cwd=ROOT, text=True).strip()
    except (OSError, subprocess.CalledProcessError):
        return "no commit"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
