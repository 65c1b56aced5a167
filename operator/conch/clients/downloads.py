"""Downloading a source into a directory, whatever its protocol.

Into ``folder`` go ``files/``, with what the source holds, and ``.parts/``, the notes of what is
there while it comes. A call that ends too early leaves both, and the next one goes on from there.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from conch.clients.archives import top_of, unpack_layer
from conch.clients.remotes.base import Listing, Place, public
from conch.clients.remotes.downloading import Downloading, Policy
from conch.clients.remotes.listed import listed
from conch.clients.source_errors import SourceChangedError, SourceUnavailableError

_CHANGES = 3
"""So often a source may be changed under the download before that is the error."""
_MODELS = "models"
"""Where images hold their model, by the convention of KServe's modelcars."""
_STATES, _FILES, _UNPACKED = ".parts", "files", "layers"


def download(
    place: Place,
    folder: Path,
    *,
    policy: Policy | None = None,
    say: Callable[[str], object] = str,
) -> Path:
    """Return the file or directory, below ``folder``, with what the source holds.

    Raises SourceError. What had come by then stays in ``folder`` for the next call.
    """
    policy = policy or Policy()
    for left in reversed(range(_CHANGES)):
        try:
            return _download(place, folder, policy, say)
        except SourceChangedError as error:
            if not left:
                raise
            say(str(error))
    raise AssertionError


def _download(place: Place, folder: Path, policy: Policy, say: Callable[[str], object]) -> Path:
    remote, listing = listed(place, policy.patience, say)
    files, states = folder / _FILES, folder / _STATES
    Downloading(
        remote,
        listing,
        uri=public(place.uri),
        files=files,
        states=states,
        policy=policy,
        say=say,
    ).run()
    shutil.rmtree(states, ignore_errors=True)
    if listing.is_file:
        return files / listing.files[0].path
    return _assembled(listing, files, folder / _UNPACKED) if listing.unpack else files


def _assembled(listing: Listing, files: Path, target: Path) -> Path:
    """Return the directory that archives and plain files make, one laid over the other."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    left_out: list[Path] = []
    for file in listing.files:
        origin = files / file.path
        if file.path in listing.unpack:
            left_out += unpack_layer(origin, target)
            origin.unlink()
        else:
            path = target / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            origin.replace(path)
    shutil.rmtree(files)
    return _model_in(target, left_out)


def _model_in(tree: Path, left_out: list[Path]) -> Path:
    """Return where the model is in an image's tree: in ``models/``, where a whole system is around it.

    Raises SourceUnavailableError where links or devices belong to it.
    """
    model = tree / _MODELS if (tree / _MODELS).is_dir() else top_of(tree)
    for path in left_out:
        if path.is_relative_to(model):
            raise SourceUnavailableError(
                f"the artifact holds {path.relative_to(tree)}, which is no plain file: "
                "build it without links and devices"
            )
    return model
