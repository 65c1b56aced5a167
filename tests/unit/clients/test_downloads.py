"""Downloads from a real server on loopback that breaks off, refuses, moves and lies."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from conch.clients.downloads import download
from conch.clients.remotes.base import Place
from conch.clients.remotes.downloading import Policy
from conch.clients.remotes.listed import fingerprint
from conch.clients.remotes.web import Patience, cause
from conch.clients.source_errors import (
    SourceChangedError,
    SourceError,
    SourceUnavailableError,
    SourceUnreachableError,
)
from conch.clients.sources import Request, fetch
from tests.kit.web import Asked, Fault, Reply, Shelf, basic

BODY = bytes(range(256)) * 40
PART = 3000
"""So that BODY comes in four parts."""
HASTY = Patience(limit=0.3, first_pause=0.01, longest_pause=0.05)
POLICY = Policy(workers=4, part=PART, chunk=500, patience=HASTY)
SINGLE = replace(POLICY, part=len(BODY))


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    with Shelf({"/m.onnx": BODY}) as found:
        yield found


def _got(shelf: Shelf, folder: Path, policy: Policy = POLICY, **place: object) -> bytes:
    path = download(Place(f"{shelf.url}/m.onnx", **place), folder, policy=policy)  # type: ignore[arg-type]
    assert path.name == "m.onnx"
    return path.read_bytes()


def _ranges(shelf: Shelf) -> list[str]:
    """Return what parts were asked for, without the first question for the size."""
    return [a.header("Range") for a in shelf.asked[1:]]


def test_a_large_file_comes_in_parts_at_once(shelf: Shelf, tmp_path: Path) -> None:
    assert _got(shelf, tmp_path) == BODY
    assert sorted(_ranges(shelf)) == [
        "bytes=0-2999",
        "bytes=3000-5999",
        "bytes=6000-8999",
        "bytes=9000-10239",
    ]
    assert shelf.sent == len(BODY) + 1  # the first byte told the size
    assert sorted(p.name for p in tmp_path.iterdir()) == ["files"]


def test_a_small_file_comes_in_one(shelf: Shelf, tmp_path: Path) -> None:
    assert _got(shelf, tmp_path, SINGLE) == BODY
    assert _ranges(shelf) == [""]


def test_an_empty_file_comes(shelf: Shelf, tmp_path: Path) -> None:
    shelf.files["/m.onnx"] = b""
    assert _got(shelf, tmp_path) == b""


def test_what_broke_off_goes_on_where_it_was(shelf: Shelf, tmp_path: Path) -> None:
    shelf.befall(Fault(), Fault(cut=1000))
    assert _got(shelf, tmp_path, SINGLE) == BODY
    assert _ranges(shelf) == ["", "bytes=1000-10239"]
    assert shelf.sent == len(BODY) + 1


def test_parts_that_broke_off_go_on_where_they_were(shelf: Shelf, tmp_path: Path) -> None:
    shelf.befall(Fault(), *[Fault(cut=700)] * 6)
    assert _got(shelf, tmp_path) == BODY
    assert shelf.sent == len(BODY) + 1


def test_another_process_goes_on_where_the_last_one_was(shelf: Shelf, tmp_path: Path) -> None:
    shelf.befall(Fault(), Fault(cut=4000), Fault(status=503, times=1000))
    with pytest.raises(SourceUnreachableError, match="answered 503"):
        _got(shelf, tmp_path, SINGLE)
    shelf.forget()
    assert _got(shelf, tmp_path, SINGLE) == BODY
    assert shelf.sent == len(BODY) - 4000 + 1


def test_what_another_process_left_of_another_version_is_dropped(
    shelf: Shelf, tmp_path: Path
) -> None:
    shelf.befall(Fault(), Fault(cut=4000), Fault(status=503, times=1000))
    with pytest.raises(SourceUnreachableError):
        _got(shelf, tmp_path, SINGLE)
    shelf.forget()
    shelf.files["/m.onnx"] = changed = BODY[::-1]
    assert _got(shelf, tmp_path, SINGLE) == changed


def test_a_file_that_changes_meanwhile_is_fetched_anew(shelf: Shelf, tmp_path: Path) -> None:
    changed = BODY[::-1]

    class Changing(Shelf):
        def answer(self, asked: Asked) -> Reply:
            reply = super().answer(asked)
            if len(self.asked) == 3:
                self.files["/m.onnx"] = changed
            return reply

    with Changing(shelf.files) as changing:
        assert _got(changing, tmp_path, replace(POLICY, workers=1)) == changed


def test_a_file_that_always_changes_is_given_up(tmp_path: Path) -> None:
    class Restless(Shelf):
        def answer(self, asked: Asked) -> Reply:
            self.files["/m.onnx"] = bytes([len(self.asked) % 256]) * len(BODY)
            return super().answer(asked)

    with Restless() as restless, pytest.raises(SourceChangedError, match="was changed meanwhile"):
        _got(restless, tmp_path)


def test_a_server_without_ranges_sends_the_whole_once(shelf: Shelf, tmp_path: Path) -> None:
    shelf.befall(Fault(without_ranges=True, times=1000))
    assert _got(shelf, tmp_path) == BODY
    assert _ranges(shelf) == ["bytes=0-2999"]


def test_without_ranges_a_cut_file_begins_anew(shelf: Shelf, tmp_path: Path) -> None:
    shelf.befall(
        Fault(without_ranges=True),
        Fault(without_ranges=True, cut=1000),
        Fault(without_ranges=True, times=1000),
    )
    assert _got(shelf, tmp_path) == BODY


@pytest.mark.parametrize("etag", [None, 'W/"v1"'])
def test_without_a_version_nothing_is_pieced_together(tmp_path: Path, etag: str | None) -> None:
    class Versionless(Shelf):
        def answer(self, asked: Asked) -> Reply:
            reply = super().answer(asked)
            headers = {k: v for k, v in reply.headers.items() if k != "ETag"}
            return replace(reply, headers={**headers, **({"ETag": etag} if etag else {})})

    with Versionless({"/m.onnx": BODY}) as shelf:
        shelf.befall(Fault(), Fault(cut=1000))
        assert _got(shelf, tmp_path) == BODY
        assert _ranges(shelf) == ["", ""]


def test_another_part_than_asked_for_is_not_taken(shelf: Shelf, tmp_path: Path) -> None:
    class Askew(Shelf):
        def answer(self, asked: Asked) -> Reply:
            if len(self.asked) == 3:
                asked = replace(asked, headers={"Range": f"bytes=5-{PART + 4}"})
            return super().answer(asked)

    with Askew(shelf.files) as askew:
        assert _got(askew, tmp_path, replace(POLICY, workers=1)) == BODY


def test_a_server_in_trouble_is_asked_again(shelf: Shelf, tmp_path: Path) -> None:
    shelf.befall(*[Fault(status=s) for s in (503, 429, 500)])
    assert _got(shelf, tmp_path) == BODY


def test_what_goes_on_is_told_line_by_line(shelf: Shelf, tmp_path: Path) -> None:
    lines: list[str] = []
    shelf.befall(Fault(status=503), Fault(), Fault(cut=4000), Fault(status=500))
    place = Place(f"{shelf.url}/m.onnx")
    slow = replace(SINGLE, every=0.001)
    download(place, tmp_path, policy=slow, say=lines.append)
    text = "\n".join(lines)
    assert "m.onnx: the server answered 503 Service Unavailable; again in 0 s" in text
    assert "m.onnx: 0.0 of 0.0 MB, " in text
    assert " MB/s, 0 of 1 files" in text


def test_a_server_is_given_the_time_that_it_asks_for(shelf: Shelf, tmp_path: Path) -> None:
    shelf.befall(Fault(), Fault(status=429, headers={"Retry-After": "1"}))
    begun = time.monotonic()
    assert _got(shelf, tmp_path, replace(SINGLE, patience=replace(HASTY, limit=3))) == BODY
    assert time.monotonic() - begun >= 1


def test_a_server_that_asks_for_too_much_time_is_given_up_at_once(
    shelf: Shelf, tmp_path: Path
) -> None:
    shelf.befall(Fault(status=429, headers={"Retry-After": "3600"}, times=1000))
    with pytest.raises(SourceUnreachableError, match="asks to wait for 3600 s more"):
        _got(shelf, tmp_path)
    assert len(shelf.asked) == 1


def test_attempts_end_with_the_patience(shelf: Shelf, tmp_path: Path) -> None:
    shelf.befall(Fault(status=503, times=1000))
    with pytest.raises(SourceUnreachableError, match=r"m.onnx: the server answered 503 .*attempts"):
        _got(shelf, tmp_path)
    assert 3 < len(shelf.asked) < 40


def test_pauses_grow_and_each_byte_that_comes_renews_the_patience() -> None:
    patience = Patience(limit=60, spread=lambda: 1.0)
    assert [patience.pause(n) for n in (1, 2, 3, 4, 5, 6, 7)] == [1, 2, 4, 8, 16, 30, 30]
    assert replace(patience, spread=lambda: 0.0).pause(3) == 2


def test_a_slow_server_is_borne_as_long_as_something_comes(shelf: Shelf, tmp_path: Path) -> None:
    shelf.befall(Fault(), *[Fault(cut=300)] * 30)
    assert _got(shelf, tmp_path, replace(SINGLE, patience=replace(HASTY, limit=0.1))) == BODY
    assert shelf.sent == len(BODY) + 1


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_final(shelf: Shelf, tmp_path: Path, status: int) -> None:
    shelf.befall(Fault(status=status))
    with pytest.raises(SourceUnavailableError, match=f"m.onnx: the server answered {status}") as e:
        _got(shelf, tmp_path)
    assert len(shelf.asked) == 1
    assert e.value.final


def test_no_server_is_told_in_few_words(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreachableError) as caught:
        download(Place("http://127.0.0.1:1/m"), tmp_path, policy=POLICY)
    assert "Connection refused (" in str(caught.value)
    assert "object at" not in str(caught.value)
    assert not caught.value.final


def test_a_full_disk_is_told_before_anything_comes(shelf: Shelf, tmp_path: Path) -> None:
    class Boasting(Shelf):
        def answer(self, asked: Asked) -> Reply:
            size = {"Content-Range": f"bytes 0-0/{1 << 60}"}
            return replace(super().answer(asked), headers={"ETag": '"1"', **size})

    with Boasting(shelf.files) as boasting, pytest.raises(SourceError, match="the node has room"):
        _got(boasting, tmp_path)


def test_secrets_in_a_uri_are_not_told(shelf: Shelf, tmp_path: Path) -> None:
    uri = shelf.url.replace("//", "//user:secret@") + "/absent?signature=secret"
    with pytest.raises(SourceUnavailableError) as caught:
        download(Place(uri), tmp_path, policy=POLICY)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        requests.exceptions.InvalidURL("Failed to parse: https://user:secret@host/m?sig=secret"),
        requests.ConnectionError("Max retries exceeded with url: /m?sig=secret (Caused by it)"),
    ],
)
def test_secrets_in_the_librarys_words_are_not_told(error: Exception) -> None:
    assert "secret" not in cause(error)
    assert "the URL" in cause(error)


def _credentials(tmp_path: Path, **values: str) -> Path:
    folder = tmp_path / "credentials"
    folder.mkdir()
    for name, value in values.items():
        (folder / name).write_text(value + "\n")
    return folder


def test_a_token_is_sent(shelf: Shelf, tmp_path: Path) -> None:
    shelf.secret = "Bearer t0k"
    given = _credentials(tmp_path, token="t0k")
    assert _got(shelf, tmp_path / "to", credentials=given) == BODY
    with pytest.raises(SourceUnavailableError, match="401"):
        _got(shelf, tmp_path / "without")


def test_a_password_is_sent(shelf: Shelf, tmp_path: Path) -> None:
    shelf.secret = basic("u", "p")
    given = _credentials(tmp_path, username="u", password="p")
    assert _got(shelf, tmp_path / "to", credentials=given) == BODY


def test_another_host_does_not_get_the_token(shelf: Shelf, tmp_path: Path) -> None:
    there = {"Location": shelf.url.replace("127.0.0.1", "localhost") + "/m.onnx"}

    class Moved(Shelf):
        def answer(self, asked: Asked) -> Reply:
            return Reply(302, b"", there)

    with Moved() as moved:
        given = _credentials(tmp_path, token="t0k")
        assert _got(moved, tmp_path / "to", credentials=given) == BODY
        assert all(a.header("Authorization") == "Bearer t0k" for a in moved.asked)
    assert not any(a.header("Authorization") for a in shelf.asked)


def test_a_secret_without_the_right_keys_is_told(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="has no key token, nor the keys username"):
        _got(shelf, tmp_path / "to", credentials=_credentials(tmp_path, username="u"))


def test_a_secret_that_is_missing_is_named(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="Secret 'login' does not exist in the serv"):
        _got(shelf, tmp_path / "to", credentials=tmp_path / "absent", secret_name="login")


def test_a_uri_that_requests_refuses_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match=r"^SourceUnavailable: http:"):
        download(Place("http://127.0.0.1:99999/m"), tmp_path, policy=POLICY)


def _model(url: str, repository: Path) -> Request:
    return Request(
        uri=f"{url}/some/net.onnx?x=1", model="net", repository=repository, file_name="model.onnx"
    )


def test_a_download_becomes_a_model(shelf: Shelf, tmp_path: Path) -> None:
    shelf.files = {"/some/net.onnx": BODY}
    fetch(_model(shelf.url, tmp_path))
    assert (tmp_path / "net/1/model.onnx").read_bytes() == BODY
    assert [p.name for p in tmp_path.iterdir()] == ["net"]


def test_a_fetch_that_is_killed_leaves_what_the_next_goes_on_from(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.files = {"/some/net.onnx": BODY}

    def end(*_: object) -> None:
        raise SystemExit(143)

    shelf.befall(Fault(), Fault(cut=6000))
    with monkeypatch.context() as patch:
        patch.setattr("conch.clients.remotes.downloading.patiently", _once(end))
        with pytest.raises(SystemExit):
            fetch(_model(shelf.url, tmp_path))
    shelf.forget()
    fetch(_model(shelf.url, tmp_path))
    assert (tmp_path / "net/1/model.onnx").read_bytes() == BODY
    assert shelf.sent == len(BODY) - 6000 + 1


def test_a_fetch_that_gives_up_leaves_what_the_next_goes_on_from(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conch.clients.downloads.Policy", lambda: SINGLE)
    shelf.files = {"/some/net.onnx": BODY}
    shelf.befall(Fault(), Fault(cut=6000), Fault(status=503, times=1000))
    with pytest.raises(SourceUnreachableError):
        fetch(_model(shelf.url, tmp_path))
    shelf.forget()
    fetch(_model(shelf.url, tmp_path))
    assert (tmp_path / "net/1/model.onnx").read_bytes() == BODY
    assert shelf.sent == len(BODY) - 6000 + 1


def test_a_fetch_that_can_not_succeed_leaves_nothing(shelf: Shelf, tmp_path: Path) -> None:
    shelf.files = {"/some/net.onnx": BODY}
    shelf.befall(Fault(), Fault(cut=6000), Fault(status=403))
    with pytest.raises(SourceUnavailableError, match="403"):
        fetch(_model(shelf.url, tmp_path))
    assert list(tmp_path.iterdir()) == []


def _once(then: Callable[[], None]) -> Callable[..., None]:
    """Return what makes one attempt and does not try again."""

    def attempt(what: Callable[[], None], **_: object) -> None:
        try:
            what()
        except Exception:  # noqa: BLE001
            then()

    return attempt


def test_a_fingerprint_changes_with_the_content_alone(shelf: Shelf) -> None:
    place = Place(f"{shelf.url}/m.onnx")
    first = fingerprint(place)
    assert first is not None
    assert first.size == len(BODY)
    assert fingerprint(place) == first
    shelf.files["/m.onnx"] = BODY[::-1]
    assert fingerprint(place) != first
    assert shelf.sent == 3


def test_the_library_still_reports_bodies_that_are_cut(shelf: Shelf) -> None:
    # Everything above stands on this; urllib3 before 2.0 took a short body for a whole one.
    shelf.befall(Fault(cut=10))
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.get(f"{shelf.url}/m.onnx", timeout=5)
