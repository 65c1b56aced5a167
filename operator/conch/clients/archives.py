"""Unpacking tar and zip archives that nobody vouches for."""

import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from conch.clients.source_errors import SourceUnavailableError

_TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_ZIP = (".zip",)
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_UNIX_MODE_SHIFT = 16
_LINK_TYPE = 0o120000
_TYPE_MASK = 0o170000
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, ValueError, RuntimeError)
"""What reading a damaged archive raises; zlib's and lzma's errors are told apart below."""


def is_archive(name: str) -> bool:
    """Return whether a file of this name is unpacked."""
    return name.lower().endswith((*_TAR, *_ZIP))


def unpack(archive: Path, target: Path) -> None:
    """Unpack the files of ``archive`` into the new directory ``target``.

    Links, devices, absolute paths and paths that lead out are refused: SourceUnavailableError.
    """
    target.mkdir(parents=True)
    members = _zip_members if archive.name.lower().endswith(_ZIP) else _tar_members
    try:
        for name, stream in members(archive):
            _write(_inside(target, name), stream)
    except _BROKEN as error:
        raise SourceUnavailableError(f"{archive.name} can't be unpacked: {error}") from error
    except Exception as error:
        if type(error).__module__ not in ("zlib", "_lzma", "lzma"):
            raise
        raise SourceUnavailableError(f"{archive.name} can't be unpacked: {error}") from error


def top_of(unpacked: Path) -> Path:
    """Return where an archive's files begin: below its one directory, if that is all it holds.

    A directory with a dot in its name, such as model.savedmodel, or a version is content.
    """
    entries = list(unpacked.iterdir())
    if len(entries) == 1 and entries[0].is_dir() and not _is_content(entries[0].name):
        return entries[0]
    return unpacked


def _is_content(name: str) -> bool:
    return "." in name or name.isdigit()


def unpack_layer(archive: Path, target: Path) -> list[Path]:
    """Lay the content of a layer of an OCI image over the directory ``target``.

    A name that begins with .wh. removes what lower layers have of that name. Returns where links
    and devices would be, which are left out. Raises SourceUnavailableError, as ``unpack`` does.
    """
    try:
        with tarfile.open(archive) as tar:
            return [
                _inside(target, member.name)
                for member in tar
                if not member.isdir() and not _lay(tar, member, _inside(target, member.name))
            ]
    except _BROKEN as error:
        raise SourceUnavailableError(f"layer {archive.name} can't be unpacked: {error}") from error
    except Exception as error:
        if type(error).__module__ not in ("zlib", "_lzma", "lzma"):
            raise
        raise SourceUnavailableError(f"layer {archive.name} can't be unpacked: {error}") from error


def _lay(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> bool:
    """Do what a layer says of one path; tell whether that was possible."""
    if path.name == _OPAQUE:
        _emptied(path.parent)
        return True
    if path.name.startswith(_WHITEOUT):
        _removed(path.with_name(path.name.removeprefix(_WHITEOUT)))
        return True
    stream = tar.extractfile(member) if member.isreg() else None
    _removed(path)
    if stream is not None:
        _write(path, stream)
    return stream is not None


def _emptied(folder: Path) -> None:
    for path in folder.iterdir() if folder.is_dir() else ():
        _removed(path)


def _removed(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _tar_members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isdir():
                continue
            stream = tar.extractfile(member) if member.isreg() else None
            if stream is None:
                raise SourceUnavailableError(
                    f"{archive.name} holds {member.name}, which is no plain file: "
                    "pack it without links and devices (tar --dereference)"
                )
            yield member.name, stream


def _zip_members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(archive) as packed:
        for info in packed.infolist():
            if info.is_dir():
                continue
            if (info.external_attr >> _UNIX_MODE_SHIFT) & _TYPE_MASK == _LINK_TYPE:
                raise SourceUnavailableError(
                    f"{archive.name} holds {info.filename}, which is a link: pack it without links"
                )
            with packed.open(info) as stream:
                yield info.filename, stream


def _inside(target: Path, name: str) -> Path:
    parts = PurePosixPath(name).parts
    if not parts or parts[0] == "/" or ".." in parts:
        raise SourceUnavailableError(f"the archive holds {name!r}, which leads out of it")
    return target.joinpath(*parts)


def _write(path: Path, stream: IO[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        shutil.copyfileobj(stream, out, 1 << 20)
