"""Downloads from a real server on loopback that breaks off, refuses and moves."""

import base64
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from conch.clients import downloads
from conch.clients.downloads import download
from conch.clients.source_errors import SourceUnavailableError
from conch.clients.sources import Request, fetch

BODY = bytes(range(256)) * 40
Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Server:
    """Answers one request after another as told; the last answer is for all that follow."""

    answers: list[Answer] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    def next(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append(dict(handler.headers))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        answer(handler)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(downloads, "_CHUNK", 100)  # what breaks off within a chunk is lost
    told = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.next(self)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        told.url = f"http://127.0.0.1:{http.server_port}"
        yield told
        http.shutdown()
        thread.join()


def sent(
    body: bytes = BODY, *, status: int = 200, upto: int | None = None, **headers: str
) -> Answer:
    """Answer with a body, cut off after ``upto`` bytes."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body[:upto])
        handler.wfile.flush()

    return answer


def _rest(begin: int, *, said: int | None = None) -> Answer:
    return sent(
        BODY[begin:],
        status=206,
        Content_Range=f"bytes {begin if said is None else said}-{len(BODY) - 1}/{len(BODY)}",
        ETag='"v1"',
    )


def _fetched(server: Server, tmp_path: Path, **fields: object) -> tuple[bytes, list[float]]:
    pauses: list[float] = []
    target = tmp_path / "file"
    download(f"{server.url}/m.onnx", target, pause=pauses.append, **fields)  # type: ignore[arg-type]
    return target.read_bytes(), pauses


def test_a_file_arrives(server: Server, tmp_path: Path) -> None:
    server.answers = [sent()]
    assert _fetched(server, tmp_path) == (BODY, [])


def test_a_download_that_broke_off_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    server.answers = [sent(upto=1000, ETag='"v1"'), _rest(1000)]
    body, pauses = _fetched(server, tmp_path)
    assert body == BODY
    assert pauses == [1]
    assert server.asked[1]["Range"] == "bytes=1000-"
    assert server.asked[1]["If-Range"] == '"v1"'


def test_a_file_that_changed_meanwhile_is_fetched_anew(server: Server, tmp_path: Path) -> None:
    server.answers = [sent(b"old" * 100, upto=50, ETag='"v0"'), sent(ETag='"v1"')]
    assert _fetched(server, tmp_path)[0] == BODY


@pytest.mark.parametrize("etag", [None, 'W/"v1"'])
def test_without_a_version_nothing_is_pieced_together(
    server: Server, tmp_path: Path, etag: str | None
) -> None:
    headers: dict[str, Any] = {"ETag": etag} if etag else {}
    server.answers = [sent(upto=1000, **headers), sent()]
    assert _fetched(server, tmp_path)[0] == BODY
    assert "Range" not in server.asked[1]


def test_another_part_than_asked_for_is_not_taken(server: Server, tmp_path: Path) -> None:
    server.answers = [sent(upto=1000, ETag='"v1"'), _rest(2000), sent()]
    assert _fetched(server, tmp_path)[0] == BODY


def test_a_server_in_trouble_is_asked_again_ever_more_seldom(
    server: Server, tmp_path: Path
) -> None:
    server.answers = [sent(b"", status=s) for s in (503, 429, 500)] + [sent()]
    assert _fetched(server, tmp_path) == (BODY, [1, 2, 4])


def test_attempts_are_bounded(server: Server, tmp_path: Path) -> None:
    server.answers = [sent(b"", status=503)]
    with pytest.raises(SourceUnavailableError, match=r"answered 503 .* \(3 attempts\)"):
        _fetched(server, tmp_path, attempts=3)
    assert len(server.asked) == 3


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_final(server: Server, tmp_path: Path, status: int) -> None:
    server.answers = [sent(b"", status=status)]
    with pytest.raises(SourceUnavailableError, match=f"m.onnx: the server answered {status} "):
        _fetched(server, tmp_path)
    assert len(server.asked) == 1


def test_no_server_is_told_in_few_words(server: Server, tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError) as caught:
        download("http://127.0.0.1:1/m", tmp_path / "m", attempts=2, pause=lambda _: None)
    assert "Connection refused (2 attempts)" in str(caught.value)
    assert "object at" not in str(caught.value)


def test_secrets_in_a_uri_are_not_told(server: Server, tmp_path: Path) -> None:
    server.answers = [sent(b"", status=404)]
    uri = server.url.replace("//", "//user:secret@") + "/m?signature=secret"
    with pytest.raises(SourceUnavailableError) as caught:
        download(uri, tmp_path / "m")
    assert "secret" not in str(caught.value)


def _credentials(tmp_path: Path, **values: str) -> Path:
    folder = tmp_path / "credentials"
    folder.mkdir()
    for name, value in values.items():
        (folder / name).write_text(value + "\n")
    return folder


def test_a_token_is_sent(server: Server, tmp_path: Path) -> None:
    server.answers = [sent()]
    _fetched(server, tmp_path, credentials=_credentials(tmp_path, token="t0k"))
    assert server.asked[0]["Authorization"] == "Bearer t0k"


def test_a_password_is_sent(server: Server, tmp_path: Path) -> None:
    server.answers = [sent()]
    _fetched(server, tmp_path, credentials=_credentials(tmp_path, username="u", password="p"))
    wanted = base64.b64encode(b"u:p").decode()
    assert server.asked[0]["Authorization"] == f"Basic {wanted}"


def test_another_host_does_not_get_the_token(server: Server, tmp_path: Path) -> None:
    elsewhere = server.url.replace("127.0.0.1", "localhost") + "/there"
    server.answers = [sent(b"", status=302, Location=elsewhere), sent()]
    body, _ = _fetched(server, tmp_path, credentials=_credentials(tmp_path, token="t0k"))
    assert body == BODY
    assert "Authorization" in server.asked[0]
    assert "Authorization" not in server.asked[1]


def test_a_secret_without_the_right_keys_is_told(server: Server, tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="neither the key token"):
        _fetched(server, tmp_path, credentials=_credentials(tmp_path, username="u"))


def test_a_uri_that_requests_refuses_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match=r"^SourceUnavailable: http:"):
        download("http://127.0.0.1:99999/m", tmp_path / "m")


def test_a_download_becomes_a_model(server: Server, tmp_path: Path) -> None:
    server.answers = [sent()]
    fetch(
        Request(
            uri=f"{server.url}/some/net.onnx?x=1",
            model="net",
            repository=tmp_path,
            file_name="model.onnx",
        )
    )
    assert (tmp_path / "net/1/model.onnx").read_bytes() == BODY
    assert [p.name for p in tmp_path.iterdir()] == ["net"]


def test_the_library_still_reports_bodies_that_are_cut(server: Server) -> None:
    # Everything above stands on this; urllib3 before 2.0 took a short body for a whole one.
    server.answers = [sent(upto=10)]
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.get(server.url, timeout=5)
