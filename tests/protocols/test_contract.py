"""What holds for downloads by every protocol, asked of a real server of each on loopback."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from conch.clients.checksums import digest_of
from conch.clients.downloads import download
from conch.clients.remotes.base import Place
from conch.clients.remotes.downloading import Policy
from conch.clients.remotes.listed import fingerprint
from conch.clients.remotes.web import Patience
from conch.clients.source_errors import (
    ChecksumMismatchError,
    SourceUnavailableError,
    SourceUnreachableError,
)
from tests.kit.model_servers import (
    S3,
    GoogleStorage,
    Hub,
    ModelServer,
    Registry,
    certificate,
    secret,
)
from tests.kit.web import Fault, Shelf

BIG = bytes(range(256)) * 80
FILES = {"config.pbtxt": b"name: 'm'", "1/model.onnx": BIG, "1/data/a b+c%25.bin": b"hm"}
PART = len(BIG) // 4
POLICY = Policy(
    workers=4,
    part=PART,
    chunk=500,
    patience=Patience(limit=0.5, first_pause=0.01, longest_pause=0.05),
)
SINGLE = replace(POLICY, part=len(BIG), workers=1)
_numbers = itertools.count()


@contextmanager
def _hub(folder: Path) -> Iterator[ModelServer]:
    with Hub(folder) as hub:
        yield hub


STARTS: dict[str, Callable[[Path], AbstractContextManager[ModelServer]]] = {
    "s3": S3.start,
    "gs": GoogleStorage.start,
    "hf": _hub,
    "oci": Registry.start,
}


@pytest.fixture(scope="module", params=STARTS)
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ModelServer]:
    with STARTS[request.param](tmp_path_factory.mktemp(request.param)) as found:
        yield found


@pytest.fixture
def server(running: ModelServer, monkeypatch: pytest.MonkeyPatch) -> ModelServer:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    running.relay.forget()
    return running


@pytest.fixture
def name() -> str:
    """A model's name that no other test uses."""
    return f"model{next(_numbers)}"


def _files(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def test_a_directory_arrives_with_the_bytes_that_were_stored(
    server: ModelServer, name: str, tmp_path: Path
) -> None:
    uri = server.put(name, FILES)
    server.put(f"{name}2", {"other": b"not asked for"})
    found = download(server.place(uri), tmp_path / "to", policy=POLICY)
    assert _files(found) == FILES
    plain = tmp_path / "plain"
    for path, content in FILES.items():
        (plain / path).parent.mkdir(parents=True, exist_ok=True)
        (plain / path).write_bytes(content)
    assert digest_of(found) == digest_of(plain)


def test_a_single_file_arrives_under_its_name(
    server: ModelServer, name: str, tmp_path: Path
) -> None:
    uri = server.put_file(f"{name}.onnx", BIG)
    found = download(server.place(uri), tmp_path, policy=POLICY)
    assert found.name == f"{name}.onnx"
    assert found.read_bytes() == BIG


def test_a_large_file_comes_in_parts(server: ModelServer, name: str, tmp_path: Path) -> None:
    uri = server.put_file(f"{name}.onnx", BIG)
    download(server.place(uri), tmp_path, policy=POLICY)
    match = server.data["match"]
    asked = [a.header("Range") for a in server.relay.asked if match in a.path and a.method == "GET"]
    assert sorted(r for r in asked if r) == sorted(
        f"bytes={at}-{at + PART - 1}" for at in range(0, len(BIG), PART)
    )


def test_a_cut_connection_costs_no_byte_twice(
    server: ModelServer, name: str, tmp_path: Path
) -> None:
    uri = server.put_file(f"{name}.onnx", BIG)
    place = server.place(uri)
    server.relay.befall(*[Fault(cut=3000, **server.data)] * 3)
    assert download(place, tmp_path, policy=SINGLE).read_bytes() == BIG
    assert _sent(server) == len(BIG)


def test_another_process_goes_on_where_the_last_one_was(
    server: ModelServer, name: str, tmp_path: Path
) -> None:
    uri = server.put_file(f"{name}.onnx", BIG)
    place = server.place(uri)
    server.relay.befall(Fault(cut=15000, **server.data), Fault(status=503, times=99, **server.data))
    with pytest.raises(SourceUnreachableError, match="answered 503"):
        download(place, tmp_path, policy=SINGLE)
    server.relay.forget()
    assert download(place, tmp_path, policy=SINGLE).read_bytes() == BIG
    assert _sent(server) == len(BIG) - 15000


def test_a_server_that_knows_no_ranges_serves_too(
    server: ModelServer, name: str, tmp_path: Path
) -> None:
    uri = server.put_file(f"{name}.onnx", BIG)
    server.relay.befall(Fault(without_ranges=True, times=99, **server.data))
    assert download(server.place(uri), tmp_path, policy=POLICY).read_bytes() == BIG


def test_wrong_bytes_are_noticed_by_the_protocols_own_checksum(
    server: ModelServer, name: str, tmp_path: Path
) -> None:
    uri = server.put_file(f"{name}.onnx", BIG)
    server.relay.befall(Fault(flipped=True, **server.data))
    with pytest.raises(ChecksumMismatchError, match="what it sent has"):
        download(server.place(uri), tmp_path, policy=SINGLE)
    assert download(server.place(uri), tmp_path, policy=SINGLE).read_bytes() == BIG


def test_a_server_that_is_asked_too_often_is_asked_later(
    server: ModelServer, name: str, tmp_path: Path
) -> None:
    uri = server.put(name, FILES)
    server.relay.befall(Fault(status=429), Fault(status=500), Fault(status=503, **server.data))
    assert _files(download(server.place(uri), tmp_path, policy=POLICY)) == FILES


def test_what_is_not_there_is_told_and_final(
    server: ModelServer, name: str, tmp_path: Path
) -> None:
    uri = server.put(name, FILES).replace(name, "absent")
    with pytest.raises(SourceUnavailableError, match=f"{uri}: (there is n|.*unknown)") as caught:
        download(server.place(uri), tmp_path, policy=POLICY)
    assert caught.value.final
    assert "\n" not in str(caught.value)


def test_who_has_no_credentials_is_refused_at_once(
    server: ModelServer, name: str, tmp_path: Path
) -> None:
    uri = server.put(name, FILES)
    with pytest.raises(SourceUnavailableError, match=r"credentials|token") as caught:
        download(server.stranger(uri), tmp_path, policy=POLICY)
    assert caught.value.final


def test_a_secret_that_is_missing_is_named(server: ModelServer, name: str, tmp_path: Path) -> None:
    place = replace(
        server.place(server.put(name, FILES)), credentials=tmp_path / "no", secret_name="login"
    )
    with pytest.raises(
        SourceUnavailableError, match="the Secret 'login' does not exist in the serv"
    ):
        download(place, tmp_path / "to", policy=POLICY)


def test_a_fingerprint_stands_for_the_content(server: ModelServer, name: str) -> None:
    uri = server.put(name, FILES)
    first = fingerprint(server.place(uri), POLICY.patience)
    assert first is not None
    assert first.size == sum(map(len, FILES.values()))
    assert fingerprint(server.place(uri), POLICY.patience) == first
    server.put(name, {**FILES, "1/model.onnx": BIG[::-1]})
    changed = fingerprint(server.place(uri), POLICY.patience)
    assert changed is not None
    assert changed.text != first.text


def _sent(server: ModelServer) -> int:
    """Return how many bytes of files were sent."""
    return server.relay.sent_of(server.data["match"])


def test_a_certificate_of_ones_own_authority_is_trusted_where_the_secret_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    authority, pair = certificate(tmp_path / "pki")
    given = secret(tmp_path / "s", ca__crt=authority.read_text())
    with Shelf({"/m.onnx": BIG}, secured=pair) as shelf:
        uri = f"{shelf.url}/m.onnx"
        found = download(Place(uri, credentials=given), tmp_path / "to", policy=POLICY)
        assert found.read_bytes() == BIG
        with pytest.raises(SourceUnavailableError, match="CERTIFICATE_VERIFY_FAILED") as caught:
            download(Place(uri), tmp_path / "no", policy=POLICY)
        assert caught.value.final
