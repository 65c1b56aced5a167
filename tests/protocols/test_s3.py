"""What is S3's own: where credentials come from, what its errors mean, what an ETag is worth."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs

import obstore
import pytest

from conch.clients.downloads import download
from conch.clients.remotes import s3 as s3_module
from conch.clients.remotes.base import Place
from conch.clients.remotes.downloading import Policy
from conch.clients.remotes.listed import listed
from conch.clients.remotes.s3 import S3Objects
from conch.clients.remotes.web import Patience
from conch.clients.source_errors import ChecksumMismatchError, SourceUnavailableError
from conch.clients.sources import Request, fetch
from tests.kit.model_servers import PASSWORD, S3, USER, certificate, secret
from tests.kit.web import Asked, Fault, Relay, Reply, Server, Shelf

POLICY = Policy(patience=Patience(limit=0.5, first_pause=0.01))
ROLE = "arn:aws:iam::1:role/reader"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with S3.start(tmp_path_factory.mktemp("s3")) as found:
        found.put("digits", {"1/model.py": b"code"})
        yield found


@pytest.fixture
def s3(started: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    monkeypatch.setenv("NO_PROXY", "*")
    started.relay.forget()
    return started


def _got(place: Place, folder: Path) -> bytes:
    return (download(place, folder, policy=POLICY) / "1/model.py").read_bytes()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"AWS_ACCESS_KEY_ID": USER}, "has no keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ({"password": "x"}, "the Secret 'login' has no keys AWS_ACCESS_KEY_ID and"),
        (
            {"AWS_ACCESS_KEY_ID": USER, "AWS_SECRET_ACCESS_KEY": "wrong"},
            "the secret access key is not that of the access key",
        ),
        (
            {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "wrong"},
            "No user exists with the provided access key",
        ),
    ],
)
def test_wrong_credentials_are_told_in_a_sentence(
    s3: S3, tmp_path: Path, values: dict[str, str], said: str
) -> None:
    given = secret(tmp_path / "secret", **values)
    place = replace(s3.place("s3://models/digits"), credentials=given, secret_name="login")
    with pytest.raises(SourceUnavailableError, match=said) as caught:
        _got(place, tmp_path / "to")
    assert caught.value.final
    assert "wrong" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("s3://nowhere/digits", "there is no such bucket"),
        ("s3://nowhere", "there is no such bucket"),
        ("s3://models/digit", "there is nothing at this path of the bucket"),
        ("s3://models/digits/1/model.py/", "there is nothing at this path of the bucket"),
    ],
)
def test_what_is_missing_is_told_apart(s3: S3, tmp_path: Path, uri: str, said: str) -> None:
    with pytest.raises(SourceUnavailableError, match=f"{uri}: {said}"):
        _got(s3.place(uri), tmp_path)


def test_a_secret_names_its_own_server(s3: S3, tmp_path: Path) -> None:
    given = secret(
        tmp_path / "secret",
        AWS_ACCESS_KEY_ID=USER,
        AWS_SECRET_ACCESS_KEY=PASSWORD,
        AWS_ENDPOINT_URL=s3.relay.url,
    )
    place = Place("s3://models/digits", endpoint="http://127.0.0.1:1", credentials=given)
    assert _got(place, tmp_path / "to") == b"code"


def test_credentials_and_servers_may_stand_in_the_environment(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", USER)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", PASSWORD)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.relay.url)
    assert _got(Place("s3://models/digits"), tmp_path) == b"code"


class TokenService(Server):
    """Gives credentials for a ServiceAccount's token, as AWS's STS does."""

    def answer(self, asked: Asked) -> Reply:
        """Answer AssumeRoleWithWebIdentity."""
        words = {k: v[0] for k, v in parse_qs(asked.path.partition("?")[2]).items()}
        words |= {k: v[0] for k, v in parse_qs(asked.body.decode()).items()}
        assert words["Action"] == "AssumeRoleWithWebIdentity"
        if words["RoleArn"] != ROLE or words["WebIdentityToken"] != "pods-own":
            return Reply(403, b"<Error><Code>AccessDenied</Code></Error>")
        given = (
            f"<AccessKeyId>{USER}</AccessKeyId><SecretAccessKey>{PASSWORD}</SecretAccessKey>"
            "<SessionToken>of-the-role</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>"
        )
        whole = f"<AssumeRoleWithWebIdentityResult><Credentials>{given}</Credentials>"
        return Reply(
            200,
            f"<AssumeRoleWithWebIdentityResponse>{whole}</AssumeRoleWithWebIdentityResult>"
            "</AssumeRoleWithWebIdentityResponse>".encode(),
        )


def test_the_accounts_token_is_taken_for_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    (tmp_path / "token").write_text("pods-own")
    authority, pair = certificate(tmp_path / "pki")
    given = secret(tmp_path / "s", AWS_ROLE_ARN=ROLE, ca__crt=authority.read_text())
    with TokenService(secured=pair) as sts, Shelf({"/models/m.onnx": b"code"}) as shelf:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        place = Place(
            "s3://models/m.onnx",
            endpoint=shelf.url,
            credentials=given,
            token=tmp_path / "token",
        )
        assert download(place, tmp_path / "to", policy=POLICY).read_bytes() == b"code"
        assert shelf.asked
        for asked in shelf.asked:
            words = parse_qs(asked.path.partition("?")[2])
            assert words["X-Amz-Security-Token"] == ["of-the-role"]
            assert words["X-Amz-Credential"][0].startswith(f"{USER}/")
        (tmp_path / "token").write_text("strangers")
        with pytest.raises(SourceUnavailableError, match="access denied"):
            download(place, tmp_path / "no", policy=POLICY)


def test_who_has_no_credentials_reads_public_objects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    with Shelf({"/models/a%20b.onnx": b"code"}) as shelf:
        place = Place("s3://models/a%20b.onnx", endpoint=shelf.url)
        assert download(place, tmp_path, policy=POLICY).read_bytes() == b"code"
        assert {a.path for a in shelf.asked} == {"/models/a%20b.onnx"}


def test_the_region_of_a_bucket_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Amazon(Server):
        def answer(self, asked: Asked) -> Reply:
            return Reply(403, b"", {"x-amz-bucket-region": "eu-north-1"})

    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", USER)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", PASSWORD)
    with Amazon() as amazon:
        monkeypatch.setattr(s3_module, "_ANYWHERE", amazon.url)
        assert S3Objects(Place("s3://models/m")).config["region"] == "eu-north-1"
        assert [a.path for a in amazon.asked] == ["/models"]


def test_a_region_that_is_wrong_is_told(s3: S3, tmp_path: Path) -> None:
    s3.relay.befall(Fault(status=301, headers={"x-amz-bucket-region": "eu-north-1"}))
    with pytest.raises(SourceUnavailableError, match="in the region eu-north-1: set AWS_REGION"):
        _got(s3.place("s3://models/digits"), tmp_path)


def test_folders_that_consoles_make_are_no_files(s3: S3) -> None:
    s3.put("folders", {"1/x": b"", "y": b""})
    remote, _ = listed(s3.place("s3://models/folders"))
    rows = [
        [{"path": p, "size": 0, "e_tag": '"1"'} for p in ("folders/1", "folders/1/x", "folders/y")]
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(obstore, "list", lambda *_: rows)
        assert [f.path for f in remote.listing().files] == ["1/x", "y"]


def test_an_object_that_was_written_in_parts_has_no_md5_and_is_checked_by_sha256(
    s3: S3, tmp_path: Path
) -> None:
    obstore.put(s3.store(), "parts.onnx", bytes(6 << 20), use_multipart=True, chunk_size=5 << 20)
    s3.relay.befall(Fault(flipped=True, **s3.data))
    place = s3.place("s3://models/parts.onnx")
    assert len(download(place, tmp_path / "to", policy=POLICY).read_bytes()) == 6 << 20
    s3.relay.befall(Fault(flipped=True, **s3.data))
    request = Request(
        uri=place.uri,
        model="m",
        repository=tmp_path / "models",
        sha256="e1a1b0c3" * 8,
        endpoint=place.endpoint,
        credentials=place.credentials,
    )
    with pytest.raises(ChecksumMismatchError, match="wanted sha256 e1a1b0c3"):
        fetch(request)


def test_encrypted_objects_are_not_held_against_their_etag(s3: S3, tmp_path: Path) -> None:
    class Encrypting(Relay):
        def answer(self, asked: Asked) -> Reply:
            reply = self.handed_on(asked)
            headers = {**reply.headers, "ETag": '"' + "0" * 32 + '"'}
            kms = {"x-amz-server-side-encryption": "aws:kms"}
            return replace(reply, headers={**headers, **kms})

    s3.put_file("kms.onnx", b"secret")
    with Encrypting(s3.relay.url) as relay:
        place = replace(s3.place("s3://models/single/kms.onnx"), endpoint=relay.url)

        # The relay's ETag is none that the server would match.
        class Plain(Encrypting):
            def answer(self, asked: Asked) -> Reply:
                kept = {k: v for k, v in asked.headers.items() if k.lower() != "if-match"}
                return super().answer(replace(asked, headers=kept))

        with Plain(s3.relay.url) as plain:
            place = replace(place, endpoint=plain.url)
            assert download(place, tmp_path, policy=POLICY).read_bytes() == b"secret"


def test_an_object_that_is_overwritten_meanwhile_is_fetched_anew(s3: S3, tmp_path: Path) -> None:
    s3.put_file("moving.onnx", b"old" * 1000)

    class Overwriting(Relay):
        def answer(self, asked: Asked) -> Reply:
            if len(self.asked) == 2:
                s3.put_file("moving.onnx", b"new" * 1000)
            return self.handed_on(asked)

    with Overwriting(s3.relay.url) as relay:
        place = replace(s3.place("s3://models/single/moving.onnx"), endpoint=relay.url)
        assert download(place, tmp_path, policy=POLICY).read_bytes() == b"new" * 1000


def test_a_bucket_becomes_a_model(s3: S3, tmp_path: Path) -> None:
    place = s3.place("s3://models/digits")
    lines: list[str] = []
    fetched = fetch(
        Request(
            uri=place.uri,
            model="digits",
            repository=tmp_path,
            endpoint=place.endpoint,
            credentials=place.credentials,
            say=lines.append,
        )
    )
    assert fetched.files == 1
    assert (tmp_path / "digits/1/model.py").read_text() == "code"
    assert [p.name for p in tmp_path.iterdir()] == ["digits"]
    assert PASSWORD not in "".join(lines)
