"""The sample models are what the examples say of them."""

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml

from conch.clients.checksums import digest_of
from examples.models import digits, graph, sample, train, tumor

ROOT = Path(__file__).resolve().parents[3]
# Training rounds differently on other processors: so many held-out items may come out otherwise.
MAY_DIFFER = 1
each_model = pytest.mark.parametrize("name", train.NAMES)


@pytest.fixture(scope="module")
def trained() -> dict[str, Any]:
    return train.ensure_models()


def variant(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The spec of a sample's Model, and its one variant."""
    documents = yaml.safe_load_all((ROOT / "examples" / f"{name}.yaml").read_text())
    (spec,) = (d["spec"] for d in documents if d["kind"] == "Model")
    (only,) = spec["variants"]
    return spec, only


def loaded(name: str) -> onnx.ModelProto:
    return onnx.load(train.OUTPUT / name / "model.onnx")


@each_model
def test_manifest_states_the_measured_accuracy(trained: dict[str, Any], name: str) -> None:
    facts = trained["models"][name]
    stated, measured = variant(name)[1]["accuracy"], facts["accuracy"]
    assert (stated["metric"], stated["dataset"]) == (measured["metric"], measured["dataset"])
    apart = abs(stated["value"] - measured["value"]) * facts["held_out"]
    assert apart < MAY_DIFFER + 0.5, f"write {measured['value']} into examples/{name}.yaml"


@each_model
def test_readme_and_catalogue_state_the_same_accuracy(name: str) -> None:
    value = variant(name)[1]["accuracy"]["value"]
    assert str(value) in (ROOT / "examples" / "README.md").read_text()
    for document in yaml.safe_load_all((ROOT / "examples" / "catalogue.yaml").read_text()):
        if document["kind"] == "ClusterModel" and document["metadata"]["name"] == name:
            assert document["spec"]["variants"][0]["accuracy"]["value"] == value


@each_model
def test_manifest_describes_the_tensors_of_the_model(trained: dict[str, Any], name: str) -> None:
    spec, _ = variant(name)
    for stated, ports in (
        (spec["inputs"], loaded(name).graph.input),
        (spec["outputs"], loaded(name).graph.output),
    ):
        found = [(p.name, [d.dim_value for d in p.type.tensor_type.shape.dim][1:]) for p in ports]
        assert [(t["name"], t["shape"]) for t in stated] == found
        assert {t["datatype"] for t in stated} == {"FP32"}


@each_model
def test_models_run_in_older_runtimes(trained: dict[str, Any], name: str) -> None:
    model = loaded(name)
    assert model.ir_version <= 8
    assert {o.domain: o.version for o in model.opset_import} == graph.OPSETS


@each_model
def test_a_batch_is_answered_as_its_items_are(trained: dict[str, Any], name: str) -> None:
    width = loaded(name).graph.input[0].type.tensor_type.shape.dim[1].dim_value
    items = np.random.default_rng(1).uniform(0, 16, (3, width)).astype(np.float32)
    together = sample.run(loaded(name), items)
    single = np.concatenate([sample.run(loaded(name), items[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(together, single, atol=1e-5)
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-5)


@each_model
def test_digests_and_archive_are_of_the_files(
    trained: dict[str, Any], name: str, tmp_path: Path
) -> None:
    facts = trained["models"][name]
    archive = train.OUTPUT / f"{name}.tar.gz"
    assert digest_of(train.OUTPUT / name) == facts["sha256"]
    assert digest_of(archive) == facts["archive_sha256"]
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    assert digest_of(tmp_path) == facts["sha256"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "model.py"]


def test_training_again_gives_the_same_bytes(trained: dict[str, Any]) -> None:
    again = tumor.train().model.SerializeToString()
    assert again == (train.OUTPUT / "tumor" / "model.onnx").read_bytes()


def test_a_view_that_moves_nothing_is_the_image_itself() -> None:
    np.testing.assert_allclose(digits.view(0, 0, 0), np.eye(digits.PIXELS))


def test_a_shifted_view_has_each_pixel_one_column_on() -> None:
    image = np.arange(1.0, digits.PIXELS + 1)
    shifted = (image @ digits.view(1, 0, 0)).reshape(8, 8)
    np.testing.assert_allclose(shifted[:, 1:], image.reshape(8, 8)[:, :-1])
    np.testing.assert_allclose(shifted[:, 0], 0)


def test_a_turned_view_keeps_what_is_in_the_middle() -> None:
    image = np.zeros((8, 8))
    image[3:5, 3:5] = 1
    turned = image.reshape(-1) @ digits.view(0, 0, 10)
    assert turned.sum() == pytest.approx(4, rel=0.01)
    assert turned.reshape(8, 8)[3:5, 3:5].min() > 0.7


def test_errors_lie_where_their_values_do() -> None:
    measurements = np.arange(30.0)
    moved = measurements @ tumor.errors_in_place()
    np.testing.assert_array_equal(moved[:10], measurements[10:20])
    np.testing.assert_array_equal(moved[10:20], 0)
    np.testing.assert_array_equal(moved[20:], measurements[10:20])


def test_tumor_is_sure_of_samples_without_measurement_error(trained: dict[str, Any]) -> None:
    runner = sample.session(loaded("tumor"))
    exact = tumor.train().held_out[:1].copy()
    exact[:, 10:20] = 0
    unsure = exact.copy()
    unsure[:, 10:20] = 5
    (sure,) = runner.run(["uncertainty"], {"measurements": exact})
    (spread,) = runner.run(["uncertainty"], {"measurements": unsure})
    assert sure.item() == pytest.approx(0, abs=1e-3)
    assert spread.item() > 0.01


class Counted:
    """Stands in for training, which takes long; counts how often it is asked for."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, output: Path, name: str) -> dict[str, Any]:
        self.names.append(name)
        train._write(output, name, name.encode())
        archive = digest_of(output / f"{name}.tar.gz")
        return {"sha256": digest_of(output / name), "archive_sha256": archive}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    stand_in = Counted()
    monkeypatch.setattr(train, "_trained", stand_in)
    return stand_in


def test_what_is_up_to_date_is_not_trained_again(tmp_path: Path, counted: Counted) -> None:
    first = train.ensure_models(tmp_path)
    assert train.ensure_models(tmp_path) == first
    assert counted.names == list(train.NAMES)
    assert json.loads((tmp_path / "manifest.json").read_text()) == first


def test_changed_code_or_libraries_train_again(
    tmp_path: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    train.ensure_models(tmp_path)
    monkeypatch.setattr(train, "inputs_digest", lambda: "of other inputs")
    train.ensure_models(tmp_path)
    assert counted.names == list(train.NAMES) * 2


@pytest.mark.parametrize("damaged", ["digits/model.onnx", "tumor.tar.gz"])
def test_damaged_files_train_again(tmp_path: Path, counted: Counted, damaged: str) -> None:
    whole = train.ensure_models(tmp_path)
    (tmp_path / damaged).write_bytes(b"half")
    assert train.ensure_models(tmp_path) == whole
    assert counted.names == list(train.NAMES) * 2


def test_missing_files_train_again(tmp_path: Path, counted: Counted) -> None:
    train.ensure_models(tmp_path)
    (tmp_path / "digits.tar.gz").unlink()
    train.ensure_models(tmp_path)
    assert counted.names == list(train.NAMES) * 2
