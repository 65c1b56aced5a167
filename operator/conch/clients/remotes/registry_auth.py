"""How a registry is logged in to: a password, or a token that its own server gives for one."""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import requests

from conch.clients.remotes.base import Place
from conch.clients.remotes.web import (
    AUTHORITY,
    PassingError,
    answered,
    ask,
    check,
    lacking,
    secret_keys,
    secret_value,
)
from conch.clients.source_errors import SourceUnavailableError
from conch.provisioning.uris import DOCKER_HUB

CONFIG = ".dockerconfigjson"
_HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io")
_FIELD = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Credentials:
    """What a Secret holds for one registry."""

    user: str = ""
    password: str = ""
    refresh_token: str = ""
    bearer: str = ""


class Login:
    """The login to one repository, for many threads."""

    def __init__(self, place: Place, registry: str, repository: str) -> None:
        self.uri = place.uri
        self.given = _credentials(place, registry)
        self.scope = f"repository:{repository}:pull"
        self._header: dict[str, str] = {}
        if self.given and self.given.bearer:
            self._header = {"Authorization": f"Bearer {self.given.bearer}"}

    def header(self) -> dict[str, str]:
        """Return what worked last."""
        return self._header

    def answer(
        self, session: requests.Session, demand: str, sent: Mapping[str, str]
    ) -> dict[str, str]:
        """Return the header that answers a registry's demand (its WWW-Authenticate)."""
        kind, _, rest = demand.partition(" ")
        if kind.lower() == "bearer":
            self._header = {
                "Authorization": f"Bearer {self._token(session, dict(_FIELD.findall(rest)))}"
            }
        elif kind.lower() == "basic" and self.given and self.given.user and not sent:
            self._header = _basic(self.given)
        else:
            hint = (
                "these credentials are refused"
                if self.given
                else "it wants credentials (secretRef)"
            )
            raise SourceUnavailableError(f"{self.uri}: {hint}")
        return self._header

    def _token(self, session: requests.Session, said: Mapping[str, str]) -> str:
        realm = said.get("realm", "")
        if not realm.startswith(("https://", "http://")):
            raise SourceUnavailableError(f"{self.uri}: the registry names no server for tokens")
        words = {"service": said.get("service", ""), "scope": said.get("scope") or self.scope}
        with self._ask_for_token(session, realm, words) as response:
            check(response, uri=self.uri, refused=self._refused)
            try:
                answer: dict[str, Any] = response.json()
            except ValueError as error:
                raise PassingError("the server for tokens sent none") from error
        return str(answer.get("token") or answer.get("access_token") or "")

    def _ask_for_token(
        self, session: requests.Session, realm: str, words: dict[str, str]
    ) -> requests.Response:
        if self.given and self.given.refresh_token:
            form = {**words, "grant_type": "refresh_token", "client_id": "conch"}
            form["refresh_token"] = self.given.refresh_token
            return ask(session, "POST", realm, uri=self.uri, data=form)
        headers = _basic(self.given) if self.given and self.given.user else {}
        return ask(session, "GET", realm, headers=headers, uri=self.uri, params=words)

    def _refused(self, response: requests.Response) -> str:
        if response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return (
                "these credentials are refused"
                if self.given
                else "it wants credentials (secretRef)"
            )
        return f"the server for tokens: {answered(response)}"


def _basic(given: Credentials) -> dict[str, str]:
    text = base64.b64encode(f"{given.user}:{given.password}".encode()).decode()
    return {"Authorization": f"Basic {text}"}


def _credentials(place: Place, registry: str) -> Credentials | None:
    if place.credentials is None:
        return None
    user, password = secret_value(place, "username"), secret_value(place, "password")
    if user and password:
        return Credentials(user, password)
    text = secret_value(place, CONFIG)
    if text is None:
        if secret_keys(place) == {AUTHORITY}:
            return None
        lacking(place, f"key {CONFIG}, nor the keys username and password")
    return _of_config(place, text, registry)


def _of_config(place: Place, text: str, registry: str) -> Credentials | None:
    try:
        logins = json.loads(text)["auths"]
        keys = (registry, *(_HUB_KEYS if registry == DOCKER_HUB else ()))
        found = next((v for k, v in logins.items() if k in keys or _host(k) in keys), None)
        if found is None:
            lacking(place, f"login for {registry} in its {CONFIG}")
        user, _, password = (
            base64.b64decode(found.get("auth", ""), validate=True).decode().partition(":")
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        name = place.secret_name or "of secretRef"
        raise SourceUnavailableError(
            f"the key {CONFIG} of the Secret {name} can't be read"
        ) from error
    return Credentials(
        user=found.get("username") or user,
        password=found.get("password") or password,
        refresh_token=found.get("identitytoken", ""),
        bearer=found.get("registrytoken", ""),
    )


def _host(key: str) -> str:
    """Return the registry that a key of such a file names, which may be a URL or have a path."""
    return key.partition("://")[2].partition("/")[0] or key.partition("/")[0]
