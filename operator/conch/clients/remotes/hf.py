"""``hf://``: a model repository of the Hugging Face hub, or of a mirror that speaks its API.

huggingface_hub resolves the revision and lists; the bytes come from the commit's own URLs.
"""

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import requests

from conch.clients.remotes.base import Checksum, Listing, Place, RemoteFile, safe
from conch.clients.remotes.web import (
    AUTHORITY,
    CONNECT_SECONDS,
    PassingError,
    answered,
    ask,
    lacking,
    new_session,
    secret_keys,
    secret_value,
)
from conch.clients.source_errors import SourceUnavailableError
from conch.provisioning.uris import read_hub

_HUB = "https://huggingface.co"
_PASSING = (408, 429)


class HubFilesOf:
    """The files of a repository at one commit, or those below a path in it."""

    def __init__(self, place: Place) -> None:
        self.uri, self.wanted = place.uri, read_hub(place.uri)
        self.token = secret_value(place, "HF_TOKEN", "token") or os.environ.get("HF_TOKEN")
        if place.credentials and not secret_keys(place) & {
            "HF_TOKEN",
            "token",
            "HF_ENDPOINT",
            AUTHORITY,
        }:
            lacking(place, "key HF_TOKEN")
        said = secret_value(place, "HF_ENDPOINT") or os.environ.get("HF_ENDPOINT") or place.endpoint
        self.endpoint = (said or _HUB).rstrip("/")
        self.session = new_session(place)
        if self.session.verify is not True:
            os.environ["SSL_CERT_FILE"] = str(self.session.verify)
        if self.token:
            # requests drops it where the hub sends to the server that holds the bytes.
            self.session.headers["Authorization"] = f"Bearer {self.token}"

    def listing(self) -> Listing:
        """Ask the hub which commit the revision is, and for its files."""
        info = self._info()
        commit, path = str(info.sha), self.wanted.path
        rows = {str(r.rfilename): r for r in info.siblings or ()}
        single = path in rows
        names = [path] if single else [n for n in rows if not path or n.startswith(f"{path}/")]
        if not names:
            raise SourceUnavailableError(
                f"{self.uri}: there is nothing at this path of the repository"
            )
        files = tuple(self._file(rows[n], commit, single=single) for n in sorted(names))
        identity = hashlib.sha256(
            f"{self.endpoint}\n{self.wanted.repository}\n{commit}\n{path}".encode()
        ).hexdigest()
        return Listing(files, is_file=single, identity=identity)

    def _info(self) -> Any:
        from huggingface_hub import HfApi  # noqa: PLC0415
        from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

        api = HfApi(endpoint=self.endpoint, token=self.token or False)
        try:
            return api.model_info(
                self.wanted.repository,
                revision=self.wanted.revision,
                files_metadata=True,
                timeout=CONNECT_SECONDS * 3,
            )
        except HfHubHTTPError as error:
            raise self._fault(error) from error
        except (OSError, ValueError, RuntimeError) as error:
            raise PassingError(f"{type(error).__name__}: {error}") from error
        except Exception as error:
            if type(error).__module__.split(".")[0] not in (
                "httpx",
                "httpx2",
                "httpcore",
                "httpcore2",
            ):
                raise
            raise PassingError(str(error) or type(error).__name__) from error

    def _fault(self, error: Any) -> Exception:
        """Return the hub's refusal in our words; it hides repositories from those who may not know."""
        response: Any = getattr(error, "response", None)
        status = int(getattr(response, "status_code", 0))
        if status in _PASSING or status >= 500:
            wait = response.headers.get("Retry-After", "")
            said = f"the hub answered {status}"
            return PassingError(said, wait=float(wait) if wait.isdigit() else 0.0)
        kind = type(error).__name__
        words = {
            "GatedRepoError": "the repository is gated: ask for access on its page, and give a token "
            "of that account (HF_TOKEN)",
            "RevisionNotFoundError": f"the repository has no revision {self.wanted.revision!r}",
            "RepositoryNotFoundError": "there is no such repository, or this token may not see it"
            if self.token
            else "there is no such repository, or it wants a token (HF_TOKEN)",
        }.get(kind, f"the hub answered {status}")
        return SourceUnavailableError(f"{self.uri}: {words}")

    def _file(self, row: Any, commit: str, *, single: bool) -> RemoteFile:
        name, path = str(row.rfilename), self.wanted.path
        shown = name.rpartition("/")[2] if single else name.removeprefix(path).lstrip("/")
        checksum = None
        if row.lfs is not None and row.lfs.sha256:
            checksum = Checksum("sha256", row.lfs.sha256)
        elif row.blob_id:
            checksum = Checksum("git", row.blob_id)
        return RemoteFile(safe(shown), self._url(name, commit), row.size, commit, checksum)

    def _url(self, name: str, commit: str) -> str:
        from huggingface_hub import hf_hub_url  # noqa: PLC0415

        return hf_hub_url(self.wanted.repository, name, revision=commit, endpoint=self.endpoint)

    def get(self, file: RemoteFile, headers: Mapping[str, str]) -> requests.Response:
        """Ask for a file of the commit, or a part of it; the hub may send to another server."""
        return ask(self.session, "GET", file.key, headers=headers, uri=self.uri)

    def checksum(self, file: RemoteFile) -> Checksum | None:
        """Return that of the commit: large files have a sha256, others that of git."""
        return file.checksum

    def refused(self, response: requests.Response) -> str:
        """Return what the answer means."""
        said = response.headers.get("X-Error-Message", "")
        return f"{answered(response)}{f': {said}' if said else ''}"
