"""`python -m bench.docs`: copies the tables of `bench/results/` to docs/performance.md."""

from __future__ import annotations

from pathlib import Path

from bench.machine import ROOT
from bench.report import RESULTS
from bench.scope import CORE, LONG

DOC = ROOT / "docs" / "performance.md"
PICTURES = {CORE.name: "core-slowest.svg", LONG.name: "long-scaling.svg"}


def filled(text: str, results: Path) -> str:
    """Replace the text between `<!-- NAME -->` and `<!-- /NAME -->` with the table of each result.

    Raises:
        ValueError: The text lacks these markers.
    """
    for name, picture in PICTURES.items():
        if not (table := results / f"{name}.md").exists():
            continue
        inside = [table.read_text(encoding="utf-8")]
        if (results / picture).exists():
            inside.append(f"![The same as a picture](../bench/results/{picture})\n")
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, has_begin, rest = text.partition(begin)
        _, has_end, after = rest.partition(end)
        if not (has_begin and has_end):
            raise ValueError(f"the text lacks {begin.strip()} or {end}; add both")
        text = before + "\n".join([begin, *inside, end]) + after
    return text


def main() -> None:
    """Update docs/performance.md."""
    DOC.write_text(filled(DOC.read_text(encoding="utf-8"), RESULTS), encoding="utf-8")


if __name__ == "__main__":
    main()
