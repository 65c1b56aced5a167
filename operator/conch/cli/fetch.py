"""``conch fetch``, which the init container of each pod runs.

Imports little, and so no typer: it runs on the replica's share of a CPU, before the model can load.
What the node's cache needs comes by the environment, which an older Conch's fetch doesn't mind.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from conch.clients.node_cache import NodeCache
from conch.clients.source_errors import SourceError
from conch.clients.sources import Fetched, Request, fetch

CACHE, POD_NAME, POD_UID = "CONCH_CACHE", "CONCH_POD_NAME", "CONCH_POD_UID"
"""Where the node's cache is in the pod (unset or empty: none), and who reads from it."""
_TERMINATION_LOG = Path("/dev/termination-log")
_FAILED = 1
"""The same attempt may succeed later."""
_FINAL = 3
"""It can't, before something is put right: the source, its Secret, the Model."""
_TERMINATED = 143


def fetch_command(words: Sequence[str]) -> None:
    """Fetch a model's files into a Triton model repository; ends with an error where it can't."""
    # As process 1 of its container it would otherwise not hear that the pod is deleted.
    signal.signal(signal.SIGTERM, _terminated)
    given = _parser().parse_args(words)
    request = Request(**vars(given), cache=_cache(), say=_say)
    try:
        fetched = fetch(request)
    except SourceError as error:
        _fail(str(error), _FINAL if error.final else _FAILED)
    print(_told(request, fetched, _age()))


def _parser() -> argparse.ArgumentParser:
    """Return the options, each of them a field of Request."""
    parser = argparse.ArgumentParser(
        "conch fetch",
        description="Fetch a model's files into a Triton model repository.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--uri", required=True, help="where the files come from; shown in messages")
    add("--model", required=True, help="the model's name in Triton")
    add("--repository", required=True, type=Path, help="the model repository to fill")
    add("--config", type=Path, help="config.pbtxt, used where the source has none")
    add("--sha256", help="as `conch digest` prints it; unset: unchecked")
    add("--source-dir", type=Path, help="where the source is mounted; unset: download the URI")
    add("--credentials", type=Path, help="directory with the keys of the Secret of the source")
    add("--file-name", help="what a source of a single file is called in the model")
    add("--endpoint", help="URL of a mirror, or of a server that speaks the URI's protocol")
    add("--secret-name", help="what the Secret is called, for messages")
    add("--token", type=Path, help="file with a token of the pod's ServiceAccount")
    return parser


def _cache() -> NodeCache | None:
    root, name, uid = (os.environ.get(key) for key in (CACHE, POD_NAME, POD_UID))
    return NodeCache(Path(root), f"{name}_{uid}") if root and name and uid else None


def _told(request: Request, fetched: Fetched, seconds: float) -> str:
    way = {None: "", False: ", kept in the node's cache", True: " from the node's cache"}
    what = f"{request.model}: {fetched.files} files, {fetched.size} bytes"
    checked = "sha256 as wanted" if fetched.sha256 else "no sha256 given"
    return f"{what}{way[fetched.cached]} in {seconds:.2f} s, {checked}"


def _age() -> float:
    """Return the seconds since this process began, before Python did."""
    facts = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    began = int(facts[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _terminated(_signal: int, _frame: object) -> NoReturn:
    sys.exit(_TERMINATED)


def _fail(line: str, status: int) -> NoReturn:
    """Say why on stderr and, in a pod, in its status; end with an error."""
    print(line, file=sys.stderr)
    if _TERMINATION_LOG.exists():
        _TERMINATION_LOG.write_text(line)
    sys.exit(status)
