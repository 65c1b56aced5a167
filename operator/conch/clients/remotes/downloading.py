"""The files of a source on their way: several at once, large ones in parts, on from where it broke off."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import requests

from conch.clients.checksums import checksum_of
from conch.clients.remotes import partial as partials
from conch.clients.remotes.base import Listing, Remote, RemoteFile
from conch.clients.remotes.partial import SAVE_BYTES, Partial, Span
from conch.clients.remotes.pool import Pool
from conch.clients.remotes.web import CUT, PassingError, Patience, cause, check, patiently
from conch.clients.source_errors import (
    ChecksumMismatchError,
    SourceChangedError,
    SourceUnavailableError,
)

_CHANGED = (HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, HTTPStatus.PRECONDITION_FAILED)


@dataclass(frozen=True)
class Policy:
    """How hard to try: threads, bytes of a part and of one read, seconds between lines of progress."""

    workers: int = 8
    part: int = 32 << 20
    chunk: int = 1 << 20
    every: float = 5.0
    patience: Patience = field(default_factory=Patience)


class Downloading:
    """One listing's files on their way into the directory ``files``; notes go to ``states``."""

    def __init__(
        self,
        remote: Remote,
        listing: Listing,
        *,
        uri: str,
        files: Path,
        states: Path,
        policy: Policy,
        say: Callable[[str], object],
    ) -> None:
        self.remote, self.listing, self.uri = remote, listing, uri
        self.files, self.states, self.policy, self.say = files, states, policy, say
        self.pool = Pool(policy.workers)
        self.partials: list[Partial] = []
        self.waiting: dict[str, list[Span]] = {}

    def run(self) -> None:
        """Return once all files are here, and are what the server says they are.

        Raises SourceError. What came until then stays for the next time.
        """
        for folder in (self.files, self.states):
            folder.mkdir(parents=True, exist_ok=True)
        self._drop_others()
        self.partials = [self._opened(f) for f in self.listing.files]
        begun = self.policy.patience.clock()
        progress = Progress(self.partials, begun=begun)
        if progress.at_first:
            self.say(f"{self.uri}: goes on, {progress.at_first} of {progress.total} bytes are here")
        self._check_room(progress)
        largest_first = sorted(self.partials, key=lambda p: -(p.file.size or 0))
        self.pool.add(*(self._task(p) for p in largest_first))
        self.pool.run(
            tick=lambda: self._report(progress),
            every=self.policy.every,
        )

    def _report(self, progress: "Progress") -> None:
        self.say(f"{self.uri}: {progress.line(self.policy.patience.clock())}")

    def _drop_others(self) -> None:
        """Remove files of an earlier listing that are in this one no more."""
        wanted = {self.files / f.path for f in self.listing.files}
        for path in [p for p in self.files.rglob("*") if not p.is_dir()]:
            if path not in wanted:
                path.unlink()

    def _opened(self, file: RemoteFile) -> Partial:
        return partials.opened(file, files=self.files, states=self.states, part=self.policy.part)

    def _check_room(self, progress: "Progress") -> None:
        missing = progress.total - progress.at_first
        free = shutil.disk_usage(self.files).free
        if missing > free:
            raise SourceUnavailableError(
                f"{self.uri}: {missing} bytes are to come, and the node has room for {free}"
            )

    def _task(self, partial: Partial) -> Callable[[], None]:
        return lambda: self._begin(partial)

    def _begin(self, partial: Partial) -> None:
        """Start with one part; the others follow once the server has shown that it gives parts."""
        if partial.checked:
            return
        missing = [s for s in partial.spans if not s.done]
        if not missing:
            self._finish(partial)
            return
        first, *rest = missing
        self.waiting[partial.file.path] = rest
        self._fill(partial, first)

    def _fill(self, partial: Partial, span: Span) -> None:
        if partial.file.size != 0:
            patiently(
                lambda: self._stream(partial, span),
                uri=self._named(partial),
                patience=self.policy.patience,
                progress=lambda: span.have,
                say=self.say,
                wait=self.pool.pause,
            )
        if partial.completed():
            self._finish(partial)

    def _named(self, partial: Partial) -> str:
        return self.uri if self.listing.is_file else f"{self.uri}: {partial.file.path}"

    def _stream(self, partial: Partial, span: Span) -> None:
        """Ask for the rest of a part and write what comes. Raises PassingError where it breaks off."""
        self.pool.check()
        if partial.file.version is None:
            partial.restart(span)
        headers = _range(partial, span)
        with self.remote.get(partial.file, headers) as response:
            self._accept(partial, span, response, ranged=bool(headers))
            self._write(partial, span, response)

    def _accept(
        self, partial: Partial, span: Span, response: requests.Response, *, ranged: bool
    ) -> None:
        """Prepare for what the server sends: the part that was asked for, or the whole file."""
        if response.status_code in _CHANGED:
            raise SourceChangedError(f"{self._named(partial)}: was changed meanwhile")
        check(response, uri=self._named(partial), refused=self.remote.refused)
        if response.status_code == HTTPStatus.PARTIAL_CONTENT:
            self._accept_part(partial, span, response)
        elif ranged:
            self._accept_whole(partial, span)
        said = response.headers.get("Content-Length", "")
        left = None if span.end is None else span.end - span.start - span.have
        if left is not None and said.isdigit() and int(said) != left:
            raise SourceChangedError(
                f"{self._named(partial)}: {left} bytes were to come, the server sends {said}"
            )

    def _accept_part(self, partial: Partial, span: Span, response: requests.Response) -> None:
        said = response.headers.get("Content-Range", "")
        if not said.startswith(f"bytes {span.start + span.have}-"):
            raise PassingError("the server sent another part of the file than asked for")
        total = said.rpartition("/")[2]
        if partial.file.size is not None and total.isdigit() and int(total) != partial.file.size:
            raise SourceChangedError(f"{self._named(partial)}: was changed meanwhile")
        partial.ranges = True
        rest = self.waiting.pop(partial.file.path, [])
        self.pool.add(*(self._span_task(partial, s) for s in rest), first=True)

    def _accept_whole(self, partial: Partial, span: Span) -> None:
        """Take the whole file from a server that knows no parts; else the file is another one."""
        if partial.ranges:
            raise SourceChangedError(f"{self._named(partial)}: was changed meanwhile")
        self.waiting.pop(partial.file.path, None)
        partial.restart(span)

    def _span_task(self, partial: Partial, span: Span) -> Callable[[], None]:
        return lambda: self._fill(partial, span)

    def _write(self, partial: Partial, span: Span, response: requests.Response) -> None:
        try:
            with partial.path.open("r+b") as out:
                out.seek(span.start + span.have)
                while not span.done and (chunk := self._read(span, response)):
                    out.write(chunk)
                    span.have += len(chunk)
                    if span.have - span.saved >= SAVE_BYTES:
                        out.flush()
                        partial.save()
                    self.pool.check()
        finally:
            partial.save()
        if span.end is None:
            span.end = span.start + span.have
        if not span.done:
            raise PassingError("the connection ended before the file did")

    def _read(self, span: Span, response: requests.Response) -> bytes:
        """Return what has come, without waiting for more: nothing of it is lost at a cut."""
        left = self.policy.chunk if span.end is None else span.end - span.start - span.have
        try:
            data: bytes = response.raw.read1(min(left, self.policy.chunk), decode_content=True)
        except CUT as error:
            raise PassingError(cause(error)) from error
        return data

    def _finish(self, partial: Partial) -> None:
        """Check the bytes of a file against what the protocol says of them."""
        wanted = self.remote.checksum(partial.file)
        if wanted is not None:
            found = checksum_of(partial.path, wanted.algorithm)
            if found != wanted.value:
                partial.discard()
                raise ChecksumMismatchError(
                    f"{self._named(partial)}: the server gives {wanted.algorithm} {wanted.value}, "
                    f"what it sent has {found}"
                )
        partial.checked = True
        partial.save()


class Progress:
    """How far it is."""

    def __init__(self, files: list[Partial], *, begun: float) -> None:
        self.files, self.begun = files, begun
        self.at_first = sum(p.have for p in files)
        self.total = sum(p.file.size or 0 for p in files)

    def line(self, now: float) -> str:
        """Return the state in words."""
        have = sum(p.have for p in self.files)
        rate = (have - self.at_first) / max(now - self.begun, 1e-3) / 1e6
        known = (
            f" of {self.total / 1e6:.1f} MB, {100 * have // self.total} %" if self.total else " MB"
        )
        ready = sum(p.checked for p in self.files)
        return f"{have / 1e6:.1f}{known}, {rate:.1f} MB/s, {ready} of {len(self.files)} files"


def _range(partial: Partial, span: Span) -> dict[str, str]:
    """Return the header that asks for what is missing; none where that is the whole file."""
    at = span.start + span.have
    if partial.whole and at == 0:
        return {}
    return {"Range": f"bytes={at}-{'' if span.end is None else span.end - 1}"}
