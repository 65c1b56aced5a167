"""Sources through the node's cache: what is asked of their servers, and what comes of it."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conch.clients.node_cache import NodeCache
from conch.clients.source_errors import ChecksumMismatchError, SourceUnavailableError
from conch.clients.sources import Request, fetch
from tests.kit.web import Asked, Fault, Reply, Shelf

BODY = bytes(range(256)) * 40


def packed(**files: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"top/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


ARCHIVE = packed(model=b"code", weights=BODY)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    with Shelf({"/m.onnx": BODY, "/m.tar": ARCHIVE}) as found:
        yield found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


def request(
    shelf: Shelf, root: Path, pod: str = "a", path: str = "/m.onnx", **fields: Any
) -> Request:
    cache = NodeCache(root, f"{pod}_1", opening=0.05, patience=0.1)
    repository = root.parent / pod
    repository.mkdir(exist_ok=True)
    return Request(uri=shelf.url + path, model="m", repository=repository, cache=cache, **fields)


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def test_with_a_sha256_the_second_start_asks_nobody(shelf: Shelf, root: Path) -> None:
    first = fetch(request(shelf, root, sha256=sha256(BODY)))
    shelf.forget()
    second = fetch(request(shelf, root, "b", sha256=sha256(BODY)))
    assert (first.cached, second.cached) == (False, True)
    assert shelf.asked == []
    assert second.sha256 == sha256(BODY)
    assert second.size == len(BODY)
    assert (root.parent / "b/m/1/m.onnx").read_bytes() == BODY


def test_files_of_the_cache_are_linked_and_not_copied(shelf: Shelf, root: Path) -> None:
    fetch(request(shelf, root, sha256=sha256(BODY), file_name="model.onnx"))
    link = root.parent / "a/m/1/model.onnx"
    assert link.is_symlink()
    assert link.resolve().is_relative_to(root)
    assert not (root.parent / "a/.conch").exists()


def test_without_a_sha256_the_version_is_asked_for_and_no_files(shelf: Shelf, root: Path) -> None:
    fetch(request(shelf, root))
    shelf.forget()
    assert fetch(request(shelf, root, "b")).cached is True
    assert shelf.asked
    assert shelf.sent <= 1


def test_another_version_is_another_tree(shelf: Shelf, root: Path) -> None:
    fetch(request(shelf, root))
    shelf.files["/m.onnx"] = BODY[::-1]
    assert fetch(request(shelf, root, "b")).cached is False
    assert (root.parent / "b/m/1/m.onnx").read_bytes() == BODY[::-1]
    assert (root.parent / "a/m/1/m.onnx").read_bytes() == BODY


def test_an_archive_is_kept_unpacked(shelf: Shelf, root: Path) -> None:
    fetch(request(shelf, root, path="/m.tar", sha256=sha256(ARCHIVE)))
    second = fetch(request(shelf, root, "b", path="/m.tar", sha256=sha256(ARCHIVE)))
    assert second.cached is True
    assert (root.parent / "b/m/1/weights").read_bytes() == BODY
    assert not list(root.rglob("*.tar"))


def test_the_same_bytes_under_another_kind_of_name_are_another_tree(
    shelf: Shelf, root: Path
) -> None:
    shelf.files["/m.bin"] = ARCHIVE
    fetch(request(shelf, root, path="/m.bin", sha256=sha256(ARCHIVE)))
    fetch(request(shelf, root, "b", path="/m.tar", sha256=sha256(ARCHIVE)))
    assert (root.parent / "a/m/1/m.bin").read_bytes() == ARCHIVE
    assert (root.parent / "b/m/1/weights").read_bytes() == BODY


def test_the_wrong_bytes_are_not_kept(shelf: Shelf, root: Path) -> None:
    with pytest.raises(ChecksumMismatchError):
        fetch(request(shelf, root, sha256="0" * 64))
    assert not list(root.rglob("m.onnx"))


def test_a_poisoned_tree_is_downloaded_anew(shelf: Shelf, root: Path) -> None:
    fetch(request(shelf, root, sha256=sha256(BODY)))
    (root.parent / "a/m/1/m.onnx").resolve().write_bytes(BODY[::-1])
    second = fetch(request(shelf, root, "b", sha256=sha256(BODY)))
    assert second.cached is False
    assert (root.parent / "b/m/1/m.onnx").read_bytes() == BODY


def without(request: Request, shelf: Shelf) -> str:
    """Fetch, see that it came without the cache, and return what was said of that."""
    said: list[str] = []
    fetched = fetch(Request(**{**vars(request), "say": said.append}))
    assert fetched.cached is None
    link = request.repository / "m/1/m.onnx"
    assert not link.is_symlink()
    assert link.read_bytes() == shelf.files["/m.onnx"]
    return "\n".join(said)


def test_a_cache_that_is_not_there_stops_no_start(shelf: Shelf, root: Path) -> None:
    root.rmdir()
    assert "does its agent run" in without(request(shelf, root, sha256=sha256(BODY)), shelf)


def test_a_model_larger_than_the_cache_goes_past_it(shelf: Shelf, root: Path) -> None:
    (root / ".limits.json").write_text(json.dumps({"size": len(BODY) - 1, "reserve": 0}))
    said = without(request(shelf, root, sha256=sha256(BODY)), shelf)
    assert f"takes {len(BODY)} bytes" in said


def test_a_source_that_tells_no_version_goes_past_it(shelf: Shelf, root: Path) -> None:
    class Plain(Shelf):
        def answer(self, asked: Asked) -> Reply:
            return Reply(200, BODY)

    with Plain(shelf.files) as plain:
        assert "tells no version" in without(request(plain, root), plain)


def test_what_is_wrong_with_the_source_is_told_as_ever(shelf: Shelf, root: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="404"):
        fetch(request(shelf, root, path="/absent", sha256=sha256(BODY)))
    shelf.befall(Fault(status=403, times=9))
    with pytest.raises(SourceUnavailableError, match="403"):
        fetch(request(shelf, root, sha256=sha256(BODY)))
