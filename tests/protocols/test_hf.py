"""What is the model hub's own: revisions, paths, gates, and a server elsewhere for large files."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from conch.clients.downloads import download
from conch.clients.remotes.base import Place
from conch.clients.remotes.downloading import Policy
from conch.clients.remotes.listed import listed
from conch.clients.remotes.web import Patience
from conch.clients.source_errors import ChecksumMismatchError, SourceUnavailableError
from tests.kit.model_servers import Hub, secret
from tests.kit.web import Fault

POLICY = Policy(patience=Patience(limit=0.5, first_pause=0.01))
BIG = b"weights" * 1000
FILES = {"README.md": b"# digits", "onnx/model.onnx": BIG, "onnx/labels.txt": b"0 1 2"}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("NO_PROXY", "*")
    with Hub(tmp_path / "hub") as found:
        found.put("digits", FILES)
        yield found


def _got(place: Place, folder: Path) -> dict[str, bytes]:
    found = download(place, folder, policy=POLICY)
    paths = [p for p in found.rglob("*") if p.is_file()] if found.is_dir() else [found]
    base = found if found.is_dir() else found.parent
    return {p.relative_to(base).as_posix(): p.read_bytes() for p in paths}


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("", FILES),
        ("/onnx", {"model.onnx": BIG, "labels.txt": b"0 1 2"}),
        ("/onnx/model.onnx", {"model.onnx": BIG}),
        ("@main/onnx/labels.txt", {"labels.txt": b"0 1 2"}),
    ],
)
def test_a_repository_a_folder_or_a_file_arrives(
    hub: Hub, tmp_path: Path, path: str, wanted: dict[str, bytes]
) -> None:
    assert _got(hub.place(f"hf://org/digits{path}"), tmp_path / "to") == wanted


def test_a_revision_is_what_it_was(hub: Hub, tmp_path: Path) -> None:
    commit = hub.branches["org/digits", "main"]
    hub.put("digits", {"README.md": b"# new"})
    hub.put("digits", {"README.md": b"# of a pull request"}, revision="refs/pr/1")
    assert _got(hub.place(f"hf://org/digits@{commit}"), tmp_path / "old") == FILES
    assert _got(hub.place("hf://org/digits"), tmp_path / "new") == {"README.md": b"# new"}
    found = _got(hub.place("hf://org/digits@refs%2Fpr%2F1"), tmp_path / "pr")
    assert found == {"README.md": b"# of a pull request"}


def test_a_branch_that_moves_while_it_is_downloaded_changes_nothing(
    hub: Hub, tmp_path: Path
) -> None:
    remote, listing = listed(hub.place("hf://org/digits"))
    hub.put("digits", {"README.md": b"# new"})
    readme = next(f for f in listing.files if f.path == "README.md")
    with remote.get(readme, {}) as response:
        assert response.raw.read() == b"# digits"


def test_the_server_that_holds_large_files_does_not_get_the_token(hub: Hub, tmp_path: Path) -> None:
    _got(hub.place("hf://org/digits"), tmp_path / "to")
    assert hub.cdn.asked
    assert not any(a.header("Authorization") for a in hub.cdn.asked)


def test_small_files_are_checked_by_the_checksum_of_git(hub: Hub, tmp_path: Path) -> None:
    hub.befall(Fault(flipped=True, match="README.md"))
    with pytest.raises(ChecksumMismatchError, match=r"README\.md: the server gives git "):
        _got(hub.place("hf://org/digits"), tmp_path / "to")


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("hf://org/absent", "there is no such repository, or this token may not see it"),
        ("hf://org/digits@v9", "the repository has no revision 'v9'"),
        ("hf://org/digits/absent", "there is nothing at this path of the repository"),
        ("hf://org/gated", r"the repository is gated: ask for access .* \(HF_TOKEN\)"),
    ],
)
def test_what_is_missing_is_told_apart(hub: Hub, tmp_path: Path, uri: str, said: str) -> None:
    hub.put("gated", FILES)
    hub.gated.add("org/gated")
    with pytest.raises(SourceUnavailableError, match=f"{uri}: {said}") as caught:
        _got(hub.place(uri), tmp_path / "to")
    assert caught.value.final


def test_without_a_token_it_is_said_that_one_may_be_wanted(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match=r"or it wants a token \(HF_TOKEN\)"):
        _got(hub.stranger("hf://org/digits"), tmp_path / "to")


def test_a_secret_names_its_own_hub(hub: Hub, tmp_path: Path) -> None:
    given = secret(tmp_path / "secret", HF_TOKEN=hub.TOKEN, HF_ENDPOINT=hub.url)
    place = Place("hf://org/digits", endpoint="http://127.0.0.1:1", credentials=given)
    assert _got(place, tmp_path / "to") == FILES


def test_a_secret_without_a_token_is_told(hub: Hub, tmp_path: Path) -> None:
    place = replace(
        hub.place("hf://org/digits"), credentials=secret(tmp_path / "secret", password="x")
    )
    with pytest.raises(SourceUnavailableError, match="has no key HF_TOKEN"):
        _got(place, tmp_path / "to")
