"""HTTP servers for downloads: files with ranges, a relay before a real server, and their faults.

with Shelf({"/m.onnx": b"..."}) as shelf:
shelf.befall(Fault(cut=1000))       # the next answer breaks off after 1,000 bytes
...
assert shelf.sent == 2000           # bytes of bodies
"""

import base64
import hashlib
import http.client
import re
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""

    def header(self, name: str) -> str:
        """Return a header's value, empty where there is none."""
        return next((v for k, v in self.headers.items() if k.lower() == name.lower()), "")


@dataclass(frozen=True)
class Reply:
    """An answer; ``length`` stands in for the body's in answers to HEAD."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None


@dataclass(frozen=True)
class Fault:
    """What goes wrong with answers to a method and to paths that hold ``match``, ``times`` times."""

    match: str = ""
    method: str = ""
    times: int = 1
    cut: int | None = None
    """The connection is cut after so many bytes of the body."""
    status: int | None = None
    """Answered instead."""
    headers: Mapping[str, str] = field(default_factory=dict)
    without_ranges: bool = False
    """The server knows no ranges: it sends the whole file."""
    flipped: bool = False
    """One byte of the body is another one."""


class Server:
    """A server on a free port of ``host``; what it answers is a subclass's ``answer``.

    ``secured`` are the PEM files of a certificate and its key.
    """

    def __init__(
        self, host: str = "127.0.0.1", port: int = 0, *, secured: tuple[Path, Path] | None = None
    ) -> None:
        self.asked: list[Asked] = []
        self.sent = 0
        self._sent: list[tuple[str, int]] = []
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer((host, port), _handler_of(self))
        self._http.daemon_threads = True
        self._scheme = "https" if secured else "http"
        if secured:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*secured)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )

    def answer(self, asked: Asked) -> Reply:
        """Return what is answered where nothing goes wrong."""
        raise NotImplementedError

    @property
    def address(self) -> str:
        """Its host and port."""
        host, port = self._http.server_address[:2]
        return f"{host!s}:{port}"

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{self._scheme}://{self.address}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def befall(self, *faults: Fault) -> None:
        """Let faults befall the answers to come, in this order."""
        with self._lock:
            self._faults += faults

    def forget(self) -> None:
        """Forget faults, requests and counts."""
        with self._lock:
            self._faults.clear()
            self.asked.clear()
            self.sent = 0
            self._sent.clear()

    def serve(self, asked: Asked) -> tuple[Reply, Fault]:
        """Return the answer to a request, and what befalls it."""
        with self._lock:
            self.asked.append(asked)
            fault = self._next(asked)
        if fault.status is not None:
            return Reply(fault.status, b"made up", fault.headers), fault
        if fault.without_ranges:
            kept = {
                k: v for k, v in asked.headers.items() if k.lower() not in ("range", "if-range")
            }
            asked = replace(asked, headers=kept)
        reply = self.answer(asked)
        if fault.flipped and reply.body:
            reply = replace(reply, body=bytes([reply.body[0] ^ 1]) + reply.body[1:])
        return reply, fault

    def count(self, asked: Asked, size: int, fault: Fault) -> None:
        """Count bytes that were sent, those of made-up refusals left out."""
        with self._lock:
            size = 0 if fault.status else size
            self.sent += size
            self._sent.append((asked.path, size))

    def sent_of(self, match: str) -> int:
        """Return how many bytes of paths that hold ``match`` were sent."""
        with self._lock:
            return sum(size for path, size in self._sent if match in path)

    def _next(self, asked: Asked) -> Fault:
        for i, fault in enumerate(self._faults):
            if fault.match in asked.path and fault.method in ("", asked.method):
                left = replace(fault, times=fault.times - 1)
                self._faults[i : i + 1] = [left] if left.times else []
                return fault
        return Fault()


class Shelf(Server):
    """Files by path, with ranges, ETags, and a header that must come where ``secret`` is set."""

    def __init__(
        self,
        files: Mapping[str, bytes] | None = None,
        *,
        secret: str = "",
        secured: tuple[Path, Path] | None = None,
    ) -> None:
        super().__init__(secured=secured)
        self.files = dict(files or {})
        self.secret = secret

    def answer(self, asked: Asked) -> Reply:
        """Answer with a file or a part of it."""
        if self.secret and asked.header("Authorization") != self.secret:
            return Reply(401, b"who are you?")
        body = self.files.get(urlsplit(asked.path).path)
        return Reply(404, b"no such file") if body is None else ranged(asked, body)


class Relay(Server):
    """Hands everything on to another server, the Host header included, which signatures cover."""

    def __init__(self, upstream: str, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(host, port)
        self.upstream = urlsplit(upstream)

    def answer(self, asked: Asked) -> Reply:
        """Answer what the other server answers."""
        return self.handed_on(asked)

    def handed_on(self, asked: Asked) -> Reply:
        """Return what the other server answers."""
        connection = http.client.HTTPConnection(str(self.upstream.netloc), timeout=30)
        try:
            headers = {k: v for k, v in asked.headers.items() if k.lower() != "connection"}
            connection.request(asked.method, asked.path, asked.body or None, headers)
            answer = connection.getresponse()
            body = answer.read()
            dropped = ("content-length", "transfer-encoding", "connection")
            kept = {k: v for k, v in answer.getheaders() if k.lower() not in dropped}
            length = answer.getheader("Content-Length") if asked.method == "HEAD" else None
            return Reply(answer.status, body, kept, int(length) if length else None)
        finally:
            connection.close()


def ranged(asked: Asked, body: bytes, etag: str | None = None) -> Reply:
    """Return a body, or the part of it that was asked for, with a strong ETag."""
    tag = f'"{etag or hashlib.sha256(body).hexdigest()[:16]}"'
    headers = {"ETag": tag, "Accept-Ranges": "bytes"}
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.header("Range"))
    if not wanted or asked.header("If-Range") not in ("", tag):
        return Reply(200, body, headers)
    begin, end = int(wanted[1]), min(int(wanted[2] or len(body)), len(body) - 1)
    if begin >= len(body):
        return Reply(416, b"", {**headers, "Content-Range": f"bytes */{len(body)}"})
    part = {"Content-Range": f"bytes {begin}-{end}/{len(body)}"}
    return Reply(206, body[begin : end + 1], {**headers, **part})


def basic(user: str, password: str) -> str:
    """Return the Authorization header of a user."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _handler_of(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            asked = Asked(
                self.command,
                self.path,
                dict(self.headers),
                self.rfile.read(length) if length else b"",
            )
            reply, fault = server.serve(asked)
            _send(self, reply, fault, lambda size: server.count(asked, size, fault))

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = _serve  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Keep the tests' output clean."""

        def handle_one_request(self) -> None:
            """Bear clients that leave."""
            try:
                super().handle_one_request()
            except ConnectionError:
                self.close_connection = True

    return Handler


def _send(
    handler: BaseHTTPRequestHandler, reply: Reply, fault: Fault, count: Callable[[int], None]
) -> None:
    body = b"" if handler.command == "HEAD" else reply.body[: fault.cut]
    # First, so that who has got it all finds it counted.
    count(len(body))
    # Not send_response, whose Server and Date would stand beside those that are relayed.
    handler.send_response_only(reply.status)
    for name, value in reply.headers.items():
        handler.send_header(name, value)
    length = len(reply.body) if reply.length is None else reply.length
    if reply.status != 304:
        handler.send_header("Content-Length", str(length))
    handler.end_headers()
    if handler.command == "HEAD":
        return
    handler.wfile.write(body)
    handler.wfile.flush()
    if fault.cut is not None:
        handler.close_connection = True
