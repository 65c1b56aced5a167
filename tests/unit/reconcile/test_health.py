"""What pods that do not start say about the reason."""

from typing import Any

import pytest

from conch.api.conditions import Reason
from conch.reconcile.health import error_line, failure_of
from conch.reconcile.views import pod_view
from tests.unit.reconcile import bodies

TRITON_LOG = """\
I1124 06:00:01.000001 1 server.cc:674] loading
E1124 06:00:02.123456 1 model_lifecycle.cc:641] "failed to load 'digits' version 1: Internal: ModuleNotFoundError: No module named 'scipy'"
I1124 06:00:03.000001 1 server.cc:345] waiting
error: creating server: Internal - failed to load all models
"""


def failing(name: str = "p1", *, created: str = bodies.EPOCH, **status: Any) -> Any:
    conditions = [{"type": "Ready", "status": "False"}]
    body = bodies.pod(name, status={"conditions": conditions, **status})
    body["metadata"]["creationTimestamp"] = created
    return pod_view(body, {"n1"})


def container(name: str = "triton", **state: Any) -> dict[str, Any]:
    return {"name": name, "image": "triton:1", **state}


def triton(**state: Any) -> dict[str, Any]:
    return {"containerStatuses": [container(**state)]}


def ended(code: int = 1, **fields: Any) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, **fields}}


@pytest.mark.parametrize(
    ("status", "reason", "part"),
    [
        (
            triton(state={"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}),
            Reason.IMAGE_UNAVAILABLE,
            "image triton:1: not found",
        ),
        (
            triton(state={"waiting": {"reason": "ErrImageNeverPull"}}),
            Reason.IMAGE_UNAVAILABLE,
            "ErrImageNeverPull",
        ),
        (
            triton(lastState=ended(137, reason="OOMKilled"), state={"waiting": {}}),
            Reason.OUT_OF_MEMORY,
            "raise resources.memory",
        ),
        (
            triton(lastState=ended(message=TRITON_LOG)),
            Reason.LOAD_FAILED,
            "No module named 'scipy'",
        ),
        (triton(state=ended(2)), Reason.LOAD_FAILED, "Triton ended with 2"),
        (
            triton(state={"waiting": {"reason": "CreateContainerConfigError", "message": "no x"}}),
            Reason.LOAD_FAILED,
            "no x",
        ),
        (
            {
                "initContainerStatuses": [
                    container("fetch", lastState=ended(message="ChecksumMismatch: not 9f2c"))
                ]
            },
            Reason.CHECKSUM_MISMATCH,
            "not 9f2c",
        ),
        (
            {"initContainerStatuses": [container("fetch", state=ended(message=""))]},
            Reason.SOURCE_UNAVAILABLE,
            "not fetched",
        ),
        (
            {
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": 'persistentvolumeclaim "models" not found',
                    }
                ]
            },
            Reason.SOURCE_UNAVAILABLE,
            "models",
        ),
    ],
)
def test_the_cause_is_named(status: dict[str, Any], reason: Reason, part: str) -> None:
    failure = failure_of([failing(**status)])
    assert failure is not None
    assert failure.reason is reason
    assert failure.message.startswith("pod p1: ")
    assert part in failure.message


@pytest.mark.parametrize(
    "status",
    [
        triton(state={"running": {}}),
        triton(state={"waiting": {"reason": "ContainerCreating"}}),
        triton(state=ended(0)),
        {},
    ],
)
def test_a_pod_that_just_starts_is_no_failure(status: dict[str, Any]) -> None:
    assert failure_of([failing(**status)]) is None


def test_a_pod_that_answers_is_no_failure_whatever_it_did_before() -> None:
    body = bodies.pod()
    body["status"] |= triton(lastState=ended(137, reason="OOMKilled"))
    assert failure_of([pod_view(body, {"n1"})]) is None


def test_the_newest_speaks() -> None:
    pods = [
        failing("old", state=None, **triton(state=ended(1, message="error: old"))),
        failing(
            "new", created="2026-01-02T00:00:00Z", **triton(state=ended(1, message="error: n"))
        ),
    ]
    failure = failure_of(pods)
    assert failure is not None
    assert failure.message == "pod new: error: n"


class TestErrorLine:
    def test_the_line_that_names_the_model_comes_before_what_follows_from_it(self) -> None:
        assert error_line(TRITON_LOG) == (
            "failed to load 'digits' version 1: Internal: ModuleNotFoundError: "
            "No module named 'scipy'"
        )

    def test_without_any_mark_the_last_line(self) -> None:
        assert error_line("one\ntwo\n\n") == "two"

    def test_of_nothing_nothing(self) -> None:
        assert error_line(" \n") == ""
