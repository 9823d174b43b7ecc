"""The demo's pages: the docstrings of Python's standard library.

There is one page for each module, class and function with a docstring. The docstrings are parsed
from the source files. One version of Python always has the same pages in the same order.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MIN_CHARS = 120
"""Shorter docstrings are skipped."""
SKIPPED = ("test", "tests", "idlelib", "lib2to3", "turtledemo", "ensurepip", "site-packages")
Documented = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Page:
    """A page.

    Attributes:
        page_id: The dotted name of the documented object, such as `json.dumps`.
        body: The text, which begins with a heading.
    """

    page_id: str
    body: str


def stdlib_pages(limit: int | None = None) -> list[Page]:
    """Return up to `limit` pages, spread over the whole library."""
    pages = _all_pages()
    if limit is None or limit >= len(pages):
        return list(pages)
    return [pages[index * len(pages) // limit] for index in range(limit)]


@functools.cache
def _all_pages() -> tuple[Page, ...]:
    pages = {page.page_id: page for source in _sources() for page in _pages_of(source)}
    return tuple(pages.values())


def _sources() -> Iterator[tuple[str, Path]]:
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[0] in sys.stdlib_module_names and not set(parts) & set(SKIPPED):
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            if not any(part.startswith("_") for part in name.split(".")):
                yield name, path


def _pages_of(source: tuple[str, Path]) -> Iterator[Page]:
    module, path = source
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    if text := ast.get_docstring(tree):
        yield from _page(module, f"The module {module}.", "\n".join([text, "", *_contents(tree)]))
    yield from _members(module, tree)


def _contents(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, Documented) and not node.name.startswith("_"):
            text = ast.get_docstring(node) or ""
            yield f"{node.name}: {text.partition(chr(10))[0]}"


def _members(name: str, node: ast.Module | ast.ClassDef) -> Iterator[Page]:
    for member in node.body:
        if not isinstance(member, Documented) or member.name.startswith("_"):
            continue
        full = f"{name}.{member.name}"
        if text := ast.get_docstring(member):
            kind = "class" if isinstance(member, ast.ClassDef) else "function"
            yield from _page(full, f"The {kind} {full}.", text)
        if isinstance(member, ast.ClassDef):
            yield from _members(full, member)


def _page(page_id: str, heading: str, text: str) -> Iterator[Page]:
    if len(text) >= MIN_CHARS:
        yield Page(page_id, f"{heading}\n\n{inspect.cleandoc(text)}")
