"""From a source to a model that Triton can load: what the init container of each pod does.

The files of a volume are linked, so that nothing is copied at a start; those of a ConfigMap are
copied, since the kubelet would exchange them under a running server; downloads are moved.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from conch.clients.archives import is_archive, unpack
from conch.clients.checksums import digest_of, files_below
from conch.clients.source_errors import ChecksumMismatchError, SourceUnavailableError

CONFIG_FILE = "config.pbtxt"
FIRST_VERSION = "1"
_WORK = ".conch"
"""Below the repository, while it is filled: the same file system, so that moves are renames."""


@dataclass(frozen=True)
class Request:
    """What to fetch and where to; ``source_dir`` for mounted sources, unset for downloads."""

    uri: str
    model: str
    repository: Path
    config: Path | None = None
    sha256: str | None = None
    source_dir: Path | None = None
    credentials: Path | None = None
    file_name: str | None = None


@dataclass(frozen=True)
class Fetched:
    """What came: number of files, their size in bytes, and the digest where it was checked."""

    files: int
    size: int
    sha256: str | None


def fetch(request: Request) -> Fetched:
    """Fill the repository with the model. Raises SourceError; what was there before is replaced."""
    target = request.repository / request.model
    work = request.repository / _WORK
    try:
        for stale in (target, work):
            shutil.rmtree(stale, ignore_errors=True)
        return _fetch(request, target, work)
    except OSError as error:
        raise SourceUnavailableError(f"{_shown(request)}: {_said(error)}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _fetch(request: Request, target: Path, work: Path) -> Fetched:
    place = _copy if urlsplit(request.uri).scheme == "configmap" else _link
    source = _mounted(request)
    if source is None:
        source, place = _downloaded(request, work), _move
    found = _checked(request, source)
    if source.is_file() and is_archive(source.name):
        unpack(source, work / "unpacked")
        source, place = _top(work / "unpacked"), _move
    return _laid_out(request, source, target, place, found)


def _mounted(request: Request) -> Path | None:
    """Return the mounted file or directory, or None where the source is a download."""
    path = request.source_dir
    if path is None:
        return None
    if not path.exists():
        raise SourceUnavailableError(f"{request.uri}: there is nothing at this path of the volume")
    if path.is_dir() and next(files_below(path), None) is None:
        raise SourceUnavailableError(f"{request.uri}: does not exist or holds no file")
    return path


def _downloaded(request: Request, work: Path) -> Path:
    from conch.clients.downloads import download  # noqa: PLC0415  # slow to import, and rarely needed

    work.mkdir(parents=True)
    target = work / (Path(unquote(urlsplit(request.uri).path)).name or "download")
    download(request.uri, target, credentials=request.credentials)
    return target


def _checked(request: Request, source: Path) -> str | None:
    if request.sha256 is None:
        return None
    found = digest_of(source)
    if found != request.sha256:
        raise ChecksumMismatchError(
            f"{_shown(request)}: wanted sha256 {request.sha256}, found {found}"
        )
    return found


def _top(unpacked: Path) -> Path:
    """Return where an archive's files begin: below its one directory, if that is all it holds.

    A directory with a dot in its name, such as model.savedmodel, or a version is content.
    """
    entries = list(unpacked.iterdir())
    if len(entries) == 1 and entries[0].is_dir() and not _is_content(entries[0].name):
        return entries[0]
    return unpacked


def _is_content(name: str) -> bool:
    return "." in name or name.isdigit()


def _laid_out(
    request: Request,
    source: Path,
    target: Path,
    place: Callable[[Path, Path], object],
    sha256: str | None,
) -> Fetched:
    """Place the files as Triton wants them, with our configuration where there is none."""
    if source.is_file():
        pairs = [(source, target / FIRST_VERSION / (request.file_name or source.name))]
    else:
        base = target if _is_whole(source) else target / FIRST_VERSION
        pairs = [(source / name, base / name) for name in files_below(source)]
    size = sum(p.stat().st_size for p, _ in pairs)
    for origin, path in pairs:
        path.parent.mkdir(parents=True, exist_ok=True)
        place(origin, path)
    if request.config and not (target / CONFIG_FILE).exists():
        shutil.copyfile(request.config, target / CONFIG_FILE)
    return Fetched(files=len(pairs), size=size, sha256=sha256)


def _is_whole(source: Path) -> bool:
    """Return whether a directory is a model with its versions, not the files of one version."""
    versions = any(p.is_dir() and p.name.isdigit() for p in source.iterdir())
    return versions or (source / CONFIG_FILE).exists()


def _link(origin: Path, path: Path) -> None:
    path.symlink_to(origin.absolute())


def _copy(origin: Path, path: Path) -> None:
    shutil.copyfile(origin, path)


def _move(origin: Path, path: Path) -> None:
    origin.rename(path)


def _shown(request: Request) -> str:
    parts = urlsplit(request.uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def _said(error: OSError) -> str:
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{where}"
