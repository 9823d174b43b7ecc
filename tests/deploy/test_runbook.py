"""Whatever the program says that a person must act on stands in docs/runbook.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs/runbook.md").read_text()
SAYING = {"ConfigurationError", "ErrorMessage", "ErrorRule", "warning", "error"}
"""Calls whose first argument is read by a person: faults of the set-up, and lines of the log."""


def text_of(node: ast.AST) -> str:
    """A text as it stands in the source, with an ellipsis for what is put in while it runs."""
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
    """Each message, with where it stands."""
    files = [f for room in ("connectors", "dataflow") for f in sorted((ROOT / room).rglob("*.py"))]
    for path in [
        *files,
        ROOT / "gibsey_embedder/status/server.py",
        ROOT / "gibsey_embedder/run/recovery_store.py",
    ]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if name in SAYING and (text := message_of(name, node)).strip("…"):
                    yield f"{path.name}:{node.lineno}", text


def phrases() -> list[str]:
    """What the tables "it says" have in their first column: parts of messages."""
    found = []
    for table in re.findall(r"^\| it says \|.*?\n\|[-|]+\n((?:\|.*\n)+)", RUNBOOK, re.M):
        for row in table.splitlines():
            found += [part.strip(" `") for part in row.split("|")[1].split(";")]
    return found


@pytest.mark.parametrize(("where", "text"), [pytest.param(*m, id=m[0]) for m in messages()])
def test_every_message_has_an_entry(where: str, text: str):
    known = [re.escape(phrase).replace("…", ".*") for phrase in phrases()]
    assert any(re.search(phrase, text) for phrase in known), text


def test_every_entry_is_said_somewhere():
    sources = "\n".join(
        text_of(node)
        for room in ("connectors", "dataflow", "gibsey_embedder")
        for path in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
    )
    unsaid = [
        phrase
        for phrase in phrases()
        if not re.search(re.escape(phrase).replace("…", ".*"), sources)
    ]
    assert unsaid == []
