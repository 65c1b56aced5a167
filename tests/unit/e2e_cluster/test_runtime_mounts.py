from pathlib import Path

import pytest

from e2e.cluster import mounts
from e2e.cluster.settings import ClusterError

MOUNTINFO = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 22 0:30 / /var/lib/a\\040b rw shared:1 - tmpfs tmpfs rw
41 22 254:0 /models /var/lib/a\\040b/pods/1/volumes/models rw,relatime - ext4 /dev/vda rw
"""


def test_mount_points_are_read_with_their_blanks() -> None:
    assert mounts.parse_mountinfo(MOUNTINFO) == [
        Path("/"),
        Path("/var/lib/a b"),
        Path("/var/lib/a b/pods/1/volumes/models"),
    ]


def test_the_last_mounted_comes_first() -> None:
    found = mounts.mounts_under(Path("/proc"))
    assert found[-1] == Path("/proc")


def test_a_folder_with_a_mount_in_it_is_not_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "pods" / "models"
    models.mkdir(parents=True)
    (models / "weights").write_text("precious")
    monkeypatch.setattr(mounts, "mounts_under", lambda _: [models])

    with pytest.raises(ClusterError, match="still mounted"):
        mounts.remove_tree(tmp_path)

    assert (models / "weights").read_text() == "precious"


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.mkdir()
    link.symlink_to(target)
    with pytest.raises(ClusterError, match="symbolic link"):
        mounts.remove_tree(link)
    assert target.is_dir()


def test_links_within_a_deleted_folder_do_not_take_their_targets_along(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.mkdir()
    folder.mkdir()
    (outside / "file").write_text("stays")
    (folder / "link").symlink_to(outside)

    mounts.remove_tree(folder)

    assert not folder.exists()
    assert (outside / "file").read_text() == "stays"


def test_what_is_not_there_needs_no_deleting(tmp_path: Path) -> None:
    mounts.remove_tree(tmp_path / "nothing")
    mounts.unmount_tree(tmp_path / "nothing")
