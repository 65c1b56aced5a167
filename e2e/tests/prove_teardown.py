"""Proves that `down` leaves a host as `up` found it, also after SIGKILLs: run it by hand, as root.

    python -m e2e.tests.prove_teardown

Needs a machine without a running local cluster; takes some minutes. The exit status is 0 if
nothing was left behind and nothing that was there is missing.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from e2e.tests.host_state import HostState

_TOOL = (sys.executable, "-m", "e2e.cluster")
_MOMENTS_S = (0.7, 1.5, 3, 6, 9, 14)
_BYSTANDER = ["iptables", "-w", "-t", "nat"]


def main() -> int:
    """Runs all cases; prints what each left behind."""
    if HostState.now().cgroups:
        print("a local cluster is there; take it down first")
        return 2
    folder = Path(tempfile.mkdtemp(prefix="conch-"))
    os.environ["CONCH_CLUSTER_DIR"] = str(folder / "cluster")
    _tool("down")
    _bystander("-N", "-A")
    try:
        before = HostState.now()
        clean = [_case(name, act, before) for name, act in _cases()]
    finally:
        _bystander("-D", "-X")
        shutil.rmtree(folder)
    return 0 if all(clean) else 1


def _cases() -> list[tuple[str, Callable[[], None]]]:
    killed = [
        (f"the tool killed {moment} s after its start", _killer(moment)) for moment in _MOMENTS_S
    ]
    return [
        *killed,
        ("up, pods with volumes", _up_with_pods),
        ("up, every process of the cluster killed", _up_and_kill_parts),
        ("up, `down` killed in its middle", _up_and_kill_down),
    ]


def _case(name: str, act: Callable[[], None], before: HostState) -> bool:
    act()
    _tool("down")
    # Dead processes and their namespaces take the kernel a moment.
    deadline = time.monotonic() + 5
    while (added := HostState.now().added_since(before)) and time.monotonic() < deadline:
        time.sleep(0.2)
    lost = HostState.now().lost_since(before)
    files = Path(os.environ["CONCH_CLUSTER_DIR"]).exists()
    clean = not (added or lost or files)
    print(f"{'clean' if clean else 'NOT CLEAN'}: {name}", flush=True)
    if not clean:
        print(json.dumps({"added": added, "lost": lost, "files": files}, indent=2), flush=True)
    return clean


def _killer(moment: float) -> Callable[[], None]:
    def act() -> None:
        with subprocess.Popen([*_TOOL, "up"], stderr=subprocess.DEVNULL) as tool:
            time.sleep(moment)
            tool.send_signal(signal.SIGKILL)

    return act


def _up_with_pods() -> None:
    _tool("up")
    _run_pods()


def _up_and_kill_parts() -> None:
    _tool("up")
    _run_pods()
    for part in _status()["parts"]:
        os.kill(part["pid"], signal.SIGKILL)


def _up_and_kill_down() -> None:
    _tool("up")
    with subprocess.Popen([*_TOOL, "down"], stderr=subprocess.DEVNULL) as tool:
        time.sleep(0.6)
        tool.send_signal(signal.SIGKILL)


def _run_pods() -> None:
    """A pod on each node, with a service account's token and an emptyDir in memory."""
    folder = Path(os.environ["CONCH_CLUSTER_DIR"])
    image = "registry.k8s.io/pause:3.10"
    for node in _status()["nodes"]:
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": node["name"], "namespace": "default"},
            "spec": {
                "nodeName": node["name"],
                "tolerations": [{"operator": "Exists"}],
                "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory"}}],
                "containers": [
                    {
                        "name": "main",
                        "image": image,
                        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],
                    }
                ],
            },
        }
        _kubectl(folder, "apply", "-f", "-", given=json.dumps(pod))
    _kubectl(folder, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s")


def _kubectl(folder: Path, *arguments: str, given: str = "") -> None:
    from e2e.cluster.artifacts import ensure_binaries  # noqa: PLC0415 -- only here
    from e2e.cluster.progress import terminal_reporter  # noqa: PLC0415

    programs = ensure_binaries((), report=terminal_reporter())
    command = [str(programs / "kubectl"), f"--kubeconfig={folder / 'kubeconfig'}", *arguments]
    subprocess.run(command, input=given, text=True, check=True, stdout=subprocess.DEVNULL)


def _status() -> dict[str, Any]:
    done = subprocess.run([*_TOOL, "status", "--json"], capture_output=True, text=True, check=False)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _tool(command: str) -> None:
    done = subprocess.run([*_TOOL, command], capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"`{command}` exited with {done.returncode}:\n{done.stderr}", flush=True)


def _bystander(*actions: str) -> None:
    """Someone else's chain and rule, which must outlive the cluster."""
    for action in actions:
        rule = ["-j", "RETURN"] if action in {"-A", "-D"} else []
        subprocess.run([*_BYSTANDER, action, "BYSTANDER", *rule], check=True)


if __name__ == "__main__":
    sys.exit(main())
