"""Reading the URI of a source, and what an installation allows."""

import pytest

from conch.api.conditions import Reason
from conch.api.model import Source
from conch.provisioning.source import Location, Scheme, allowed, location, source_problem
from conch.provisioning.termination import fetch_failure


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
        ("s3://bucket/key", "s3:// sources are not supported yet; use pvc://"),
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
