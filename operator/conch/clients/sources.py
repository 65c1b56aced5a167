"""From a source to a model that Triton can load: what the init container of each pod does.

The files of a volume are linked, so that nothing is copied at a start; those of a ConfigMap are
copied, since the kubelet would exchange them under a running server; downloads are moved, or go to
the node's cache and are linked from there.
"""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from conch.clients.archives import is_archive, top_of, unpack
from conch.clients.checksums import digest_of, files_below
from conch.clients.node_cache import CacheUnavailableError, Entry, Filled, NodeCache
from conch.clients.remotes.base import Place
from conch.clients.source_errors import ChecksumMismatchError, SourceError, SourceUnavailableError

if TYPE_CHECKING:
    from conch.clients.remotes.listed import Fingerprint

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
    endpoint: str | None = None
    secret_name: str | None = None
    token: Path | None = None
    cache: NodeCache | None = None
    say: Callable[[str], object] = str
    """Hears what people should know of before it is done."""


@dataclass(frozen=True)
class Fetched:
    """What came: number of files, their size in bytes, and the digest where it was checked.

    ``cached`` tells whether the node had them already; None where its cache was not used.
    """

    files: int
    size: int
    sha256: str | None
    cached: bool | None = None


def fetch(request: Request) -> Fetched:
    """Fill the repository with the model. Raises SourceError; what was there before is replaced."""
    target, work = request.repository / request.model, request.repository / _WORK
    keep = False
    try:
        shutil.rmtree(target, ignore_errors=True)
        return _fetch(request, target, work)
    except SourceError as error:
        keep = not error.final
        raise
    except OSError as error:
        raise SourceUnavailableError(f"{_shown(request)}: {_said(error)}") from error
    except BaseException:  # told to end: who comes next goes on
        keep = True
        raise
    finally:
        if not (keep and _has_part(work)):
            shutil.rmtree(work, ignore_errors=True)


def _has_part(work: Path) -> bool:
    """Return whether a download has left something that can be gone on with."""
    return next((work / ".parts").glob("*"), None) is not None


def place_of(request: Request) -> Place:
    """Return where a request's download is, for ``conch.clients.remotes``."""
    return Place(
        uri=request.uri,
        endpoint=request.endpoint,
        credentials=request.credentials,
        secret_name=request.secret_name,
        token=request.token,
    )


def _fetch(request: Request, target: Path, work: Path) -> Fetched:
    mounted = _mounted(request)
    if mounted is None:
        entry = _cached(request)
        if entry is not None:
            fetched = _laid_out(request, entry.source, target, _link, entry.sha256)
            return replace(fetched, cached=entry.hit)
        work.mkdir(parents=True, exist_ok=True)
        filled = _downloaded(request, work)
        return _laid_out(request, filled.source, target, _move, filled.sha256)
    place = _copy if urlsplit(request.uri).scheme == "configmap" else _link
    found = _checked(request, mounted)
    if mounted.is_file() and is_archive(mounted.name):
        shutil.rmtree(work, ignore_errors=True)
        unpack(mounted, work / "unpacked")
        mounted, place = top_of(work / "unpacked"), _move
    return _laid_out(request, mounted, target, place, found)


def _cached(request: Request) -> Entry | None:
    """Return the source in the node's cache, or None where one has to do without."""
    if request.cache is None:
        return None
    content = _content(request)
    if content is None:
        request.say("without the node's cache: the source has no sha256 and tells no version")
        return None
    try:
        return request.cache.get(
            _key(request, content),
            lambda folder: _downloaded(request, folder),
            size=lambda: _size(request),
        )
    except CacheUnavailableError as error:
        request.say(f"without the node's cache: {error}")
        return None


def _content(request: Request) -> str | None:
    """Return what names the bytes of the source; None where nothing does."""
    if request.sha256:
        return f"sha256:{request.sha256}"
    found = _fingerprint(request)
    return found.text if found else None


def _size(request: Request) -> int | None:
    """Return how many bytes will come, where the source tells."""
    found = _fingerprint(request)
    return found.size if found else None


def _fingerprint(request: Request) -> "Fingerprint | None":
    from conch.clients.remotes.listed import fingerprint  # noqa: PLC0415  # slow to import

    return fingerprint(place_of(request))


def _key(request: Request, content: str) -> str:
    """Return the name of a source in the cache; how a file is called decides what becomes of it."""
    return hashlib.sha256(f"{content}\n{_base_name(request)}".encode()).hexdigest()


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


def _downloaded(request: Request, folder: Path) -> Filled:
    """Download into a folder that is there; check and unpack what came."""
    from conch.clients.downloads import download  # noqa: PLC0415  # slow to import, and rarely needed

    source = download(place_of(request), folder, say=request.say)
    found = _checked(request, source)
    if source.is_file() and is_archive(source.name):
        shutil.rmtree(folder / "unpacked", ignore_errors=True)
        unpack(source, folder / "unpacked")
        source.unlink()
        source = top_of(folder / "unpacked")
    return Filled(source, found)


def _base_name(request: Request) -> str:
    return Path(unquote(urlsplit(request.uri).path)).name or "download"


def _checked(request: Request, source: Path) -> str | None:
    if request.sha256 is None:
        return None
    found = digest_of(source)
    if found != request.sha256:
        raise ChecksumMismatchError(
            f"{_shown(request)}: wanted sha256 {request.sha256}, found {found}"
        )
    return found


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
