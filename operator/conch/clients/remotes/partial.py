"""A file that is being downloaded: which parts are on the disk, kept beside it across restarts.

The bytes go to their place in the file itself, so nothing is copied in the end. A small file of
state says how far each part came; it is written after the bytes that it counts.
"""

import hashlib
import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conch.clients.remotes.base import RemoteFile

_PARTS = 256
"""At most, so that the state of the largest file stays small."""
SAVE_BYTES = 8 << 20
"""How much a part grows between two notes of its progress."""


@dataclass
class Span:
    """A part of a file, from ``start`` up to ``end`` (unknown: None); ``have`` bytes of it are here."""

    start: int
    end: int | None
    have: int = 0
    saved: int = 0

    @property
    def done(self) -> bool:
        """Whether all of it is here."""
        return self.end is not None and self.start + self.have >= self.end


@dataclass
class Partial:
    """One file and its parts. ``checked`` once its bytes are the right ones."""

    file: RemoteFile
    path: Path
    state: Path
    spans: list[Span]
    checked: bool = False
    ranges: bool = False
    """Whether the server has answered with a part, in this process."""
    ended: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def have(self) -> int:
        """How many bytes are here."""
        return sum(s.have for s in self.spans)

    @property
    def whole(self) -> bool:
        """Whether it is one part, which may come without a range."""
        return len(self.spans) == 1 and self.spans[0].start == 0

    def save(self) -> None:
        """Note what is here. A file without a version is not noted: it can't be gone on with."""
        if self.file.version is None:
            return
        with self.lock:
            for span in self.spans:
                span.saved = span.have
            parts = [[s.start, s.end, s.have] for s in self.spans]
            fresh = self.state.with_suffix(".new")
            fresh.write_text(json.dumps({**_named(self.file), "parts": parts, "ok": self.checked}))
            fresh.replace(self.state)

    def completed(self) -> bool:
        """Return True to the first who asks once all parts are here."""
        with self.lock:
            first = not self.ended and all(s.done for s in self.spans)
            self.ended = self.ended or first
            return first

    def restart(self, span: Span | None = None) -> None:
        """Begin anew, with one part, which ``span`` becomes."""
        span = span or Span(0, self.file.size)
        span.start, span.end, span.have, span.saved = 0, self.file.size, 0, 0
        self.spans = [span]
        self.path.unlink(missing_ok=True)
        self.path.touch()
        self.state.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove it from the disk."""
        self.path.unlink(missing_ok=True)
        self.state.unlink(missing_ok=True)


def opened(file: RemoteFile, *, files: Path, states: Path, part: int) -> Partial:
    """Return a file as an earlier attempt left it, else a new one in parts of ``part`` bytes."""
    name = hashlib.sha256(file.path.encode(errors="surrogateescape")).hexdigest()
    partial = Partial(file, files / file.path, states / name, [])
    partial.path.parent.mkdir(parents=True, exist_ok=True)
    if not _restored(partial):
        partial.restart()
        partial.spans = _spans(file, part)
    return partial


def _restored(partial: Partial) -> bool:
    try:
        noted: dict[str, Any] = json.loads(partial.state.read_text())
        if {k: noted.get(k) for k in ("path", "size", "version")} != _named(partial.file):
            return False
        partial.spans = [Span(start, end, have, have) for start, end, have in noted["parts"]]
        partial.checked = bool(noted["ok"])
        return partial.path.stat().st_size >= max(s.start + s.have for s in partial.spans if s.have)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _named(file: RemoteFile) -> dict[str, Any]:
    return {"path": file.path, "size": file.size, "version": file.version}


def _spans(file: RemoteFile, part: int) -> list[Span]:
    if file.size is None or file.version is None or file.size <= part:
        return [Span(0, file.size)]
    step = max(part, -(-file.size // _PARTS))
    return [Span(at, min(at + step, file.size)) for at in range(0, file.size, step)]
