"""The samples of a service's page, taken from its HTML and run as they stand."""

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

_PREFIX = "sample-"
TIMEOUT_S = 120.0


class _Samples(HTMLParser):
    """Gathers the text of every ``<pre id="sample-…">``."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: dict[str, str] = {}
        self._inside: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a sample."""
        name = dict(attrs).get("id") or ""
        if tag == "pre" and name.startswith(_PREFIX):
            self._inside = name.removeprefix(_PREFIX)
            self.found[self._inside] = ""

    def handle_endtag(self, tag: str) -> None:
        """End a sample."""
        if tag == "pre":
            self._inside = None

    def handle_data(self, data: str) -> None:
        """Take the text of the sample that is open."""
        if self._inside is not None:
            self.found[self._inside] += data


def samples_in(html: str) -> dict[str, str]:
    """Return the samples of a page, by language: curl, python-urllib, python-http, python-grpc."""
    parser = _Samples()
    parser.feed(html)
    parser.close()
    return parser.found


def run_sample(
    language: str, text: str, *, folder: Path, key: str | None
) -> subprocess.CompletedProcess[str]:
    """Run a sample in a folder, with the key in its environment and no proxy between.

    Curl's is for any POSIX shell; the others are for this Python, which has Triton's clients.
    """
    program = ["/bin/sh"] if language == "curl" else [sys.executable, "-W", "error"]
    file = folder / f"{language}.txt"
    file.write_text(text)
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "no_proxy": "*"}
    return subprocess.run(
        [*program, str(file)],
        cwd=folder,
        env={**environment, **({} if key is None else {"KEY": key})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
