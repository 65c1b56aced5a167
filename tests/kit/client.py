"""A small client of the API server for tests: objects as dictionaries, watches on a thread."""

import contextlib
import json
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests
import yaml
from requests.adapters import HTTPAdapter

from tests.kit.upstream import Upstream, client_pem

Object = dict[str, Any]
_TIMEOUT = 90


class ApiError(Exception):
    """The API server refused; ``status`` is its code, the text its message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class Client:
    """An API server as its administrator. Paths are those of the API, such as /api/v1/nodes."""

    def __init__(self, kubeconfig: Path) -> None:
        self._files = tempfile.TemporaryDirectory(prefix="conch-test-client-")
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy of the machine is not meant for loopback
        # Threads share it; a connection beyond the pool's would be made anew for each request.
        self._session.mount("https://", HTTPAdapter(pool_maxsize=64))
        self._server = Upstream.from_kubeconfig(kubeconfig).server
        self._session.verify, self._session.cert = client_pem(kubeconfig, Path(self._files.name))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop connections and the certificates' files."""
        self._session.close()
        self._files.cleanup()

    def get(self, path: str) -> Object:
        """Return one object, or a list."""
        return self._ask("GET", path)

    def text(self, path: str) -> str:
        """Return what is no object, such as /metrics."""
        answer = self._session.get(self._server + path, timeout=_TIMEOUT)
        if not answer.ok:
            raise ApiError(answer.status_code, answer.text)
        return answer.text

    def find(self, path: str) -> Object | None:
        """Return one object, or None where there is none."""
        try:
            return self.get(path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def items(self, path: str) -> list[Object]:
        """Return the objects of a list."""
        found: list[Object] = self.get(path)["items"]
        return found

    def create(self, path: str, body: Object) -> Object:
        """Create an object in the collection at ``path``, which may carry a query."""
        return self._ask("POST", path, body)

    def apply(self, path: str, body: Object, *, manager: str = "test") -> Object:
        """Make the object so, by server-side apply."""
        kind = "application/apply-patch+yaml"
        return self._ask("PATCH", f"{path}?fieldManager={manager}&force=true", body, kind)

    def merge(self, path: str, body: Object) -> Object:
        """Change the fields in ``body``."""
        return self._ask("PATCH", path, body, "application/merge-patch+json")

    def delete(self, path: str, *, grace_seconds: int | None = None) -> None:
        """Delete an object, its dependents in the background; it is no error if it is gone."""
        grace = {} if grace_seconds is None else {"gracePeriodSeconds": grace_seconds}
        try:
            self._ask("DELETE", path, {"propagationPolicy": "Background", **grace})
        except ApiError as error:
            if error.status != 404:
                raise

    def _ask(
        self, method: str, path: str, body: Object | None = None, kind: str = "application/json"
    ) -> Object:
        data = None if body is None else _as_yaml(body)
        headers = {"Content-Type": kind}
        answer = self._session.request(
            method, self._server + path, data=data, headers=headers, timeout=_TIMEOUT
        )
        if not answer.ok:
            raise ApiError(answer.status_code, _message(answer))
        found: Object = answer.json()
        return found

    @contextlib.contextmanager
    def watching(
        self, path: str, see: Callable[[str, Object], None], *, resumes: bool = False
    ) -> Iterator["Watch"]:
        """Call ``see`` with the type and object of each event at ``path`` while the body runs.

        It runs on a thread of its own, from the state at the start on. What ``see`` raises, or
        that the watch ended early, is raised at the end of the body; one that ``resumes`` goes on
        where it ended, as on a busy machine the API server drops those who read too slowly.
        """

        def opened(version: str) -> requests.Response:
            url = f"{self._server}{path}?watch=true&resourceVersion={version}&timeoutSeconds=3000"
            return self._session.get(url, stream=True, timeout=(_TIMEOUT, None))

        watch = Watch(opened, self.get(path)["metadata"]["resourceVersion"], see, resumes=resumes)
        watch.start()
        try:
            yield watch
        finally:
            watch.stop()
        if watch.error:
            raise watch.error


class Watch(threading.Thread):
    """Reads a watch's answer; begins once it was opened."""

    def __init__(
        self,
        opened: Callable[[str], requests.Response],
        version: str,
        see: Callable[[str, Object], None],
        *,
        resumes: bool,
    ) -> None:
        super().__init__(name="test-watch", daemon=True)
        self.error: BaseException | None = None
        self._opened = opened
        self._version = version
        self._see = see
        self._resumes = resumes
        self._stopped = False
        self._answer = opened(version)

    @property
    def ended(self) -> bool:
        """Whether it reads no more."""
        return not self.is_alive()

    def run(self) -> None:
        """Hand on event by event until the answer ends."""
        try:
            while self._read() and self._resumes and not self._stopped:
                self._answer = self._opened(self._version)
            error: BaseException = RuntimeError("the watch ended before the test did")
        except BaseException as raised:  # noqa: BLE001 -- handed to the test's own thread
            error = raised
        self.error = None if self._stopped else error

    def _read(self) -> bool:
        """Read to the end of one answer; tell whether there was anything."""
        before = self._version
        for line in self._answer.iter_lines(chunk_size=None):  # type: ignore[call-overload]  # as they come
            event = json.loads(line)
            self._version = event["object"]["metadata"].get("resourceVersion", self._version)
            self._see(event["type"], event["object"])
        return self._version != before

    def stop(self) -> None:
        """End it; returns once the thread has ended."""
        self._stopped = True
        # Closing alone waits for the stream's end; shutting the socket wakes the reader.
        connection = getattr(self._answer.raw, "connection", None) or self._answer.raw._connection
        with contextlib.suppress(OSError, AttributeError):
            connection.sock.shutdown(2)
        self.join(10)
        self._answer.close()


_PAIR = re.compile(r"\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}")


def _as_yaml(body: Object) -> bytes:
    """Return JSON that is YAML too, as which patches are read: it has no pairs of surrogates."""
    text = _PAIR.sub(lambda found: str(json.loads(f'"{found[0]}"')), json.dumps(body))
    return text.encode()


def _message(answer: requests.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, LookupError, TypeError):
        return answer.text


def manifests(path: Path) -> list[Object]:
    """Return the objects of a YAML file."""
    return [m for m in yaml.safe_load_all(path.read_text()) if m]
