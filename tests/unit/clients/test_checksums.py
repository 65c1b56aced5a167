"""The checksums that protocols give, against known values."""

from pathlib import Path

import pytest

from conch.clients.checksums import checksum_of

# Of the nine bytes that catalogues of checksums use.
TEXT = b"123456789"


@pytest.mark.parametrize(
    ("algorithm", "wanted"),
    [
        ("md5", "25f9e794323b453885f5181f1b624d0b"),
        ("crc32c", "e3069283"),
        ("sha256", "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
        # As `git hash-object` prints it.
        ("git", "e2e107ac61ac259b87c544f6e7a4eb03422c6c21"),
    ],
)
def test_checksums_are_as_others_compute_them(tmp_path: Path, algorithm: str, wanted: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(TEXT)
    assert checksum_of(path, algorithm) == wanted
