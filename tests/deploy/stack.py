"""compose.yaml as `docker compose` reads it: the dependencies and the variables of each service."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
_VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")


class Stack:
    """The services of a compose file.

    Args:
        text: The file, or the output of `docker compose config`.

    Attributes:
        services: Each service's definition, by name.
        volumes: The names of the volumes.
    """

    def __init__(self, text: str) -> None:
        loaded = yaml.safe_load(text)
        self.services: dict[str, dict[str, Any]] = loaded["services"]
        self.volumes = set(loaded["volumes"])

    def needs(self, name: str) -> dict[str, str]:
        """The direct dependencies of a service: the condition to wait for, by name."""
        waits = self.services[name].get("depends_on", {})
        return {needed: wait["condition"] for needed, wait in waits.items()}

    def brought_up(self, *names: str) -> set[str]:
        """The services that `docker compose up -d NAMES` starts."""
        started: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in started:
                started.add(name)
                waiting += self.needs(name)
        return started

    def fixed(self, name: str) -> set[str]:
        """Variables of a service that neither `.env` nor the environment can change."""
        variables = self.services[name]["environment"]
        return {key for key, value in variables.items() if not _VARIABLE.search(str(value))}

    def environment(self, name: str, dotenv: Mapping[str, str] | None = None) -> dict[str, str]:
        """The variables of a service's container, with a `.env` beside the compose file.

        Args:
            name: The service.
            dotenv: The content of `.env`; None if there is no such file.
        """
        service = self.services[name]
        values = dict(dotenv or {})
        files = [entry["path"] for entry in service.get("env_file", ())]
        base = values if ".env" in files else {}
        own = {key: _filled(str(value), values) for key, value in service["environment"].items()}
        return {**base, **own}


def _filled(value: str, variables: Mapping[str, str]) -> str:
    """The value with its variables replaced. The file uses only the form `${NAME:-default}`."""
    return _VARIABLE.sub(lambda match: variables.get(match[1]) or match[2], value)


STACK = Stack((ROOT / "compose.yaml").read_text())
EXAMPLE = (ROOT / ".env.example").read_text()


def example_settings(text: str = EXAMPLE) -> dict[str, str]:
    """Every setting in `.env.example`, with its default."""
    return dict(re.findall(r"(?m)^#([A-Z][A-Z0-9_]*)=(.*)$", text))
