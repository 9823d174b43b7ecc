"""The files of the status page, read once; the port serves no other file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    content_type: str
    etag: str


class StaticFiles:
    """Serves the files by path: `/` is `index.html`, the others are below `/static/`."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}
        self._read(Path(__file__).with_name("static"), "/static/")
        self._files["/"] = self._files.pop("/static/index.html")

    @property
    def paths(self) -> list[str]:
        """All paths."""
        return list(self._files)

    def _read(self, folder: Path, prefix: str) -> None:
        for entry in folder.iterdir():
            if entry.is_dir():
                self._read(entry, f"{prefix}{entry.name}/")
                continue
            content_type = _TYPES.get(entry.suffix)
            if content_type is not None:
                body = entry.read_bytes()
                etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
                self._files[prefix + entry.name] = _File(body, content_type, etag)

    async def serve(self, request: web.Request) -> web.Response:
        """Serve the file of the request's path, or 304 if the browser has it already."""
        file = self._files[request.path]
        headers = {"ETag": file.etag, "Cache-Control": "no-cache"}
        if request.headers.get("If-None-Match") == file.etag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=file.body, headers={**headers, "Content-Type": file.content_type})
