"""`.env.example` and README's table, written from the settings themselves.

`python -m dataflow.config.documentation` writes the one, with `table` behind it the other.
"""

from __future__ import annotations

import sys
import textwrap

from dataflow.config.settings import SECRETS, Settings

WIDTH = 96

HEAD = """\
# Every setting, with its default. Copy this file to .env in the directory that the program is
# started in, take the # away where you want another value. Variables of the environment win.
# Quote values with spaces at an edge ("search_document: ") and passwords with $ or # ('pa$$#1').
# For `docker run --env-file` write no quotes: it takes all behind the = as it stands.
# Written by `python -m dataflow.config.documentation`.
"""

SECTIONS = {
    "KAFKA_BROKER": "Kafka: where the changes come from",
    "EMBED_PROVIDER": "Embedder: what turns pages into vectors",
    "WINDOW_PAGES": "Windows: how many pages share a request to the embedder",
    "STARGATE_URL": "Stargate: where the vectors are stored",
    "RAG_REFRESH_URL": "RAG service: who is told",
    "ON_DELETE": "Running",
}
"""The headings, by the setting that each stands above."""


def example() -> str:
    """Return the text of `.env.example`."""
    return HEAD + "".join(_entry(name) for name in Settings.names())


def table() -> str:
    """Return README's table of all settings, in Markdown."""
    rows = "".join(_row(name) for name in Settings.names())
    return f"| variable | default | meaning |\n|---|---|---|\n{rows}"


def _row(name: str) -> str:
    sentence = (Settings.model_fields[name.lower()].description or "").replace("|", "\\|")
    default = default_of(name)
    return f"| `{name}` | {f'`{default}`' if default else ''} | {' '.join(sentence.split())} |\n"


def default_of(name: str) -> str:
    """Return a setting's default as one would write it; empty where there is none."""
    default = Settings.model_fields[name.lower()].default
    if name in ("DEAD_LETTER_TOPIC", "STARGATE_GRAPHQL_URL", "KAFKA_OPTIONS") or default is None:
        return ""
    return f"{default:g}" if isinstance(default, float) else str(default)


def _entry(name: str) -> str:
    heading = f"\n# --- {SECTIONS[name]} ---\n" if name in SECTIONS else ""
    sentence = Settings.model_fields[name.lower()].description or ""
    comment = "\n".join(f"# {line}" for line in textwrap.wrap(sentence, WIDTH - 2))
    file_line = f"#{name}_FILE=\n" if name.lower() in SECRETS else ""
    return f"{heading}\n{comment}\n#{name}={default_of(name)}\n{file_line}"


if __name__ == "__main__":
    sys.stdout.write(table() if sys.argv[1:] == ["table"] else example())
