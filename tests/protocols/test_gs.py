"""What is Google Cloud Storage's own: keys, federations, composite and packed objects."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from conch.clients.downloads import download
from conch.clients.remotes.base import Place
from conch.clients.remotes.downloading import Policy
from conch.clients.remotes.listed import listed
from conch.clients.remotes.web import Patience
from conch.clients.source_errors import ChecksumMismatchError, SourceUnavailableError
from tests.kit.model_servers import GoogleStorage, secret, service_account
from tests.kit.web import Asked, Fault, Relay, Reply, Server

POLICY = Policy(patience=Patience(limit=0.5, first_pause=0.01))


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoogleStorage]:
    with GoogleStorage.start(tmp_path_factory.mktemp("gs")) as found:
        found.put("digits", {"1/model.py": b"code"})
        yield found


@pytest.fixture
def gs(started: GoogleStorage, monkeypatch: pytest.MonkeyPatch) -> GoogleStorage:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    started.relay.forget()
    return started


def _got(place: Place, folder: Path) -> bytes:
    return (download(place, folder, policy=POLICY) / "1/model.py").read_bytes()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no json", "the key service-account.json of the Secret login is no Google credential"),
        ('{"type": "service_account"}', "is no Google credential"),
        ('{"type": "external_account", "credential_source": {"executable": {}}}', "is no Google"),
        ("[]", "is no Google credential"),
    ],
)
def test_a_key_that_is_none_is_told(
    gs: GoogleStorage, tmp_path: Path, text: str, said: str
) -> None:
    given = secret(tmp_path / "secret", **{"service-account__json": text})
    place = replace(gs.place("gs://models/digits"), credentials=given, secret_name="login")
    with pytest.raises(SourceUnavailableError, match=said):
        _got(place, tmp_path / "to")


def test_an_account_that_may_not_read_is_told(gs: GoogleStorage, tmp_path: Path) -> None:
    key = service_account(f"{gs.relay.url}/token", email="stranger")
    given = secret(tmp_path / "secret", **{"service-account__json": json.dumps(key)})
    with pytest.raises(
        SourceUnavailableError, match=r"credentials are refused.*Anonymous"
    ) as caught:
        _got(replace(gs.place("gs://models/digits"), credentials=given), tmp_path / "to")
    assert "PRIVATE" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("gs://nowhere/digits", "there is no such bucket"),
        ("gs://models/digit", "there is nothing at this path of the bucket"),
    ],
)
def test_what_is_missing_is_told_apart(
    gs: GoogleStorage, tmp_path: Path, uri: str, said: str
) -> None:
    with pytest.raises(SourceUnavailableError, match=f"{uri}: {said}"):
        _got(gs.place(uri), tmp_path)


class TokenExchange(Server):
    """Gives a token for a ServiceAccount's, as Google's workload identity federation does."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self.token = token

    def answer(self, asked: Asked) -> Reply:
        """Answer a token exchange."""
        words = {k: v[0] for k, v in parse_qs(asked.body.decode()).items()}
        if words["subject_token"] != "pods-own":
            return Reply(401, b'{"error": "invalid_grant"}')
        kind = "urn:ietf:params:oauth:token-type:access_token"
        body = {"access_token": self.token, "issued_token_type": kind, "expires_in": 3600}
        return Reply(200, json.dumps({**body, "token_type": "Bearer"}).encode())


@pytest.mark.parametrize("token", ["pods-own", "strangers"])
def test_the_accounts_token_is_taken_for_credentials(
    gs: GoogleStorage, tmp_path: Path, token: str
) -> None:
    (tmp_path / "token").write_text(token)
    with TokenExchange("ya29.good") as sts:
        federation = {
            "type": "external_account",
            "audience": "//iam.googleapis.com/projects/1/pool",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": f"{sts.url}/v1/token",
            "credential_source": {"file": str(tmp_path / "token")},
        }
        given = secret(tmp_path / "s", **{"service-account__json": json.dumps(federation)})
        place = replace(gs.place("gs://models/digits"), credentials=given)
        if token == "pods-own":
            assert _got(place, tmp_path / "to") == b"code"
        else:
            with pytest.raises(SourceUnavailableError, match="the credentials are refused"):
                _got(place, tmp_path / "to")


def test_a_secret_names_its_own_server(gs: GoogleStorage, tmp_path: Path) -> None:
    host = gs.direct.removeprefix("http://")
    given = secret(tmp_path / "secret", STORAGE_EMULATOR_HOST=host)
    place = Place("gs://models/digits", endpoint="http://127.0.0.1:1", credentials=given)
    assert _got(place, tmp_path / "to") == b"code"


class _Described(Relay):
    """A relay that changes what is said of objects."""

    changes: dict[str, str | None]

    def answer(self, asked: Asked) -> Reply:
        reply = self.handed_on(asked)
        if "alt=media" in asked.path:
            return reply
        body = json.loads(reply.body)
        for row in body.get("items", [body]):
            row.update(self.changes)
        return replace(reply, body=json.dumps(body).encode())


def test_a_composite_object_is_checked_by_its_crc32c(gs: GoogleStorage, tmp_path: Path) -> None:
    with _Described(gs.direct) as relay:
        relay.changes = {"md5Hash": None}
        place = Place("gs://models/digits", endpoint=relay.url)
        assert listed(place)[1].files[0].checksum is not None
        assert _got(place, tmp_path / "to") == b"code"
        relay.befall(Fault(flipped=True, match="alt=media"))
        with pytest.raises(ChecksumMismatchError, match="gives crc32c"):
            _got(place, tmp_path / "wrong")


def test_an_object_that_is_stored_packed_is_refused(gs: GoogleStorage, tmp_path: Path) -> None:
    with _Described(gs.direct) as relay:
        relay.changes = {"contentEncoding": "gzip"}
        with pytest.raises(SourceUnavailableError, match="is stored packed"):
            _got(Place("gs://models/digits", endpoint=relay.url), tmp_path)


def test_an_object_that_is_overwritten_meanwhile_is_fetched_anew(
    gs: GoogleStorage, tmp_path: Path
) -> None:
    gs.put_file("moving.onnx", b"old" * 1000)

    class Overwriting(Relay):
        def answer(self, asked: Asked) -> Reply:
            if len(self.asked) == 2:
                gs.put_file("moving.onnx", b"new" * 1000)
            return self.handed_on(asked)

    with Overwriting(gs.direct) as relay:
        place = Place("gs://models/single/moving.onnx", endpoint=relay.url)
        assert download(place, tmp_path, policy=POLICY).read_bytes() == b"new" * 1000


def test_long_lists_are_read_to_their_end(gs: GoogleStorage, tmp_path: Path) -> None:
    class Short(Relay):
        def answer(self, asked: Asked) -> Reply:
            if "prefix=" in asked.path:
                asked = replace(asked, path=f"{asked.path}&maxResults=2")
            return self.handed_on(asked)

    files = {f"{i}.bin": bytes([i]) for i in range(5)}
    uri = gs.put("many", files)
    with Short(gs.direct) as relay:
        found = download(Place(uri, endpoint=relay.url), tmp_path, policy=POLICY)
    assert {p.name: p.read_bytes() for p in found.iterdir()} == files
