"""From a URI to what is there, by the module that speaks its protocol."""

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from conch.clients.remotes.base import Listing, Place, Remote, public
from conch.clients.remotes.web import Patience, patiently
from conch.clients.source_errors import SourceUnavailableError


def listed(
    place: Place, patience: Patience | None = None, say: Callable[[str], object] = str
) -> tuple[Remote, Listing]:
    """Return a source and what it holds now. Raises SourceError."""

    def attempt() -> tuple[Remote, Listing]:
        try:
            remote = _remote(place)
        except ValueError as error:  # a URI that can't be read
            raise SourceUnavailableError(str(error)) from error
        return remote, remote.listing()

    return patiently(attempt, uri=public(place.uri), patience=patience or Patience(), say=say)


@dataclass(frozen=True)
class Fingerprint:
    """A text that changes with what a source holds, and its size in bytes where that is known."""

    text: str
    size: int | None


def fingerprint(place: Place, patience: Patience | None = None) -> Fingerprint | None:
    """Return what stands for a source as it is now, or None where its server names no version.

    Downloads nothing: one or two requests, one more for each thousand objects of a bucket. Two
    sources with the same text have the same files under the same names. Raises SourceError where
    the source can't be reached, or may not be read with these credentials.
    """
    _, listing = listed(place, patience)
    if listing.identity is None:
        return None
    sizes = [f.size for f in listing.files if f.size is not None]
    whole = len(sizes) == len(listing.files)
    return Fingerprint(listing.identity, sum(sizes) if whole else None)


def _remote(place: Place) -> Remote:
    """Return the source; imports only what its protocol needs, which may take a second of a CPU."""
    # ruff: noqa: PLC0415
    match urlsplit(place.uri).scheme:
        case "s3":
            from conch.clients.remotes.s3 import S3Objects

            return S3Objects(place)
        case "gs":
            from conch.clients.remotes.gs import GoogleObjects

            return GoogleObjects(place)
        case "hf":
            from conch.clients.remotes.hf import HubFilesOf

            return HubFilesOf(place)
        case "oci":
            from conch.clients.remotes.oci import Artifact

            return Artifact(place)
        case "http" | "https":
            from conch.clients.remotes.over_http import HttpFile

            return HttpFile(place)
    raise SourceUnavailableError(f"{place.uri}: can't be downloaded by this version of Conch")
