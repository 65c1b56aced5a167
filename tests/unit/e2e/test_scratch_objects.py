import numpy as np
import pytest

from conch.api.model import ModelSpec
from conch.api.service import ModelServiceSpec
from e2e.models import DIGITS, TUMOR, Sample
from e2e.samples import questions
from e2e.scratch import adding, model, python_model, service
from examples.models import digits, tumor


def test_what_tests_apply_is_valid() -> None:
    config_map, made = python_model("add", adding(1), resources={"memory": "300Mi"})
    compile(config_map["data"]["model.py"], "model.py", "exec")
    spec = ModelSpec.model_validate(made["spec"])
    assert spec.variants[0].resources.memory == "300Mi"
    ModelSpec.model_validate(model("m", source={"uri": "pvc://models/m"})["spec"])
    wish = service("s", of="add", pools=("t4",), replicas=2)
    parsed = ModelServiceSpec.model_validate(wish["spec"])
    assert (parsed.model.name, parsed.replicas, parsed.placement.pools) == ("add", 2, ["t4"])


@pytest.mark.parametrize("sample", [DIGITS, TUMOR])
def test_questions_were_never_seen_in_training(sample: Sample) -> None:
    seen, *_ = (digits if sample == DIGITS else tumor).split()
    asked = questions(sample, 60)
    assert len(asked) == 60
    assert len({q.truth for q in asked}) > 1
    for question in asked:
        assert question.value.dtype == np.float32
        assert not (seen == question.value).all(axis=1).any()
