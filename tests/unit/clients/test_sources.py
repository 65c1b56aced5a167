"""Fetching model files: from mounted volumes, ConfigMaps and servers, into a repository."""

import os
from pathlib import Path
from typing import Any

import pytest

from conch.api.conditions import Reason
from conch.clients import sources
from conch.clients.checksums import digest_of
from conch.clients.source_errors import (
    ChecksumMismatchError,
    Failure,
    SourceUnavailableError,
)
from conch.clients.sources import Fetched, Request, fetch


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    return path


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    (tmp_path / "config.pbtxt").write_text("name: 'digits'")
    return tmp_path / "models"


def _written(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def _request(source: Path, repository: Path, **fields: Any) -> Request:
    return Request(
        uri=fields.pop("uri", "pvc://models/digits"),
        model="digits",
        repository=repository,
        config=repository.parent / "config.pbtxt",
        source_dir=source,
        **fields,
    )


def _found(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}


def test_files_become_version_one_with_our_configuration(source: Path, repository: Path) -> None:
    _written(source, "model.py", "data/weights.bin")
    fetched = fetch(_request(source, repository))
    assert fetched == Fetched(files=2, size=len("model.py") + len("data/weights.bin"), sha256=None)
    assert _found(repository) == {
        "digits/config.pbtxt",
        "digits/1/model.py",
        "digits/1/data/weights.bin",
    }
    assert (repository / "digits/1/data/weights.bin").read_text() == "data/weights.bin"


def test_volumes_are_linked_and_not_copied(source: Path, repository: Path) -> None:
    _written(source, "model.py")
    fetch(_request(source, repository))
    assert (repository / "digits/1/model.py").readlink() == source / "model.py"


def test_version_directories_are_kept(source: Path, repository: Path) -> None:
    _written(source, "1/model.onnx", "2/model.onnx", "labels.txt")
    fetch(_request(source, repository))
    assert _found(repository / "digits") == {
        "1/model.onnx",
        "2/model.onnx",
        "labels.txt",
        "config.pbtxt",
    }
    assert (repository / "digits/config.pbtxt").read_text() == "name: 'digits'"


def test_a_whole_model_keeps_its_own_configuration(source: Path, repository: Path) -> None:
    _written(source, "config.pbtxt", "1/model.py")
    fetch(_request(source, repository))
    assert _found(repository / "digits") == {"config.pbtxt", "1/model.py"}
    assert (repository / "digits/config.pbtxt").read_text() == "config.pbtxt"


def test_a_single_file_gets_the_name_that_the_backend_wants(source: Path, repository: Path) -> None:
    _written(source, "resnet.onnx")
    fetch(_request(source / "resnet.onnx", repository, file_name="model.onnx"))
    assert _found(repository / "digits") == {"1/model.onnx", "config.pbtxt"}


def _like_a_config_map(source: Path) -> None:
    """Lay out a directory as the kubelet does it for a ConfigMap."""
    _written(source, "..2024_01/model.py", "..2024_01/labels.txt")
    (source / "..data").symlink_to("..2024_01")
    for name in ("model.py", "labels.txt"):
        (source / name).symlink_to(f"..data/{name}")


def test_a_config_map_is_copied_since_the_kubelet_changes_it_under_the_server(
    source: Path, repository: Path
) -> None:
    _like_a_config_map(source)
    fetch(_request(source, repository, uri="configmap://digits"))
    (source / "..2024_01/model.py").write_text("changed")
    found = repository / "digits/1"
    assert _found(found) == {"model.py", "labels.txt"}
    assert (found / "model.py").read_text() == "..2024_01/model.py"


def test_the_digest_of_a_config_map_is_that_of_its_files(source: Path, tmp_path: Path) -> None:
    _like_a_config_map(source)
    plain = tmp_path / "plain"
    plain.mkdir()
    for name in ("model.py", "labels.txt"):
        (plain / name).write_text((source / name).read_text())
    assert digest_of(source) == digest_of(plain)


def test_fetching_again_replaces_what_was_there(source: Path, repository: Path) -> None:
    _written(source, "model.py")
    _written(repository, "digits/1/stale.py", ".conch/half")
    fetch(_request(source, repository))
    fetch(_request(source, repository))
    assert _found(repository) == {"digits/1/model.py", "digits/config.pbtxt"}


def test_the_right_digest_is_taken(source: Path, repository: Path) -> None:
    _written(source, "model.py")
    digest = digest_of(source)
    assert fetch(_request(source, repository, sha256=digest)).sha256 == digest


def test_a_wrong_digest_is_told_with_both_and_nothing_is_placed(
    source: Path, repository: Path
) -> None:
    _written(source, "model.py")
    with pytest.raises(ChecksumMismatchError) as caught:
        fetch(_request(source, repository, sha256="0" * 64))
    assert str(caught.value) == (
        f"ChecksumMismatch: pvc://models/digits: wanted sha256 {'0' * 64}, "
        f"found {digest_of(source)}"
    )
    assert _found(repository) == set()


def test_a_path_that_is_not_there_is_told(source: Path, repository: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="pvc://models/digits: there is nothing"):
        fetch(_request(source / "absent", repository))


def test_an_empty_source_is_told(source: Path, repository: Path) -> None:
    (source / "lost+found").mkdir()
    with pytest.raises(SourceUnavailableError, match="does not exist or holds no file"):
        fetch(_request(source, repository))


def test_a_dangling_link_is_told_by_its_name(source: Path, repository: Path) -> None:
    (source / "model.py").symlink_to("/nowhere/model.py")
    with pytest.raises(SourceUnavailableError, match=r"No such file.*model\.py"):
        fetch(_request(source, repository))


def test_a_loop_of_links_ends(source: Path, repository: Path) -> None:
    (source / "again").symlink_to(source)
    with pytest.raises(SourceUnavailableError, match="levels of symbolic links"):
        fetch(_request(source, repository))


def test_a_failure_is_one_line_and_the_reasons_are_those_of_the_conditions() -> None:
    assert str(SourceUnavailableError("a\nb")) == "SourceUnavailable: a b"
    assert {Reason(f.value).value for f in Failure} == {"SourceUnavailable", "ChecksumMismatch"}


def test_the_digest_of_a_directory_is_as_documented(source: Path) -> None:
    # sha256 of these lines, sorted by path as bytes; computed with sha256sum.
    _written(source, "b", "B", "a/x", ".hidden")
    assert digest_of(source) == "3c14395b1a87367b461ed1fc137e8e29bd1b5f01f33614bdbd4a46e5b5ac981c"


def test_the_digest_depends_on_names_and_contents(source: Path) -> None:
    _written(source, "a", "b")
    first = digest_of(source)
    (source / "b").rename(source / "c")
    second = digest_of(source)
    (source / "c").write_text("changed")
    assert len({first, second, digest_of(source)}) == 3


def test_the_digest_of_a_file_is_its_sha256(source: Path) -> None:
    (source / "f").write_bytes(b"")
    assert digest_of(source / "f") == (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )


def test_names_that_are_no_text_are_digested(source: Path) -> None:
    Path(os.fsdecode(os.fsencode(source) + b"/\xff")).write_text("x")
    assert len(digest_of(source)) == 64


def test_fetching_imports_nothing_that_is_slow(tmp_path: Path) -> None:
    # It runs on a replica's share of a CPU, before the model can load.
    import subprocess
    import sys

    code = (
        f"import sys; sys.path.insert(0, {str(Path(sources.__file__).parents[2])!r}); "
        "import conch.cli.fetch; "
        "print(sorted({'kopf','kubernetes','pydantic','requests','numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
