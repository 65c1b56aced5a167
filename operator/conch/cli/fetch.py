"""``conch fetch``, which the init container of each pod runs, and ``conch digest``.

Imports little: it runs on the replica's share of a CPU, before the model can load.
"""

import signal
import sys
import time
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from conch.clients.checksums import digest_of
from conch.clients.source_errors import SourceError
from conch.clients.sources import Request, fetch

_TERMINATION_LOG = Path("/dev/termination-log")
_FAILED = 1
_TERMINATED = 143


def fetch_command(
    *,
    uri: Annotated[str, typer.Option(help="where the files come from; shown in messages")],
    model: Annotated[str, typer.Option(help="the model's name in Triton")],
    repository: Annotated[Path, typer.Option(help="the model repository to fill")],
    config: Annotated[
        Path | None, typer.Option(help="config.pbtxt, used where the source has none")
    ] = None,
    sha256: Annotated[
        str | None, typer.Option(help="as `conch digest` prints it; unset: unchecked")
    ] = None,
    source_dir: Annotated[
        Path | None, typer.Option(help="where the source is mounted; unset: download the URI")
    ] = None,
    credentials: Annotated[
        Path | None, typer.Option(help="directory with token, or username and password")
    ] = None,
    file_name: Annotated[
        str | None, typer.Option(help="what a source of a single file is called in the model")
    ] = None,
) -> None:
    """Fetch a model's files into a Triton model repository."""
    # As process 1 of its container it would otherwise not hear that the pod is deleted.
    signal.signal(signal.SIGTERM, _terminated)
    started = time.monotonic()
    request = Request(
        uri=uri,
        model=model,
        repository=repository,
        config=config,
        sha256=sha256,
        source_dir=source_dir,
        credentials=credentials,
        file_name=file_name,
    )
    try:
        fetched = fetch(request)
    except SourceError as error:
        _fail(str(error))
    seconds = time.monotonic() - started
    checked = "sha256 as wanted" if fetched.sha256 else "no sha256 given"
    print(f"{model}: {fetched.files} files, {fetched.size} bytes in {seconds:.1f} s, {checked}")


def digest_command(
    path: Annotated[Path, typer.Argument(help="a file or directory", exists=True)],
) -> None:
    """Print the sha256 of a model's file or directory, for spec.variants[].source.sha256."""
    print(digest_of(path))


def _terminated(_signal: int, _frame: object) -> NoReturn:
    sys.exit(_TERMINATED)


def _fail(line: str) -> NoReturn:
    """Say why on stderr and, in a pod, in its status; end with an error."""
    print(line, file=sys.stderr)
    if _TERMINATION_LOG.exists():
        _TERMINATION_LOG.write_text(line)
    raise typer.Exit(_FAILED)
