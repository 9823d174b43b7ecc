"""The purpose of LONG_PAGES=mean, with real text: a search finds the end of a long page."""

from __future__ import annotations

import ast
import importlib
import inspect
import math
from concurrent.futures import Future

import orjson

from connectors.embedders.batching.batch_queue import WindowLimits
from connectors.embedders.batching.batcher import Batcher
from connectors.embedders.batching.jobs import EmbeddingJob
from connectors.embedders.cache import VectorCache
from connectors.embedders.endpoint_pool import EndpointPool
from connectors.embedders.ollama.client import OllamaClient
from connectors.embedders.text_rules import LongPages, TextRules
from connectors.http.client import HttpClient
from connectors.observability.metrics import Metrics
from connectors.observability.stalls import Stalls
from connectors.runtime.event_loop import EventLoop
from gibsey_embedder.fakes.ngrams import embed_text
from gibsey_embedder.fakes.ollama import Ollama

MODULES = (
    "argparse", "asyncio.events", "calendar", "cmd", "codecs", "configparser", "contextlib",
    "csv", "datetime", "decimal", "difflib", "dis", "email.message", "fractions", "ftplib",
    "gettext", "heapq", "http.cookies", "imaplib", "inspect", "ipaddress", "json", "locale",
    "logging", "mailbox", "optparse", "pathlib", "pickle", "random", "sched", "shelve",
    "smtplib", "socket", "statistics", "string", "subprocess", "tarfile", "textwrap",
    "threading", "traceback", "turtle", "typing", "unittest.mock", "uuid", "zipfile",
)  # fmt: skip
CHAPTERS = 3
CHAPTER_CHARS = 5_000
"""Three chapters are longer than the context of 2,048 tokens."""


def _long_pages() -> list[str]:
    """Return handbooks of several chapters, each the docstrings of another module."""
    chapters = [text for text in map(_chapter, MODULES) if len(text) >= CHAPTER_CHARS]
    starts = range(0, len(chapters) - CHAPTERS + 1, CHAPTERS)
    return ["\n\n".join(c[:CHAPTER_CHARS] for c in chapters[n : n + CHAPTERS]) for n in starts]


def _chapter(module: str) -> str:
    tree = ast.parse(inspect.getsource(importlib.import_module(module)))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    found = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds))
    return "\n\n".join(text for text in found if text)


def _last_third_paragraph(page: str) -> str:
    """Return the longest paragraph of a page's last third."""
    paragraphs = page[2 * len(page) // 3 :].split("\n\n")[1:]
    return max(paragraphs, key=len)


def _vectors(url: str, pages: list[str], long_pages: LongPages) -> list[list[float]]:
    metrics, failed = Metrics(), list[BaseException]()
    event_loop, http = EventLoop(failed.append), HttpClient()
    batcher = Batcher(
        EndpointPool(
            [OllamaClient(http, url, "nomic-embed-text", 768)],
            TextRules("nomic-embed-text", long_pages=long_pages),
            cache=VectorCache(0, metrics),
        ),
        limits=WindowLimits(),
        event_loop=event_loop,
        stalls=Stalls(metrics),
        metrics=metrics,
    )
    waits: list[Future[EmbeddingJob[None]]] = [Future() for _ in pages]
    batcher.submit(
        [EmbeddingJob(page, wait.set_result, None) for page, wait in zip(pages, waits, strict=True)]
    )
    done = [wait.result(60) for wait in waits]
    event_loop.submit(http.close()).result(10)
    event_loop.close()
    assert not failed
    return [orjson.loads(job.vector or b"[]") for job in done]


def _found(query: str, vectors: list[list[float]]) -> int:
    """Return the number of the page that is nearest to a text."""
    wanted = embed_text(query)
    nearness = [math.fsum(map(float.__mul__, wanted, map(float, v))) for v in vectors]
    return nearness.index(max(nearness))


def test_the_last_third_of_a_long_page_is_found_with_mean_and_not_with_truncate() -> None:
    pages = _long_pages()
    assert len(pages) >= 6
    queries = [_last_third_paragraph(page) for page in pages]
    with Ollama() as ollama:
        found = {
            way: sum(_found(query, vectors) == number for number, query in enumerate(queries))
            for way in ("mean", "truncate")
            for vectors in [_vectors(ollama.url, pages, way)]
        }
    assert found["mean"] >= 0.8 * len(pages)
    assert found["truncate"] <= 0.5 * len(pages)
