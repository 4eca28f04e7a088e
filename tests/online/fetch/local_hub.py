"""A model hub on this machine: one repository, by the routes that the hub's own client asks."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Hub(ThreadingHTTPServer):
    """files: the folder that it has. claimed: the digest it gives for the weights, where that is another than theirs.
    broken: whether downloads fail. asked: methods and paths so far."""

    daemon_threads = True

    def __init__(self, files: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.claimed, self.broken = files, "", False
        self.asked: list[str] = []

    def digest(self, name: str) -> str:
        content = (self.files / name).read_bytes()
        if name.endswith(".safetensors"):
            return self.claimed or hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        if self.path.startswith("/api/models/org/tiny/tree/"):
            self.send(json.dumps([self.entry(path.name) for path in self.server.files.iterdir()]).encode())
            return
        name = self.path.rsplit("/", 1)[1]
        if not (self.server.files / name).is_file() or (self.server.broken and self.command == "GET"):
            self.send(b"", 404)
        else:
            digest, content = self.server.digest(name), (self.server.files / name).read_bytes()
            commit = self.path.split("/")[4]
            linked = {"X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(len(content))} if len(digest) == 64 else {}
            self.send(content, 200, {"X-Repo-Commit": commit, "ETag": f'"{digest}"', **linked})

    def entry(self, name: str) -> dict:
        digest, size = self.server.digest(name), (self.server.files / name).stat().st_size
        told = {"type": "file", "path": name, "size": size, "oid": digest[:40]}
        return told | ({"lfs": {"oid": digest, "size": size, "pointerSize": 130}} if len(digest) == 64 else {})

    def send(self, content: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(files: Path) -> Iterator[Hub]:
    """The hub, until the block ends."""
    hub = Hub(files)
    thread = threading.Thread(target=hub.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()
