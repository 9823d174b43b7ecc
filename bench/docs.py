"""`python -m bench.docs`: the newest tables of `bench/results/` into docs/performance.md."""

from __future__ import annotations

from pathlib import Path

from bench.machine import ROOT
from bench.report import RESULTS
from bench.scope import CORE, LONG

DOC = ROOT / "docs" / "performance.md"
PICTURES = {CORE.name: "core-slowest.svg", LONG.name: "long-scaling.svg"}


def filled(text: str, results: Path) -> str:
    """The text with each `<!-- NAME -->…<!-- /NAME -->` filled from that result, if it is there.

    Raises:
        ValueError: The text has no such place.
    """
    for name, picture in PICTURES.items():
        if not (table := results / f"{name}.md").exists():
            continue
        inside = [table.read_text(encoding="utf-8")]
        if (results / picture).exists():
            inside.append(f"![The same as a picture](../bench/results/{picture})\n")
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, found, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        if not (found and ended):
            raise ValueError(f"there is no place {begin.strip()} in the text")
        text = before + "\n".join([begin, *inside, end]) + after
    return text


def main() -> None:
    """Write the file anew."""
    DOC.write_text(filled(DOC.read_text(encoding="utf-8"), RESULTS), encoding="utf-8")


if __name__ == "__main__":
    main()
