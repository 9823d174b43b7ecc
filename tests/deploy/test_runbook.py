"""docs/runbook.md has an entry for every message that a person must act on."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs/runbook.md").read_text()
ERRORS = {"ConfigurationError", "ErrorMessage", "ErrorRule"}
LOG_METHODS = {"warning", "error"}
"""Calls that carry a message for a person: configuration errors and log lines."""


def text_of(node: ast.AST) -> str:
    """The text of a string in the source, with an ellipsis for each inserted value."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) or "…" for part in node.values)
    return ""


def message_of(name: str, call: ast.Call) -> str:
    """The text that a person reads: the argument `reason` of a rule, else the first argument."""
    if name == "ErrorRule":
        return next(text_of(k.value) for k in call.keywords if k.arg == "reason")
    return text_of(call.args[0]) if call.args else ""


def messages() -> Iterator[tuple[str, str]]:
    """Each message, with its file and line."""
    folders = ("connectors", "dataflow")
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    for path in [
        *files,
        ROOT / "gibsey_embedder/status/server.py",
        ROOT / "gibsey_embedder/run/recovery_store.py",
    ]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                is_method = isinstance(node.func, ast.Attribute)
                if name in ERRORS | (LOG_METHODS if is_method else set()) and (
                    text := message_of(name, node)
                ).strip("…"):
                    yield f"{path.name}:{node.lineno}", text


def phrases() -> list[str]:
    """The entries in the first column of the message tables: parts of messages."""
    found = []
    for table in re.findall(r"^\| message \|.*?\n\|[-|]+\n((?:\|.*\n)+)", RUNBOOK, re.M):
        for row in table.splitlines():
            found += [part.strip(" `") for part in row.split("|")[1].split(";")]
    return found


@pytest.mark.parametrize(("where", "text"), [pytest.param(*m, id=m[0]) for m in messages()])
def test_every_message_has_an_entry(where: str, text: str):
    known = [re.escape(phrase).replace("…", ".*") for phrase in phrases()]
    assert any(re.search(phrase, text) for phrase in known), text


def test_every_entry_occurs_in_the_sources():
    sources = "\n".join(
        text_of(node)
        for folder in ("connectors", "dataflow", "gibsey_embedder")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
    )
    obsolete = [
        phrase
        for phrase in phrases()
        if not re.search(re.escape(phrase).replace("…", ".*"), sources)
    ]
    assert obsolete == []
