"""From ``kubectl apply`` to the first answered request, and where the seconds go."""

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any

import requests

from e2e.kubectl import wait_for
from e2e.load import request_body
from e2e.models import Sample
from e2e.samples import questions
from e2e.scratch import Scratch, sample_objects

LONGEST_S = 120.0
EVERY_S = 0.05
CONNECT_S = 0.5
"""kube-proxy commits its tables one by one: what is sent in between is lost, and a client that
does not give up waits three seconds for nothing."""
NAME = "first"


@dataclass(frozen=True)
class FirstAnswer:
    """Seconds since ``kubectl apply`` began: of the answer, and of each stage on the way."""

    sample: str
    pool: str
    seconds: float
    stages: dict[str, float]


def measure(place: Scratch, sample: Sample, pool: str) -> FirstAnswer:
    """Apply a sample's service pinned to a pool, wait for an answer, and remove it again."""
    objects = sample_objects(place.stage, sample, name=NAME, spec={"placement": {"pools": [pool]}})
    body = request_body(sample.input, "FP32", [questions(sample, 1)[0].value[0].tolist()])
    with watching(place) as stages:
        started = monotonic()
        place.apply(*objects)
        stages["applied"] = monotonic()
        _answered(place, sample, body, started)
        seconds = monotonic() - started
        times = {stage: at - started for stage, at in dict(stages).items()}
    _remove(place)
    ordered = dict(sorted(times.items(), key=lambda item: item[1]))
    return FirstAnswer(sample.name, pool, seconds, ordered)


def _answered(place: Scratch, sample: Sample, body: dict[str, Any], started: float) -> None:
    """Return once a request is answered. Raises TimeoutError."""
    url = None
    while monotonic() - started < LONGEST_S:
        if url is None:
            found = place.get("service", NAME)
            address = found["spec"]["clusterIP"] if found else None
            url = f"http://{address}:8000/v2/models/{sample.name}/infer" if found else None
        elif _answers(url, body):
            return
        sleep(EVERY_S)
    raise TimeoutError(f"{sample.name}: no answer within {LONGEST_S:.0f} s")


def _answers(url: str, body: dict[str, Any]) -> bool:
    try:
        return requests.post(url, json=body, timeout=(CONNECT_S, 10)).status_code == 200
    except requests.ConnectionError:
        return False


def _remove(place: Scratch) -> None:
    place.kubectl("delete", "modelservice", NAME, "--wait=true")
    place.kubectl("delete", "pods", "--all", "--grace-period=1", "--wait=true")
    place.kubectl("delete", "models", "--all", "--wait=true")
    wait_for("no volume left", lambda: not _volumes(place), timeout=LONGEST_S)


def _volumes(place: Scratch) -> list[dict[str, Any]]:
    """Return the volumes of the service: the next one of its name would wait for them to go."""
    mine = ("-l", f"conch.dev/service={NAME}")
    return [
        *place.all("persistentvolumeclaims", *mine),
        *place.stage.tools.list("persistentvolumes", *mine),
    ]


@contextmanager
def watching(place: Scratch) -> Iterator[dict[str, float]]:
    """Note when each stage is first seen, by the monotonic clock, while the body runs."""
    stages: dict[str, float] = {}
    tools = place.stage.tools
    words = (str(tools.bin / "kubectl"), "--kubeconfig", str(tools.kubeconfig))
    watch = subprocess.Popen(
        [*words, "get", "pods", "-n", place.namespace, "-w", "-o", "json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    thread = threading.Thread(target=_note, args=(watch, stages), daemon=True)
    thread.start()
    try:
        yield stages
    finally:
        watch.terminate()
        thread.join(timeout=5)
        watch.wait(timeout=5)


def _note(watch: "subprocess.Popen[str]", stages: dict[str, float]) -> None:
    decoder, text = json.JSONDecoder(), ""
    assert watch.stdout is not None
    for line in watch.stdout:
        text += line
        if line.rstrip() != "}":
            continue
        body, _ = decoder.raw_decode(text)
        text = ""
        for stage in stages_of(body):
            stages.setdefault(stage, monotonic())


def stages_of(pod: dict[str, Any]) -> Iterator[str]:
    """Yield the stages that a pod has reached."""
    spec, status = pod["spec"], pod.get("status", {})
    yield "pod created"
    if not spec.get("schedulingGates"):
        yield "gate lifted"
    if spec.get("nodeName"):
        yield "bound"
    for container in status.get("initContainerStatuses") or ():
        if container["state"].keys() & {"running", "terminated"}:
            yield "fetch started"
        if "terminated" in container["state"]:
            yield "fetch done"
    for container in status.get("containerStatuses") or ():
        if "running" in container["state"]:
            yield "Triton started"
        if container.get("ready"):
            yield "ready"
