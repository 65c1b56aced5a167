"""Reading the URI of a source, and what an installation allows."""

import pytest

from conch.api.conditions import Reason
from conch.api.model import Source
from conch.provisioning.source import (
    Location,
    Scheme,
    allowed,
    endpoint_key,
    location,
    source_problem,
)
from conch.provisioning.termination import fetch_failure
from conch.provisioning.uris import HubFiles, Image, Objects, read_hub, read_image, read_objects


def _source(uri: str) -> Source:
    return Source(uri=uri)


@pytest.mark.parametrize(
    ("uri", "wanted"),
    [
        ("pvc://models/digits/fp32", (Scheme.PVC, "models", "digits/fp32")),
        ("pvc://models", (Scheme.PVC, "models", "")),
        ("pvc://models/a%20b", (Scheme.PVC, "models", "a b")),
        ("file:///srv/models//digits/", (Scheme.FILE, "", "/srv/models/digits")),
        ("https://example.com/a.tgz?token=1", (Scheme.HTTPS, "", "")),
    ],
)
def test_uris_are_read(uri: str, wanted: tuple[Scheme, str, str]) -> None:
    scheme, name, path = wanted
    assert location(_source(uri)) == Location(scheme, uri, name=name, path=path)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("azure://bucket/key", "there are no azure:// sources; use pvc://"),
        ("s3:///key", "name a bucket: s3://BUCKET/PATH"),
        ("s3://bucket/../key", "'..' is not allowed"),
        ("gs://b:80/key", "name a bucket: gs://BUCKET/PATH"),
        ("hf://gpt2", "name a repository: hf://ORGANISATION/NAME[@REVISION][/PATH]"),
        ("hf://org/name@", "name a repository"),
        ("hf://org/name/a/../../b", "'..' is not allowed"),
        ("oci://ghcr.io", "name an artifact"),
        ("oci://user:password@ghcr.io/org/model:1", "name an artifact"),
        ("oci://ghcr.io/Org/model:1", "name an artifact"),
        ("oci://ghcr.io/org/model@sha256:12", "name an artifact"),
        ("oci://ghcr.io/org/model:1?x", "name an artifact"),
        ("pvc:///path", "name a claim"),
        ("pvc://models/../other", "'..' is not allowed"),
        ("file:///srv/../etc", "'..' is not allowed"),
        ("file:///srv/%2e%2e/etc", "'..' is not allowed"),
        ("file://srv/models", "three slashes"),
        ("file:///", "three slashes"),
        ("https://example.com/", "name a host and a file"),
        ("https://[::1/a", "is no URI"),
        ("https://example.com:port/a", "is no URI"),
        ("https:///a", "name a host and a file"),
    ],
)
def test_uris_that_say_too_little_or_too_much_are_refused(uri: str, said: str) -> None:
    assert said in (source_problem(_source(uri), ["/"]) or "")


@pytest.mark.parametrize(
    ("uri", "prefixes", "wanted"),
    [
        ("file:///srv/models/digits", ["/srv/models"], True),
        ("file:///srv/models", ["/srv/models/"], True),
        ("file:///srv/models-private", ["/srv/models"], False),
        ("file:///srv/models/../secret", ["/srv/models"], False),
        ("file:///srv/models/%2e%2e/secret", ["/srv/models"], False),
        ("file:///etc", [], False),
        ("file:///etc", ["/"], True),
        ("pvc://models/digits", [], True),
        ("https://example.com/a", [], True),
    ],
)
def test_only_directories_below_the_prefixes_are_allowed(
    uri: str, prefixes: list[str], wanted: bool
) -> None:
    assert allowed(uri, prefixes) is wanted


def test_problems_are_told_and_good_sources_have_none() -> None:
    assert source_problem(_source("file:///srv/models/a"), ["/srv"]) is None
    assert source_problem(Source.model_validate({"configMap": {"name": "a"}}), []) is None
    assert "below: /srv" in (source_problem(_source("file:///etc/a"), ["/srv"]) or "")
    with_secret = {"uri": "pvc://models/a", "secretRef": {"name": "login"}}
    assert "secretRef" in (source_problem(Source.model_validate(with_secret), []) or "")


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        ("ChecksumMismatch: a is b", (Reason.CHECKSUM_MISMATCH, "a is b")),
        (
            "some log\nSourceUnavailable: no such: file\n",
            (Reason.SOURCE_UNAVAILABLE, "no such: file"),
        ),
        ("Traceback\nMemoryError", (Reason.SOURCE_UNAVAILABLE, "MemoryError")),
        ("", (Reason.SOURCE_UNAVAILABLE, "the model's files were not fetched")),
        (None, (Reason.SOURCE_UNAVAILABLE, "the model's files were not fetched")),
    ],
)
def test_the_reason_is_read_back(message: str | None, wanted: tuple[Reason, str]) -> None:
    assert fetch_failure(message) == wanted


@pytest.mark.parametrize(
    ("uri", "wanted"),
    [
        ("s3://models", Objects("models", "", folder=True)),
        ("s3://models/digits", Objects("models", "digits", folder=False)),
        ("gs://models/digits/", Objects("models", "digits", folder=True)),
        ("s3://models/a%20b/what?#1", Objects("models", "a b/what?#1", folder=False)),
    ],
)
def test_objects_are_read(uri: str, wanted: Objects) -> None:
    assert read_objects(uri) == wanted


@pytest.mark.parametrize(
    ("uri", "wanted"),
    [
        ("hf://org/name", HubFiles("org/name", None, "")),
        ("hf://org/name@v1/onnx/", HubFiles("org/name", "v1", "onnx")),
        ("hf://org/name@refs%2Fpr%2F1", HubFiles("org/name", "refs/pr/1", "")),
        ("hf://Org/Na.me/model@2.onnx", HubFiles("Org/Na.me", None, "model@2.onnx")),
    ],
)
def test_hub_repositories_are_read(uri: str, wanted: HubFiles) -> None:
    assert read_hub(uri) == wanted


@pytest.mark.parametrize(
    ("uri", "wanted"),
    [
        ("oci://ghcr.io/org/model", Image("ghcr.io", "org/model", "latest")),
        ("oci://127.0.0.1:5000/m:v1", Image("127.0.0.1:5000", "m", "v1")),
        ("oci://docker.io/busybox:1", Image("docker.io", "library/busybox", "1")),
        (f"oci://r/a/b/c@sha256:{'0' * 64}", Image("r", "a/b/c", f"sha256:{'0' * 64}")),
        (f"oci://r/m:v1@sha256:{'0' * 64}", Image("r", "m", f"sha256:{'0' * 64}")),
    ],
)
def test_artifacts_are_read(uri: str, wanted: Image) -> None:
    assert read_image(uri) == wanted


@pytest.mark.parametrize(
    ("uri", "wanted"),
    [
        ("s3://a/b", "s3"),
        ("gs://a/b", "gs"),
        ("hf://a/b", "hf"),
        ("oci://ghcr.io/a/b:1", "oci/ghcr.io"),
        ("https://example.com/a", None),
        ("pvc://models/a", None),
    ],
)
def test_endpoints_are_set_by_scheme_and_for_each_registry(uri: str, wanted: str | None) -> None:
    assert endpoint_key(location(_source(uri))) == wanted


def test_a_token_of_the_account_is_for_clouds_that_take_it() -> None:
    def problem(uri: str) -> str | None:
        return source_problem(Source(uri=uri, token_audience="sts.amazonaws.com"), [])

    assert problem("s3://a/b") is None
    assert problem("gs://a/b") is None
    assert "tokenAudience is for s3:// and gs://" in (problem("hf://a/b") or "")
