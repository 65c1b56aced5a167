"""Unpacking archives: good ones in every form, hostile and damaged ones not at all."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from conch.clients.archives import is_archive, unpack
from conch.clients.source_errors import SourceUnavailableError
from conch.clients.sources import Request, fetch

FILES = {"model.py": b"code", "data/weights.bin": b"\0" * 5000}


def _tar(path: Path, files: dict[str, bytes], *extra: tarfile.TarInfo) -> Path:
    suffix = path.name.rpartition(".")[2]
    mode = {"tar": "w", "gz": "w:gz", "tgz": "w:gz", "bz2": "w:bz2", "xz": "w:xz"}[suffix]
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
        for info in extra:
            tar.addfile(info)
    return path


def _zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, body in files.items():
            packed.writestr(name, body)
    return path


def _packed(path: Path, files: dict[str, bytes]) -> Path:
    return _zip(path, files) if path.suffix == ".zip" else _tar(path, files)


def _found(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tgz", "tar.bz2", "tar.xz", "zip"])
def test_archives_are_unpacked(tmp_path: Path, suffix: str) -> None:
    archive = _packed(tmp_path / f"m.{suffix}", FILES)
    assert is_archive(archive.name)
    unpack(archive, tmp_path / "out")
    assert _found(tmp_path / "out") == FILES


@pytest.mark.parametrize("name", ["model.onnx", "tar", "model.gz"])
def test_other_files_are_no_archives(name: str) -> None:
    assert not is_archive(name)


@pytest.mark.parametrize("suffix", ["tar", "zip"])
@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", ".."])
def test_paths_that_lead_out_are_refused(tmp_path: Path, suffix: str, name: str) -> None:
    archive = _packed(tmp_path / f"m.{suffix}", {name: b"x"})
    with pytest.raises(SourceUnavailableError, match="leads out"):
        unpack(archive, tmp_path / "deep/out")
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("odd")
    info.type = kind
    info.linkname = "/etc/passwd"
    archive = _tar(tmp_path / "m.tar", {}, info)
    with pytest.raises(SourceUnavailableError, match="odd, which is no plain file"):
        unpack(archive, tmp_path / "out")
    assert _found(tmp_path / "out") == {}


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as packed:
        info = zipfile.ZipInfo("odd")
        info.external_attr = 0o120777 << 16
        packed.writestr(info, "/etc/passwd")
    with pytest.raises(SourceUnavailableError, match="odd, which is a link"):
        unpack(tmp_path / "m.zip", tmp_path / "out")


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.bz2", "tar.xz", "zip"])
@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "text"])
def test_damaged_archives_are_told(tmp_path: Path, suffix: str, damage: str) -> None:
    body = bytes((7 * n * n) % 251 for n in range(20000))
    archive = _packed(tmp_path / f"m.{suffix}", {"model.bin": body})
    whole = archive.read_bytes()
    middle = len(whole) // 2
    damaged = {
        "cut": whole[:middle],
        "changed": b"\xff" * 1024 + whole[1024:],
        "empty": b"",
        "text": b"<html>not found</html>" * 100,
    }
    archive.write_bytes(damaged[damage])
    with pytest.raises(SourceUnavailableError, match=r"m\..* can't be unpacked"):
        unpack(archive, tmp_path / "out")


def _fetched(tmp_path: Path, files: dict[str, bytes]) -> set[str]:
    archive = _tar(tmp_path / "m.tar.gz", files)
    repository = tmp_path / "models"
    repository.mkdir()
    fetch(Request(uri="pvc://a/m.tar.gz", model="m", repository=repository, source_dir=archive))
    assert [p.name for p in repository.iterdir()] == ["m"]
    return set(_found(repository / "m"))


def test_an_archive_on_a_volume_becomes_a_model(tmp_path: Path) -> None:
    assert _fetched(tmp_path, FILES) == {"1/model.py", "1/data/weights.bin"}


def test_the_one_directory_around_all_files_is_left_out(tmp_path: Path) -> None:
    files = {f"digits/{name}": body for name, body in FILES.items()}
    assert _fetched(tmp_path, files) == {"1/model.py", "1/data/weights.bin"}


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("model.savedmodel/saved_model.pb", "1/model.savedmodel/saved_model.pb"),
        ("3/model.onnx", "3/model.onnx"),
        ("digits/3/model.onnx", "3/model.onnx"),
    ],
)
def test_a_directory_that_is_content_is_kept(tmp_path: Path, name: str, wanted: str) -> None:
    assert _fetched(tmp_path, {name: b"x"}) == {wanted}
