import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from e2e.images.oci import Layer, Settings, content_key, load, pack, write_archive

NAME = "registry.example/team/app:1.2-py3"
SETTINGS = Settings(entrypoint=("/app",), environment={"A": "1"}, user="65532:65532")


def make_tree(folder: Path, text: str = "hello") -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "app").write_text(text)
    (folder / "bin" / "app").chmod(0o755)
    (folder / "dev").mkdir()
    (folder / "dev" / "null").write_text("")
    (folder / "link").symlink_to("bin/app")
    return folder


def make_layer(folder: Path, text: str = "hello") -> Layer:
    blob = folder / "blob"
    blob.mkdir(parents=True)
    return pack(make_tree(folder / "tree", text), blob)


def members(layer: Layer) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(layer.blob) as tar:
        return {member.name: member for member in tar.getmembers()}


def read_archive(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        found = {}
        for member in tar.getmembers():
            file = tar.extractfile(member)
            assert file is not None
            found[member.name] = file.read()
        return found


def blob(files: dict[str, bytes], digest: str) -> bytes:
    return files[f"blobs/{digest.replace(':', '/')}"]


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class TestPack:
    def test_digests_are_of_the_blob_and_of_the_tar_within(self, tmp_path: Path) -> None:
        layer = make_layer(tmp_path)
        content = layer.blob.read_bytes()
        assert layer.digest == sha256(content)
        assert layer.diff_id == sha256(gzip.decompress(content))
        assert layer.size == len(content)

    def test_files_links_and_modes_are_kept(self, tmp_path: Path) -> None:
        found = members(make_layer(tmp_path))
        assert list(found) == ["bin", "bin/app", "dev", "dev/null", "link"]
        assert found["bin"].isdir()
        assert found["bin/app"].mode == 0o755
        assert found["link"].linkname == "bin/app"

    def test_what_keep_refuses_is_left_out_with_its_contents(self, tmp_path: Path) -> None:
        tree = make_tree(tmp_path / "tree")
        layer = pack(tree, tmp_path, keep=lambda path: path != "bin")
        assert list(members(layer)) == ["dev", "dev/null", "link"]

    def test_equal_trees_give_equal_layers(self, tmp_path: Path) -> None:
        first = make_layer(tmp_path / "one")
        os.utime(tmp_path / "one" / "tree" / "bin" / "app", (1, 1))
        again = tmp_path / "again"
        again.mkdir()
        second = pack(tmp_path / "one" / "tree", again)
        assert first.digest == second.digest
        assert make_layer(tmp_path / "other", text="bye").digest != first.digest

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")
    def test_owners_are_root_unless_they_are_kept(self, tmp_path: Path) -> None:
        tree = make_tree(tmp_path / "tree")
        os.chown(tree / "bin" / "app", 12, 34)
        ours, kept = tmp_path / "ours", tmp_path / "kept"
        ours.mkdir()
        kept.mkdir()
        assert members(pack(tree, ours))["bin/app"].uid == 0
        member = members(pack(tree, kept, owners=True))["bin/app"]
        assert (member.uid, member.gid) == (12, 34)

    def test_a_hard_link_stays_one(self, tmp_path: Path) -> None:
        tree = make_tree(tmp_path / "tree")
        os.link(tree / "bin" / "app", tree / "bin" / "same")
        assert members(pack(tree, tmp_path))["bin/same"].linkname == "bin/app"

    def test_a_packed_layer_can_be_loaded_again(self, tmp_path: Path) -> None:
        layer = make_layer(tmp_path)
        assert load(tmp_path / "blob") == layer


class TestArchive:
    @pytest.fixture
    def layers(self, tmp_path: Path) -> tuple[Layer, ...]:
        return (make_layer(tmp_path / "one", "1"), make_layer(tmp_path / "two", "2"))

    @pytest.fixture
    def files(self, tmp_path: Path, layers: tuple[Layer, ...]) -> dict[str, bytes]:
        archive = tmp_path / "image.tar"
        write_archive(archive, name=NAME, layers=layers, settings=SETTINGS)
        return read_archive(archive)

    def manifest(self, files: dict[str, bytes]) -> dict[str, Any]:
        [entry] = json.loads(files["index.json"])["manifests"]
        content = blob(files, entry["digest"])
        assert len(content) == entry["size"]
        manifest: dict[str, Any] = json.loads(content)
        return manifest

    def test_it_says_which_layout_it_has(self, files: dict[str, bytes]) -> None:
        assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}

    def test_each_blob_has_the_name_of_its_digest(self, files: dict[str, bytes]) -> None:
        blobs = {name: content for name, content in files.items() if name.startswith("blobs/")}
        assert len(blobs) == 4  # manifest, config, two layers
        for name, content in blobs.items():
            assert sha256(content) == name.removeprefix("blobs/").replace("/", ":")

    def test_the_index_names_the_image_for_containerd(self, files: dict[str, bytes]) -> None:
        [entry] = json.loads(files["index.json"])["manifests"]
        assert entry["annotations"] == {
            "io.containerd.image.name": NAME,
            "org.opencontainers.image.ref.name": "1.2-py3",
        }

    def test_the_manifest_lists_layers_in_order(
        self, files: dict[str, bytes], layers: tuple[Layer, ...]
    ) -> None:
        listed = self.manifest(files)["layers"]
        assert [entry["digest"] for entry in listed] == [layer.digest for layer in layers]
        for entry in listed:
            with tarfile.open(fileobj=io.BytesIO(blob(files, entry["digest"]))) as tar:
                assert "bin/app" in tar.getnames()

    def test_the_config_matches_the_layers_and_settings(
        self, files: dict[str, bytes], layers: tuple[Layer, ...]
    ) -> None:
        config = json.loads(blob(files, self.manifest(files)["config"]["digest"]))
        assert config["os"] == "linux"
        assert config["rootfs"]["diff_ids"] == [layer.diff_id for layer in layers]
        assert config["config"] == {
            "Entrypoint": ["/app"],
            "Env": ["A=1"],
            "User": "65532:65532",
            "WorkingDir": "/",
        }

    def test_the_same_input_gives_the_same_bytes(
        self, tmp_path: Path, layers: tuple[Layer, ...]
    ) -> None:
        archives = [tmp_path / "first.tar", tmp_path / "second.tar"]
        for archive in archives:
            write_archive(archive, name=NAME, layers=layers, settings=SETTINGS)
        assert archives[0].read_bytes() == archives[1].read_bytes()

    def test_a_layer_used_twice_is_stored_once(
        self, tmp_path: Path, layers: tuple[Layer, ...]
    ) -> None:
        archive = tmp_path / "twice.tar"
        write_archive(archive, name=NAME, layers=(layers[0], layers[0]), settings=SETTINGS)
        with tarfile.open(archive) as tar:
            assert len(tar.getnames()) == len(set(tar.getnames()))

    def test_the_content_key_follows_layers_and_settings(self, layers: tuple[Layer, ...]) -> None:
        key = content_key(layers, SETTINGS)
        assert len(key) == 12
        assert key == content_key(layers, SETTINGS)
        assert key != content_key(layers[:1], SETTINGS)
        assert key != content_key(layers, Settings(entrypoint=("/other",)))
