r"""The sha256 of a model's files.

Of a file it is the plain sha256. Of a directory it is the sha256 over one line for each file in
it, at any depth: ``<sha256>  <path below the directory>\n``, sorted by path as bytes. Links count
as what they point to; names that begin with ``..`` (which ConfigMap volumes hold) and
``lost+found`` are left out. So these two print the same::

    conch digest DIR
    (cd DIR && find -L . -type f -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum)
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, cast


def digest_of(path: Path) -> str:
    """Return the sha256 of a file or directory, in hexadecimal. Raises OSError."""
    if path.is_dir():
        return _directory(path)
    return _file(path)


def files_below(directory: Path) -> Iterator[str]:
    """Yield the paths of the files in a directory, relative to it, sorted as bytes."""
    found = []
    for folder, names, files in os.walk(directory, followlinks=True, onerror=_raise):
        names[:] = [n for n in names if not _skipped(n)]
        found += [
            Path(folder, f).relative_to(directory).as_posix() for f in files if not _skipped(f)
        ]
    yield from sorted(found, key=os.fsencode)


def _raise(error: OSError) -> None:
    raise error


def _skipped(name: str) -> bool:
    return name.startswith("..") or name == "lost+found"


def _directory(path: Path) -> str:
    total = hashlib.sha256()
    for name in files_below(path):
        total.update(f"{_file(path / name)}  ".encode() + os.fsencode(name) + b"\n")
    return total.hexdigest()


def _file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class _Sum(Protocol):
    def update(self, data: bytes, /) -> object: ...

    def hexdigest(self) -> str: ...


class _Crc32c:
    def __init__(self) -> None:
        import google_crc32c  # noqa: PLC0415  # only Google's storage and S3 use it

        self.sum: Any = cast("Any", google_crc32c).Checksum()

    def update(self, data: bytes, /) -> None:
        self.sum.update(data)

    def hexdigest(self) -> str:
        return str(self.sum.digest().hex())


def checksum_of(path: Path, algorithm: str) -> str:
    """Return the checksum of a file by an algorithm that a protocol uses, in hexadecimal.

    Those are sha256, sha512, md5, crc32c, and git, which is that of a blob. Raises OSError.
    """
    total = _sum(path, algorithm)
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            total.update(chunk)
    return total.hexdigest()


def _sum(path: Path, algorithm: str) -> _Sum:
    if algorithm == "crc32c":
        return _Crc32c()
    if algorithm == "git":
        return hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    return hashlib.new(algorithm, usedforsecurity=False)
