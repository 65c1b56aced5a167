"""A server of model files on the cluster's bridge: it counts requests, and sends only so fast."""

import hashlib
import io
import re
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic, sleep
from typing import Any

from e2e.cluster.settings import ADDRESS

_CHUNK = 1 << 18
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


def archive(files: Mapping[str, bytes]) -> bytes:
    """Return a tar archive of files, the same bytes each time."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


@dataclass
class ModelServer:
    """Files by name, and the requests for them so far. ``bytes_per_second`` of all together."""

    files: dict[str, bytes]
    bytes_per_second: float | None = None
    asked: list[str] = field(default_factory=list)
    """Method and name of each request."""
    port: int = 0
    _digests: dict[str, str] = field(default_factory=dict)
    _free_at: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def uri(self, name: str) -> str:
        """Return where pods find a file."""
        return f"http://{ADDRESS}:{self.port}/{name}"

    def sha256(self, name: str) -> str:
        """Return the digest of a file."""
        if name not in self._digests:
            self._digests[name] = hashlib.sha256(self.files[name]).hexdigest()
        return self._digests[name]

    def await_turn(self, size: int) -> None:
        """Return when so many bytes may be sent."""
        if self.bytes_per_second is None:
            return
        with self._lock:
            begin = max(self._free_at, monotonic())
            self._free_at = begin + size / self.bytes_per_second
            until = self._free_at
        sleep(max(0.0, until - monotonic()))


@contextmanager
def serving(files: dict[str, bytes], **fields: Any) -> Iterator[ModelServer]:
    """Serve files while the body runs."""
    told = ModelServer(files, **fields)

    class Handler(_Handler):
        model_server = told

    with ThreadingHTTPServer((ADDRESS, 0), Handler) as server:
        told.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield told
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model_server: ModelServer

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def handle_one_request(self) -> None:
        """Bear clients that leave."""
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def _answer(self, *, with_body: bool) -> None:
        name = self.path.lstrip("/")
        self.model_server.asked.append(f"{self.command} {name}")
        content = self.model_server.files.get(name)
        if content is None:
            self.send_error(404)
            return
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        first = int(asked[1]) if asked else 0
        last = int(asked[2]) if asked and asked[2] else len(content) - 1
        part = memoryview(content)[first : last + 1]
        self.send_response(206 if asked else 200)
        self.send_header("ETag", f'"{self.model_server.sha256(name)[:32]}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.end_headers()
        for begin in range(0, len(part) if with_body else 0, _CHUNK):
            chunk = part[begin : begin + _CHUNK]
            self.model_server.await_turn(len(chunk))
            self.wfile.write(chunk)
